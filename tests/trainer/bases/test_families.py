"""Stable Diffusion 2.x and XL made tiny: loaded from everywhere, trained, resumed, drawn, read by others; and real sizes."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.helpers import ldm, tiny
from tests.helpers.training_home import Bench
from trainer.adapters.compat.inspect import inspect
from trainer.adapters.fold import LoraStrength
from trainer.adapters.tools.base_weights import BaseWeights
from trainer.bases import catalog, detect
from trainer.bases.families import FAMILIES, Family, ModelComponents, family, loading
from trainer.config import load
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.objective.noise import NoiseSchedule
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.formats.architectures import ARCHITECTURES as FACTS
from trainer.formats.architectures import TextEncoder, UNet, family_modules
from trainer.formats.header import read_header
from trainer.formats.names import bare
from trainer.images.set.examples import Example, View, micro_conditioning

CPU = torch.device("cpu")
KINDS = {
    "sd2": ("sd2", "epsilon", False),
    "xl": ("sdxl", "epsilon", False),
    "sd2-v": ("sd2", "v_prediction", False, 4096),
    "xl-v": ("sdxl", "v_prediction", True, 4096),
}
"""Name -> family, prediction, zero terminal SNR, words in the vocabulary."""


@pytest.fixture(scope="module")
def bases_of(tmp_path_factory) -> dict[str, Path]:
    """A tiny diffusers folder of every kind."""
    root = tmp_path_factory.mktemp("families")
    return {name: tiny.make(root / name, *words) for name, words in KINDS.items()}


@pytest.fixture
def bench_of(bases_of, picture_folder, tmp_path):
    """A home with a tiny base of the kind asked for, and a set."""

    def made(kind: str) -> Bench:
        shutil.copytree(picture_folder, tmp_path / "set")
        return Bench(Home(tmp_path / "home").create(), bases_of[kind], tmp_path / "set")

    return made


def tensors(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


@pytest.mark.parametrize(
    ("kind", "version", "architecture", "counts"),
    [
        ("sd2-v", "sd_v2_v", "stable-diffusion-v2-768-v/lora", (32, 12, 0)),
        ("xl-v", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora", (64, 8, 12)),
    ],
)
def test_a_training_resumes_exactly_and_everybody_draws_the_same(bench_of, kind, version, architecture, counts):
    bench = bench_of(kind)
    name, prediction, zero_snr, _ = KINDS[kind]
    words = (
        "run.steps=4",
        "lora.train_text_encoder=true",
        "optimizer.text_encoder_lr=0.01",
        "images.flip_augment=true",
        "lora.rank=2",
    )
    straight = bench.train(bench.config(*words), "straight")
    losses = bench.losses()
    assert all(np.isfinite(losses))

    def stop(event, run):
        if isinstance(event, events.Step) and event.step == 2:
            run.ask("stop")

    assert bench.train(bench.config(*words), "broken", stop) is None
    first = bench.losses()
    resumed = bench.train(bench.config(*words), "broken")
    assert first + bench.losses() == losses and tensors(resumed) == tensors(straight)

    found = inspect(straight).as_json()
    parts = ("unet", "text_encoder", "text_encoder_2")
    assert (found["family"], *(found["modules"].get(part, 0) for part in parts)) == (name, *counts)
    with safe_open(straight, "np") as lora:
        said = lora.metadata()
        prefixes = {key.split("_")[1] for key in lora.keys()}  # noqa: SIM118
    assert prefixes == ({"unet", "te1", "te2"} if name == "sdxl" else {"unet", "te"})
    assert (said["ss_base_model_version"], said["modelspec.architecture"]) == (version, architecture)
    assert said["ss_v2"] == str(name == "sd2") and said["ss_zero_terminal_snr"] == str(zero_snr)
    assert said["modelspec.prediction_type"] == ("v" if prediction == "v_prediction" else "epsilon")

    studio = ImageSampler.load(catalog.find(bench.home, str(bench.base)), CPU, torch.float32)
    before = base_hash(studio.parts)
    asked = {"prompt": "a red blob", "steps": 3, "guidance": 3.0, "width": 64, "height": 64, "seed": 3}
    base = pixels(studio, GenerateRequest(**asked))[0]
    zero, one = pixels(studio, GenerateRequest(**asked, loras=(LoraStrength(straight),), strengths=(0.0, 1.0)))
    assert np.array_equal(zero, base) and not np.array_equal(one, base) and base_hash(studio.parts) == before
    assert np.abs(one - theirs(bench.base, straight, asked)).max() <= 1


def test_saving_memory_changes_only_rounding(bench_of):
    bench = bench_of("xl-v")
    plain = ("run.steps=2", "lora.train_text_encoder=true", "samples.every=1000", "samples.steps=1")
    losses = {}
    for words in ((), ("memory.gradient_checkpointing=true",), ("memory.base_dtype=bf16",)):
        bench.train(bench.config(*plain, *words), "".join(words)[-4:] or "plain")
        losses[words[-1] if words else ""] = bench.losses()
    exact = losses[""]
    assert losses["memory.gradient_checkpointing=true"] == pytest.approx(exact, rel=1e-5)
    assert losses["memory.base_dtype=bf16"] == pytest.approx(exact, rel=0.05)
    facts = catalog.find(bench.home, str(bench.base))
    half, full = (loading.load(family("sdxl"), facts, CPU, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert all(torch.equal(weight, full.vae.state_dict()[key]) for key, weight in half.vae.state_dict().items())
    assert half.unet.dtype == half.text_encoders["text_encoder_2"].dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["style", "character", "concept"])
def test_every_preset_teaches_sdxl_and_leaves_its_readers_alone(bench_of, kind):
    bench = bench_of("xl-v")
    preset = load.preset(kind, catalog.find(bench.home, str(bench.base)))
    config = bench.config("run.steps=2", "samples.steps=1")
    config = load.build(
        preset,
        {key: value for key, value in load.dump(config).items() if key not in preset},
        {"run": {"steps": 2}, "images": {"folder": str(bench.folder), "resolution": 64}, "captions": {"trigger": "blobby"}},
    )
    assert config.run.batch_size == 1 and config.memory.gradient_checkpointing and not config.lora.train_text_encoder
    found = inspect(bench.train(config)).as_json()
    assert found["modules"] == {"unet": 64, "text_encoder": 0, "text_encoder_2": 0} and len(bench.losses()) == 2


def test_each_of_the_two_text_encoders_has_its_switch_rate_and_stop(bench_of):
    bench = bench_of("xl-v")
    parts = load_base(bench.config(), bench.home)

    def made(*words: str) -> Adapter:
        return Adapter(deepcopy(parts), bench.config("lora.train_text_encoder=true", "optimizer.text_encoder_lr=0.002", *words))

    for which, learning in (
        ("both", {"unet", "text_encoder", "text_encoder_2"}),
        ("first", {"unet", "text_encoder"}),
        ("second", {"unet", "text_encoder_2"}),
    ):
        assert {part for part, _ in made(f"lora.text_encoders={which}").layers} == learning
    words = ("optimizer.text_encoder_2_lr=0.001", "lora.text_encoder_stop_at=0.5", "lora.text_encoder_2_stop_at=0.75")
    adapter = made(*words)
    config = bench.config("lora.train_text_encoder=true", "optimizer.text_encoder_lr=0.002", *words)
    guard = OptimizerStepper(config, adapter, CPU)
    guard.update(torch.tensor(1.0), 1.0)
    assert guard.learning_rates() == pytest.approx({"unet": 0.01, "text_encoder": 0.002, "text_encoder_2": 0.001})
    seen = []
    for step in range(4):
        adapter.before_step(step, 4, 0)
        seen.append(
            {
                part
                for (part, _), layer in adapter.layers.items()
                if all(p.requires_grad for p in adapter.adapter_type.trainable(layer).values())
            }
        )
    both = {"text_encoder", "text_encoder_2"}
    assert [parts & both for parts in seen] == [both, both, {"text_encoder_2"}, set()]
    said = read_header(
        bench.train(bench.config("run.steps=1", "lora.train_text_encoder=true", "lora.text_encoders=second"))
    ).metadata
    assert said["ss_text_encoder_lr"].startswith("[0, ")


def pixels(studio: ImageSampler, asked: GenerateRequest) -> list[np.ndarray]:
    return [np.asarray(drawn.image, np.int16) for drawn in studio.draw(asked)]


def theirs(base: Path, lora: Path, asked: dict) -> np.ndarray:
    """The picture diffusers draws by itself from our file."""
    from diffusers import DiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    pipe: Any = DiffusionPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(lora))
    image = pipe(
        asked["prompt"],
        num_inference_steps=asked["steps"],
        guidance_scale=asked["guidance"],
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(asked["seed"]),
    ).images[0]
    return np.asarray(image, np.int16)


@pytest.fixture
def single(bases_of, tmp_path, monkeypatch):
    """Writes the single file of a kind under the original names, and lets its small widths be recognised."""
    monkeypatch.setitem(detect._BY_WIDTH, tiny.SD2_WIDTH, "sd2")
    monkeypatch.setitem(detect._BY_WIDTH, sum(tiny.XL_WIDTHS), "sdxl")

    def made(kind: str, **more: torch.Tensor) -> Path:
        from diffusers import DiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

        monkeypatch.setattr(Family, "assets", bases_of[kind])
        pipe = DiffusionPipeline.from_pretrained(bases_of[kind])
        second = getattr(pipe, "text_encoder_2", None)
        path = tmp_path / f"{kind}.safetensors"
        return ldm.save_single_file(
            pipe.unet, pipe.vae, pipe.text_encoder, path, text_encoder_2=second, dtype=torch.float32, **more
        )

    return made


@pytest.mark.parametrize(
    ("kind", "marks", "prediction"),
    [
        ("sd2", (), "epsilon"),
        ("xl", ("v_pred", "ztsnr"), "v_prediction"),
    ],
)
def test_a_single_file_is_the_same_model_as_its_folder(bases_of, single, tmp_path, kind, marks, prediction):
    path = single(kind, **{mark: torch.zeros(1) for mark in marks})
    name = KINDS[kind][0]
    known = [catalog.find(Home(tmp_path), str(place)) for place in (path, bases_of[kind])]
    assert [(f.layout, f.family, f.prediction, f.zero_snr) for f in known] == [
        ("file", name, prediction, bool(marks)),
        ("folder", name, "epsilon", False),
    ]
    file, folder = (loading.load(family(name), facts, CPU, torch.float32) for facts in known)
    assert base_hash(file) == base_hash(folder)
    for key, weight in folder.vae.state_dict().items():
        assert torch.equal(file.vae.state_dict()[key], weight), key
    captions = ["a red blob, round!", ""]
    told, wanted = (parts.family.encode(parts, parts.family.tokens(parts, captions)) for parts in (file, folder))
    assert told.keys() == wanted.keys() and all(torch.equal(told[key], wanted[key]) for key in told)
    noise = NoiseSchedule.of(file.scheduler, CPU)
    assert noise.prediction == prediction and noise.zero_terminal == bool(marks)
    one, other = (
        pixels(ImageSampler(parts), GenerateRequest("a red blob", steps=2, guidance=2.0, width=64, height=64))[0]
        for parts in (file, folder)
    )
    assert np.array_equal(one, other) != bool(marks)


@pytest.mark.parametrize("kind", ["sd1", "xl"])
def test_a_file_of_2022_without_text_model_in_its_names_is_the_same_model(
    bases_of, single, tiny_base, tmp_path, monkeypatch, kind
):
    """What NovelAI's leak and its descendants call `cond_stage_model.transformer.encoder…`: the names map one to one."""
    if kind == "sd1":
        from diffusers import DiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

        monkeypatch.setattr(Family, "assets", tiny_base)
        monkeypatch.setitem(detect._BY_WIDTH, 32, "sd1")
        pipe = DiffusionPipeline.from_pretrained(tiny_base)
        whole = ldm.save_single_file(pipe.unet, pipe.vae, pipe.text_encoder, tmp_path / "sd1.safetensors")
    else:
        whole = single("xl")
    held = load_file(whole)
    early = tmp_path / "early.safetensors"
    save_file({key.replace(".transformer.text_model.", ".transformer."): value for key, value in held.items()}, early)
    assert load_file(early).keys() != held.keys()
    facts = [catalog.find(Home(tmp_path), str(path)) for path in (whole, early)]
    one, other = (loading.load(family(found.family), found, CPU, torch.float32) for found in facts)
    assert base_hash(one) == base_hash(other)
    ids = torch.arange(3, 80)[None]
    told, wanted = (parts.family.encode(parts, dict.fromkeys(parts.text_encoders, ids)) for parts in (other, one))
    assert all(torch.equal(told[name], wanted[name]) for name in wanted) and float(wanted["hidden"].std()) > 0
    places = ("text_encoder", "encoder.layers.0.self_attn.q_proj")
    assert np.array_equal(BaseWeights(facts[0]).read(places), BaseWeights(facts[1]).read(places)), "for bake and extract too"
    gone = next(key for key in load_file(early) if key.endswith("transformer.encoder.layers.1.mlp.fc1.weight"))
    save_file({key: value for key, value in load_file(early).items() if key != gone}, tmp_path / "cut.safetensors")
    with pytest.raises(Problem) as problem:
        cut = catalog.find(Home(tmp_path), str(tmp_path / "cut.safetensors"))
        loading.load(family(cut.family), cut, CPU, torch.float32)
    assert problem.value.code == "base_parts" and "layers.1.mlp.fc1.weight" in problem.value.params["detail"]


@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_base_without_a_vae_trains_and_draws_with_the_one_chosen(bases_of, single, tmp_path, layout):
    if layout == "file":
        path = single("xl")
        kept = {key: value for key, value in load_file(path).items() if not key.startswith("first_stage_model.")}
        save_file(kept, path)
    else:
        path = shutil.copytree(bases_of["xl"], tmp_path / "bare")
        shutil.rmtree(path / "vae")
    facts = catalog.find(Home(tmp_path), str(path))
    asked = GenerateRequest("a red blob", steps=1, guidance=2.0, width=64, height=64)
    with pytest.raises(Problem) as told:
        _ = list(ImageSampler.load(facts, CPU, torch.float32).draw(asked))
    assert (told.value.code, told.value.field) == ("base_no_vae", "model.vae")
    whole = loading.load(family("sdxl"), catalog.find(Home(tmp_path), str(bases_of["xl"])), CPU, torch.float32)
    given = loading.load(family("sdxl"), facts, CPU, torch.float32, bases_of["xl"] / "vae")
    one, other = (pixels(ImageSampler(parts), asked)[0] for parts in (whole, given))
    assert np.array_equal(one, other)


def test_a_single_file_without_one_of_its_tensors_is_refused(single, tmp_path):
    path = single("xl")
    held = load_file(path)
    for gone in ("conditioner.embedders.1.model.ln_final.bias", "first_stage_model.decoder.conv_in.bias"):
        save_file({key: value for key, value in held.items() if key != gone}, path)
        facts = catalog.find(Home(tmp_path), str(path))
        with pytest.raises(Problem) as told:
            loading.load(family("sdxl"), facts, CPU, torch.float32)
        assert told.value.code == "base_parts"
        vae, text = "some of its weights are missing", "text_encoder_2: text_model.final_layer_norm.bias"
        assert told.value.params["detail"] == (vae if "first_stage" in gone else text)


def test_half_precision_variants_and_shards_load(bases_of, tmp_path):
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]

    folder = shutil.copytree(bases_of["xl-v"], tmp_path / "xl")
    whole = loading.load(family("sdxl"), catalog.find(Home(tmp_path), str(folder)), CPU, torch.float32)
    shutil.rmtree(folder / "unet")
    whole.unet.save_pretrained(folder / "unet", max_shard_size="400KB", variant="fp16")
    assert len(list((folder / "unet").glob("*.fp16*.safetensors"))) > 1
    text = folder / "text_encoder"
    (text / "model.safetensors").rename(text / "model.fp16.safetensors")
    parts = loading.load(family("sdxl"), catalog.find(Home(tmp_path), str(folder)), CPU, torch.float32)
    assert base_hash(parts) == base_hash(whole) and isinstance(parts.unet, UNet2DConditionModel)


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_another_vae_is_used_with_its_own_scale(bench_of, tmp_path, monkeypatch, layout):
    bench = bench_of("xl-v")
    torch.manual_seed(5)
    vae = tiny.vae(scaling=0.5)
    path = tmp_path / "vae"
    if layout == "folder":
        vae.save_pretrained(path)
    else:
        path = path.with_suffix(".safetensors")
        save_file({key: value.contiguous() for key, value in ldm.vae_file(vae, "").items()}, path)
        monkeypatch.setattr(Family, "assets", bench.base)
    facts = catalog.find(bench.home, str(bench.base))
    parts = loading.load(family("sdxl"), facts, CPU, torch.float32, catalog.find_vae(bench.home, str(path)))
    assert parts.vae.config.scaling_factor == (0.5 if layout == "folder" else 0.13025)
    assert all(torch.equal(parts.vae.state_dict()[key], weight) for key, weight in vae.state_dict().items())
    if layout == "folder":
        file = bench.train(bench.config("run.steps=1", f"model.vae={path}", "lora.train_text_encoder=false"))
        with safe_open(file, "np") as lora:
            said = lora.metadata()
            assert not any(key.startswith("lora_te") for key in lora.keys())  # noqa: SIM118
        assert said["ss_vae_name"] == "vae" and str(tmp_path) not in str(said)


def test_a_vae_of_another_kind_of_model_is_refused(bases_of, tmp_path):
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    AutoencoderKL(latent_channels=16, block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path / "wide")
    facts = catalog.find(Home(tmp_path), str(bases_of["xl"]))
    save_file({"a": torch.zeros(1)}, tmp_path / "no.safetensors")
    for given, code in (("wide", "vae_other"), ("no.safetensors", "vae_broken")):
        with pytest.raises(Problem) as told:
            loading.load(family("sdxl"), facts, CPU, torch.float32, tmp_path / given)
        assert (told.value.code, told.value.field) == (code, "model.vae")


# --- what SDXL's UNet is told -----------------------------------------------------------------------------------


def look(width, height, bucket, focus=None, flipped=False):
    picture: Any = SimpleNamespace(width=width, height=height, focus=focus, file=Path("0001.png"))
    return View(Example(picture, bucket), flipped)


def test_the_size_of_the_picture_and_the_exact_cut_are_told():
    assert micro_conditioning(look(2000, 1000, (1024, 1024))) == (1000, 2000, 0, 512, 1024, 1024)
    assert micro_conditioning(look(2000, 1000, (1024, 1024), (0.0, 0.5))) == (1000, 2000, 0, 0, 1024, 1024)
    assert micro_conditioning(look(2000, 1000, (1024, 1024), (0.0, 0.5), True)) == (1000, 2000, 0, 1024, 1024, 1024)
    assert micro_conditioning(look(600, 900, (1024, 1024))) == (900, 600, 256, 0, 1024, 1024)
    assert micro_conditioning(look(1216, 832, (1216, 832))) == (832, 1216, 0, 0, 832, 1216)


def test_captions_and_sizes_reach_the_unet_as_in_diffusers_own_pipeline(bases_of, tmp_path):
    parts = loading.load(family("sdxl"), catalog.find(Home(tmp_path), str(bases_of["xl-v"])), CPU, torch.float32)
    captions = ["a red blob, round", "another blob"]
    with torch.no_grad():
        told = parts.family.encode(parts, parts.family.tokens(parts, captions))
        told |= parts.family.added_conditioning(parts, [look(64, 64, (64, 64)), look(128, 64, (64, 64))])
        pipe = parts.family.pipeline(parts)
        hidden, _, pooled, _ = pipe.encode_prompt(captions, do_classifier_free_guidance=False)
        assert torch.equal(told["hidden"], hidden) and torch.equal(told["pooled"], pooled)
        ids = pipe._get_add_time_ids((64, 128), (0, 32), (64, 64), torch.float32, pooled.shape[-1])
        assert torch.equal(told["sizes"][1:], ids) and told["sizes"].shape == (2, 6)
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        noisy, t = noise.repeat(2, 1, 1, 1), torch.tensor([400, 400])
        same = {key: value[:1].repeat(2, *[1] * (value.ndim - 1)) for key, value in told.items()}
        one, two = parts.family.predict(parts, noisy, t, same | {"sizes": told["sizes"]})
        wanted = parts.unet(
            noisy[1:], t[1:], encoder_hidden_states=hidden[:1], added_cond_kwargs={"text_embeds": pooled[:1], "time_ids": ids}
        ).sample
    assert torch.allclose(two, wanted[0], atol=1e-5) and not torch.allclose(one, two, atol=1e-3)


# --- at real size, without memory -------------------------------------------------------------------------------

REAL = {
    "sd1": ((859_520_964, 123_060_480), (128, 48)),
    "sd2": ((865_910_724, 340_387_840), (128, 92)),
    "sdxl": ((2_567_463_684, 123_060_480, 694_659_840), (560, 48, 128)),
}
"""Numbers of weights by part, as the published models have them, and layers the attention target means."""


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REAL))
def test_the_shipped_configs_make_the_models_at_their_real_size(name):
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    known = family(name)
    configs = {part: json.loads((known.assets / part / "config.json").read_text()) for part in ("unet", *known.text_parts)}
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(configs["unet"])
        encoders = {
            part: (CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel)(
                CLIPTextConfig.from_pretrained(known.assets / part)
            )
            for part in known.text_parts
        }
    sizes, layers = REAL[name]
    assert tuple(sum(p.numel() for p in model.parameters()) for model in (unet, *encoders.values())) == sizes
    facts = FACTS[name]
    assert UNet.from_config(configs["unet"]) == facts.unet
    assert {part: TextEncoder.from_config(configs[part]) for part in known.text_parts} == facts.text_encoders
    no_facts: Any = None  # an adapter asks for none
    parts = ModelComponents(known, no_facts, unet, encoders, {}, None, None, torch.device("meta"), torch.float32)
    adapter = Adapter(parts, TrainConfig())
    places = [(part, bare(module)) for part, module in adapter.layers]
    assert tuple(sum(part == p for p, _ in places) for part in ("unet", *known.text_parts)) == layers
    assert set(places) == {key for key, module in family_modules(name).items() if module.group == "attention"}


def test_the_template_is_a_whole_family_that_nothing_calls():
    from trainer.bases.families.template import NewFamily

    assert NewFamily().name not in {known.name for known in FAMILIES}
    parts: Any = SimpleNamespace(device=CPU)
    made = NewFamily().added_conditioning(parts, [look(64, 64, (64, 48))])
    assert made["shape"].tolist() == [[64, 48]]
