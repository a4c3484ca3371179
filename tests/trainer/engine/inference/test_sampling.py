"""Strength, folding and the file: what is drawn is what the file says, and strength 0 is the base to the bit."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from trainer.adapters import file as lora_file
from trainer.adapters.fold import LoraFuser, LoraStrength
from trainer.adapters.weights import normalise
from trainer.bases import catalog
from trainer.bases.families import family, loading
from trainer.config.strategies import samplers
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.engine.inference.sampling import Cancelled, GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import base_hash
from trainer.formats.layers import Layer
from trainer.formats.names import bare

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def studio(tiny_base, tmp_path_factory) -> ImageSampler:
    facts = catalog.find(Home(tmp_path_factory.mktemp("home")), str(tiny_base))
    return ImageSampler.load(facts, CPU, torch.float32)


@pytest.fixture(scope="module")
def lora(tiny_base, picture_folder, tmp_path_factory):
    """A LoRA trained for a few steps on the tiny base."""
    import shutil

    from tests.helpers.training_home import Bench

    root = tmp_path_factory.mktemp("lora")
    shutil.copytree(picture_folder, root / "set")
    bench = Bench(Home(root / "home").create(), tiny_base, root / "set")
    return bench.train(bench.config("run.steps=8", "optimizer.text_encoder_lr=0.01"))


def request(*uses: LoraStrength, strengths=None, **changes) -> GenerateRequest:
    return GenerateRequest(
        **{
            "prompt": "a red blob",
            "steps": 4,
            "guidance": 3.0,
            "width": 64,
            "height": 64,
            "seed": 3,
            "loras": uses,
            "strengths": strengths,
            **changes,
        }
    )


def pixels(studio: ImageSampler, asked: GenerateRequest) -> list[np.ndarray]:
    return [np.asarray(drawn.image, np.int16) for drawn in studio.draw(asked)]


def test_strength_zero_is_the_base_to_the_bit_and_the_lora_can_be_taken_off(studio, lora):
    before = base_hash(studio.parts)
    base = pixels(studio, request())[0]
    zero, one = pixels(studio, request(LoraStrength(lora), strengths=(0.0, 1.0)))
    assert np.array_equal(zero, base) and not np.array_equal(one, base)
    assert np.array_equal(pixels(studio, request())[0], base)
    assert base_hash(studio.parts) == before


def test_the_same_request_gives_the_same_bytes(studio, lora, tmp_path):
    files = [next(iter(studio.draw(request(LoraStrength(lora))))).save(tmp_path / f"{i}.png").read_bytes() for i in range(2)]
    assert files[0] == files[1]


def test_diffusers_own_loader_draws_the_same_picture_from_our_file(studio, lora, tiny_base):
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    ours = pixels(studio, request(LoraStrength(lora)))[0]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(lora))
    theirs = cast(Any, pipe)(
        "a red blob", num_inference_steps=4, guidance_scale=3.0, width=64, height=64, generator=torch.Generator().manual_seed(3)
    ).images[0]
    assert np.abs(ours - np.asarray(theirs, np.int16)).max() <= 1


def test_folded_weights_equal_w_plus_alpha_over_r_up_down(studio, lora):
    weights = normalise(lora)
    (part, module), factors = next(iter((k, f) for k, f in weights.modules.items() if k[0] == "unet"))
    layer = studio.parts.module(part).get_submodule(module)
    pristine = layer.weight
    old = pristine.detach().clone().numpy()
    fuser = LoraFuser(studio.parts)
    fuser.fuse([LoraStrength(lora, 0.5, 0.25)], scale=2.0)
    assert factors.rank is not None
    wanted = old + 2.0 * 0.5 * factors.alpha / factors.rank * (factors.up @ factors.down)
    assert np.allclose(layer.weight.detach().numpy(), wanted, atol=1e-6)
    text = next(k for k in weights.modules if k[0] == "text_encoder")
    encoder = studio.parts.text_encoders["text_encoder"].get_submodule(bare(text[1]))
    f = weights.modules[text]
    fuser.unfuse()
    before = encoder.weight.detach().clone().numpy()
    fuser.fuse([LoraStrength(lora, 0.5, 0.25)], scale=2.0)
    assert f.rank is not None
    assert np.allclose(encoder.weight.detach().numpy() - before, 2.0 * 0.25 * f.alpha / f.rank * (f.up @ f.down), atol=1e-6)
    fuser.unfuse()
    assert layer.weight is pristine


def test_biases_and_norms_of_a_file_are_folded_and_come_off_again(studio, tmp_path):
    unet = studio.parts.unet
    block = "down_blocks.0.attentions.0"
    norm, out = unet.get_submodule(f"{block}.norm"), unet.get_submodule(f"{block}.transformer_blocks.0.attn1.to_out.0")
    pristine = [norm.weight, norm.bias, out.weight, out.bias]
    size = len(norm.weight)
    layers = {
        ("unet", f"{block}.norm"): Layer({"diff": np.full(size, 0.5, "f4"), "diff_b": np.full(size, 2.0, "f4")}, 1.0),
        ("unet", f"{block}.transformer_blocks.0.attn1.to_out.0"): Layer({"diff_b": np.full(size, 4.0, "f4")}, 1.0),
        ("unet", f"{block}.transformer_blocks.0.attn1.to_q"): Layer(
            {"ia3": np.full(size, 0.5, "f4"), "ia3_in": np.zeros((), "f4")}, 1.0
        ),
    }
    path = lora_file.write(tmp_path / "full.safetensors", layers, {}, "fp32")
    old = [tensor.clone() for tensor in pristine]
    fuser = LoraFuser(studio.parts)
    assert fuser.fuse([LoraStrength(path, 0.5)]) == [(path, 3, 3)]
    now = [norm.weight, norm.bias, out.weight, out.bias]
    for was, new, added in zip(old, now, (0.25, 1.0, 0.0, 2.0), strict=True):
        assert torch.allclose(new, was + added)
    fuser.unfuse()
    assert all(a is b for a, b in zip(pristine, [norm.weight, norm.bias, out.weight, out.bias], strict=True))


def test_two_loras_add_up_and_order_does_not_matter(studio, lora, tmp_path):
    import shutil

    second = tmp_path / "second.safetensors"
    shutil.copyfile(lora, second)
    doubled = pixels(studio, request(LoraStrength(lora, 1.0, 1.0)))[0]
    both = pixels(studio, request(LoraStrength(lora, 0.4, 0.4), LoraStrength(second, 0.6, 0.6)))[0]
    assert np.abs(doubled - both).max() <= 1
    assert np.abs(both - pixels(studio, request(LoraStrength(second, 0.6, 0.6), LoraStrength(lora, 0.4, 0.4)))[0]).max() <= 1


def test_the_effect_grows_with_strength(studio, lora):
    base = pixels(studio, request())[0]
    row = pixels(studio, request(LoraStrength(lora), strengths=(0.25, 0.5, 0.75, 1.0)))
    differences = [float(np.abs(p - base).mean()) for p in row]
    assert differences == sorted(differences) and differences[0] < differences[-1]


def test_the_settings_travel_in_the_png(studio, lora, tmp_path):
    (drawn,) = studio.draw(request(LoraStrength(lora, 0.8, 0.5), strengths=(0.5,), negative="ugly"))
    with Image.open(drawn.save(tmp_path / "a.png")) as image:
        assert isinstance(image, PngImageFile)
        text, ours = image.text["parameters"], json.loads(image.text["atelier"])
    assert "a red blob <lora:blob:0.4>" in text and "Negative prompt: ugly" in text and "Seed: 3" in text
    assert ours["loras"] == [{"name": "blob", "unet": 0.4, "text_encoder": 0.25}] and ours["sampler"] == "DDIM"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"prompt": " "}, "prompt_missing"),
        ({"width": 60}, "size_bad"),
        ({"width": 65}, "size_bad"),
        ({"height": 4096}, "size_bad"),
        ({"sampler": "magic"}, "sampler_unknown"),
    ],
)
def test_bad_requests_are_answered(changes, code):
    with pytest.raises(Problem) as problem:
        request(**changes).checked()
    assert problem.value.code == code


def test_more_loras_than_anybody_means_are_refused(lora):
    with pytest.raises(Problem) as told:
        request(*[LoraStrength(lora)] * 51).checked()
    assert told.value.code == "too_many_loras"


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 1e9])
def test_bad_strengths_are_answered(strength, lora):
    with pytest.raises(Problem) as problem:
        request(LoraStrength(lora, strength)).checked()
    assert problem.value.code == "strength_range"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_sampler_draws_the_same_bytes_again_and_says_its_name(prediction, studio, tmp_path):
    if prediction == "v_prediction":  # with zero terminal SNR, as make_tiny makes it
        from tests.helpers.training_home import make_tiny

        facts = catalog.find(Home(tmp_path / "home"), str(make_tiny(tmp_path / "v", prediction)))
        studio = ImageSampler.load(facts, CPU, torch.float32)
    own, seen = studio.parts.scheduler, {}
    for name in samplers.SAMPLERS:
        (first,), (again,) = (list(studio.draw(request(sampler=name, steps=3))) for _ in range(2))
        files = [drawn.save(tmp_path / f"{i}.png").read_bytes() for i, drawn in enumerate((first, again))]
        assert files[0] == files[1], name
        seen[name] = np.asarray(first.image).astype(int), first.facts["sampler"], list(studio.notes)
        assert studio.pipe.scheduler is own  # nothing of it stays behind
    assert (seen["base"][1], seen["unipc"][1], seen["euler_a"][1]) == ("DDIM", "UniPC", "Euler a")
    even = [("sampler_even", {"wanted": "DPM++ 2M Karras", "used": "DPM++ 2M"})]
    zero = prediction == "v_prediction"
    assert seen["dpmpp_2m_karras"][1:] == (("DPM++ 2M", even) if zero else ("DPM++ 2M Karras", []))
    assert np.array_equal(seen["base"][0], seen["ddim"][0]) == zero  # the tiny ε base spaces its steps otherwise


@pytest.mark.parametrize(("prediction", "zero"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)])
@pytest.mark.parametrize("name", samplers.TITLES)
def test_a_sampler_finds_the_picture_a_perfect_model_knows(name, prediction, zero):
    """A model that always points at x0 is told apart only by its scheduler's own schedule and prediction type: a wrong one
    would end elsewhere."""
    from diffusers import DDIMScheduler  # pyright: ignore[reportPrivateImportUsage]

    own = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        clip_sample=False,
        rescale_betas_zero_snr=zero,
        timestep_spacing="trailing",
    )
    made = samplers.build(name, own)
    x0, chance = torch.linspace(-2, 2, 64).view(1, 1, 8, 8), torch.Generator().manual_seed(1)
    made.set_timesteps(12)
    x = torch.randn(x0.shape, generator=chance) * made.init_noise_sigma
    told = {"generator": chance} if "generator" in made.step.__code__.co_varnames else {}
    for t in made.timesteps:
        told_x = made.scale_model_input(x, t)  # = √ᾱ x0 + √(1-ᾱ) ε
        alpha = own.alphas_cumprod.double()[int(t.round())].clamp(min=2**-24)
        noise = (told_x - alpha.sqrt() * x0) / (1 - alpha).sqrt()
        answer = noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        x = made.step(answer.float(), t, x.float(), **told).prev_sample
    assert float((x - x0).abs().max()) < 0.15  # DDIM ends at ᾱ₀, where a little noise is left


def test_drawing_can_be_cancelled_and_leaves_the_base_pristine(studio, lora):
    before = base_hash(studio.parts)
    seen = []
    with pytest.raises(Cancelled):
        list(studio.draw(request(LoraStrength(lora)), lambda step, of: seen.append((step, of)), lambda: len(seen) >= 2))
    assert seen == [(1, 4), (2, 4)] and base_hash(studio.parts) == before


def test_a_lora_with_no_fitting_layer_is_refused(studio, tmp_path):
    from trainer.adapters import file

    path = file.write(
        tmp_path / "big.safetensors",
        {
            ("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"): (
                np.ones((2, 320), np.float32),
                np.ones((320, 2), np.float32),
                2.0,
            )
        },
        {},
        "fp32",
    )
    with pytest.raises(Problem) as problem:
        list(studio.draw(request(LoraStrength(path))))
    assert problem.value.code in ("lora_no_match", "lora_other_family")


def test_the_embedded_base_has_its_own_attention_names():
    facts = catalog.find(Home(PROJECT), "mini")
    parts = loading.load(family("sd1"), facts, CPU, torch.float32)
    from trainer.config.train import TrainConfig
    from trainer.engine.networks.adapter import Adapter

    adapter = Adapter(parts, TrainConfig())
    unet = [m for p, m in adapter.layers if p == "unet"]
    text = [m for p, m in adapter.layers if p == "text_encoder"]
    encoder = parts.text_encoders["text_encoder"].config
    assert len(text) == 4 * encoder.num_hidden_layers and len(unet) % 8 == 0
    assert all(m.endswith(("to_q", "to_k", "to_v", "to_out.0")) for m in unet)


def test_long_prompts_and_layers_that_do_not_fit_are_mentioned(studio, lora, tmp_path):
    from trainer.adapters import file

    modules = {k: (f.down, f.up, f.alpha) for k, f in normalise(lora).modules.items()}
    modules["unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"] = (
        np.ones((4, 64), np.float32),
        np.ones((64, 4), np.float32),
        2.0,
    )
    mixed = file.write(tmp_path / "mixed.safetensors", modules, {}, "fp32")
    list(studio.draw(request(LoraStrength(mixed), prompt="blob " * 900)))
    total = len(modules)
    assert studio.notes == [
        ("prompt_cut", {"limit": 750}),
        (
            "lora_partial",
            {
                "name": "mixed",
                "matched": total - 1,
                "total": total,
                "layers": "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            },
        ),
    ]
    list(studio.draw(request(LoraStrength(lora))))
    assert studio.notes == []
