"""Sliders: one step against the formulas, a run from words alone, what its file does and says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers import tiny
from tests.helpers.training_home import Bench, make_tiny
from tests.trainer.engine.objective.test_step import Reference, alpha_bar
from trainer.adapters import file as lora_file
from trainer.adapters.compat.inspect import inspect
from trainer.adapters.fold import LoraFuser, LoraStrength
from trainer.bases import catalog
from trainer.commands import train as commands
from trainer.config import load
from trainer.core import events
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.data.batches import load_examples
from trainer.engine.data.latents import LatentCache
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.objective.slider import SliderObjective
from trainer.engine.output import checkpoint
from trainer.formats.names import bare
from trainer.images.set.examples import View
from trainer.library.cards import card

WORDS = (
    "run.kind=slider",
    "slider.target=a fox",
    "slider.positive=a huge fox",
    "slider.negative=a tiny fox",
    "captions.trigger=",
    "loss.weighting=none",
)
SEEN = 6
"""A step whose chance says both of two attributes."""
BASES = {"sd1": ("sd1", "epsilon"), "sd2-v": ("sd2", "v_prediction"), "xl": ("sdxl", "epsilon")}
KINDS = ("lora", "dora", "loha", "lokr", "oft", "ia3", "glora", "full")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_step_at_both_signs_is_what_the_formula_says(tmp_path, picture_folder, prediction):
    """W ± s·B·A written out, the paper's targets from an untouched copy of the base, gradients by autograd."""
    bench = Bench(Home(tmp_path / "home").create(), make_tiny(tmp_path / "tiny", prediction), picture_folder)
    config = bench.config(*WORDS, "slider.preserve=red\nblue", "slider.guidance=2.5", "images.upscale=false")
    parts, plain = load_base(config, bench.home), load_base(config, bench.home)
    adapter = Adapter(parts, config)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    maker = SliderObjective(config, parts, adapter, LatentCache(parts, bench.home.cache / "latents"))
    looks = [View(item, False) for item in load_examples(config, 64)[:4]]
    got = maker.backward(SEEN, [looks])

    batch = maker.draw(SEEN, 0, looks)
    assert set(batch.captions) == {"a fox, red", "a fox, blue"}
    a = alpha_bar(prediction)[batch.t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * batch.x0 + (1 - a).sqrt() * batch.noise
    ends = {end: [caption.replace("a fox", f"a {end} fox") for caption in batch.captions] for end in ("huge", "tiny")}
    sides = [Reference(parts, plain, sign * 2.0 / 4) for sign in (1, -1)]
    with torch.no_grad():
        here, huge, small = (sides[0].answer(noisy, batch.t, said, taught=False) for said in (batch.captions, *ends.values()))
    total = torch.zeros(())
    for sign, side in zip((1, -1), sides, strict=True):
        total = total + (side.answer(noisy, batch.t, batch.captions) - here - sign * 2.5 * (huge - small)).pow(2).mean() / 2
    total.backward()
    assert float(got) == pytest.approx(float(total.detach()), rel=1e-5)
    pairs = [
        (ours, first.grad + second.grad)
        for place in sides[0].leaves
        for (ours, first), (_, second) in zip(sides[0].leaves[place], sides[1].leaves[place], strict=True)
    ]
    whole = torch.cat([theirs.flatten() for _, theirs in pairs]).norm()
    assert len(pairs) > 40
    for ours, theirs in pairs:
        assert (ours.grad - theirs).norm() < 1e-5 * torch.maximum(theirs.norm(), 2e-2 * whole)


def _look(parts) -> torch.Tensor:
    sized = SimpleNamespace(bucket=(64, 64), micro_conditioning=(64, 64, 0, 0, 64, 64))
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        told = parts.family.encode(parts, parts.family.tokens(parts, ["a fox"])) | parts.family.added_conditioning(
            parts, [sized]
        )
        return parts.family.predict(parts, noisy, torch.tensor([300]), told)


@pytest.mark.parametrize("name", BASES)
def test_a_slider_learns_from_words_alone_goes_on_exactly_and_draws_at_both_signs(tmp_path, name):
    family, prediction = BASES[name]
    make = make_tiny if family == "sd1" else partial(tiny.make, family=family, words=4096)
    bench = Bench(Home(tmp_path / "home").create(), make(tmp_path / "base", prediction=prediction), tmp_path / "none")
    config = bench.config(
        *WORDS,
        "images.folder=",
        "run.steps=2",
        "save.every=1",
        "save.dtype=fp32",
        "samples.steps=1",
        "samples.prompts=a fox",
        "slider.generated_images=2",
        "run.batch_size=2",
        "slider.preserve=red\nblue",
        "lora.scale_weight_norms=1",
    )
    straight = bench.train(config, "straight")
    run, losses = bench.run("straight"), bench.losses()
    assert [file.read_text() for file in sorted(run.pictures.glob("*.txt"))] == ["a fox, red", "a fox, blue"]
    drawn = [e.prompt for e in bench.events if isinstance(e, events.Sample) and e.step == 2]
    assert drawn == ["a fox", "a fox · 0.5", "a fox · -0.5", "a fox · -1"]
    last = checkpoint.newest(run, config, lambda step: pytest.fail(f"checkpoint {step} is damaged"))
    shutil.rmtree(run.checkpoint(2))
    (run.pictures / "0001.png").unlink()  # drawn again, the same
    resumed = bench.train(config, "straight")
    assert bench.losses() == losses[1:] and np.isfinite(np.array(losses, float)).all()
    assert straight is not None and resumed is not None
    found = [inspect(file) for file in (straight, resumed)]
    assert found[0].metadata["sshs_model_hash"] == found[1].metadata["sshs_model_hash"]
    assert found[0].slider == ("a fox", "a huge fox", "a tiny fox") == tuple(found[0].as_json()["slider"].values())
    assert "a huge fox" in found[0].metadata["modelspec.usage_hint"] and found[0].metadata["ss_num_train_images"] == "0"
    shown = card(straight, set(), tmp_path)
    assert (shown.slider, shown.recommended, shown.kind) == (found[0].slider, (-2, 1, 2), "slider")

    parts = load_base(config, bench.home)
    before, plain = base_hash(parts), _look(parts)
    adapter = Adapter(parts, config)
    assert last is not None
    adapter.load(last.adapter)
    with adapter.at_strength(-1):
        learnt = _look(parts)
    with adapter.disabled():
        fuser = LoraFuser(parts)
        fuser.fuse([LoraStrength(straight, -1, -1)])
        assert torch.allclose(_look(parts), learnt, atol=1e-5) and not torch.allclose(learnt, plain, atol=1e-4)
        fuser.unfuse()
    assert base_hash(parts) == before


@pytest.mark.parametrize("kind", KINDS)
def test_at_minus_one_every_kind_takes_off_what_it_adds_as_its_file_does(bench, tmp_path, kind):
    config = bench.config(f"lora.type={kind}", "lora.rank=4", "lora.targets=all")
    parts = load_base(config, bench.home)
    plain = _look(parts)
    adapter = Adapter(parts, config)
    for parameter in adapter.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    with adapter.at_strength(-1):
        learnt = _look(parts)
    more = _look(parts)
    spelt = {(part, bare(name) if part != "unet" else name): layer for (part, name), layer in adapter.export_layers().items()}
    file = lora_file.write(tmp_path / "a.safetensors", spelt, {}, "fp32")
    with adapter.disabled():
        fuser = LoraFuser(parts)
        for sign, there in ((-1.0, learnt), (1.0, more)):
            fuser.fuse([LoraStrength(file, sign, sign)])
            assert torch.allclose(_look(parts), there, atol=2e-5)
        fuser.unfuse()
        assert not torch.allclose(learnt, plain, atol=1e-3) and not torch.allclose(learnt, more, atol=1e-3)


def test_ones_own_pictures_are_learnt_on_where_nothing_is_drawn(bench):
    config = bench.config(*WORDS, "slider.generated_images=0", "run.steps=2", "run.batch_size=1", "samples.steps=1")
    file = bench.train(config, "own")
    assert np.isfinite(bench.losses()).all() and not bench.run("own").pictures.exists()
    assert inspect(file).slider == ("a fox", "a huge fox", "a tiny fox")


@pytest.mark.parametrize(("word", "field", "code"), [
    ("slider.negative=", "slider.negative", "slider_words"), ("slider.negative=a huge fox", "slider.negative", "slider_same"),
    ("captions.trigger=foxy", "captions.trigger", "not_for_slider"),
    ("preservation.base_prior=1", "preservation.base_prior", "not_for_slider"),
    ("validation.split=0.2", "validation.split", "not_for_slider"),
    ("lora.embedding_tokens=2", "lora.embedding_tokens", "not_for_slider"),
])  # fmt: skip
def test_what_a_slider_lacks_or_cannot_have_is_said_beside_its_field(bench, word, field, code):
    with pytest.raises(Problem) as problem:
        bench.train(bench.config(*WORDS, word))
    assert (problem.value.field, problem.value.code) == (field, code) and str(problem.value)


@pytest.mark.slow
def test_on_the_embedded_base_the_background_goes_from_yellow_over_the_bases_own_to_blue(tmp_path):
    """Words alone; blue less red in the corners of the picture, at five strengths. The base draws a fox on white."""
    home = Home(tmp_path / "home").create()
    words = {"slider.target": "a fox", "slider.positive": "a fox, blue background"}
    words |= {"slider.negative": "a fox, yellow background"}
    quick = [
        "run.steps=60",
        "slider.generated_images=4",
        "optimizer.lr=2e-3",
        "samples.steps=1",
        "samples.every=1000",
        "save.every=1000",
    ]
    config = load.build(
        load.preset("slider", catalog.find(home, "mini")), {"save": {"name": "sky"}},
        overrides=[*quick, *(f"{name}={said}" for name, said in words.items())],
    )  # fmt: skip
    file = Bench(home, PROJECT, PROJECT).train(config)
    assert file is not None
    studio = ImageSampler.load(catalog.find(home, "mini"), torch.device("cpu"), torch.float32, home)
    asked = GenerateRequest("a fox", steps=10, guidance=3.0, width=128, height=128, seed=3)
    (bare,) = studio.draw(asked)
    drawn = list(studio.draw(replace(asked, loras=(LoraStrength(file),), strengths=(-1.0, -0.5, 0.0, 0.5, 1.0))))
    assert np.array_equal(np.asarray(drawn[2].image), np.asarray(bare.image))
    colour = []
    for one in drawn:
        pixels = np.asarray(one.image, np.float32)
        corners = np.stack([pixels[y, x] for y in (slice(0, 8), slice(-8, None)) for x in (slice(0, 8), slice(-8, None))])
        colour.append(float((corners[..., 2] - corners[..., 0]).mean()))
    assert colour == sorted(colour) and colour[0] < -100 and abs(colour[2]) < 10 and colour[4] > 30, colour


def test_on_the_command_line_a_folder_takes_the_place_of_drawn_pictures_and_its_trigger_stays_away(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("trainer.jobs.foreground.run", lambda config, home, show: asked.append(config) or 0)
    words = ["--preset", "slider", "--name", "Size", "--home", str(tmp_path), *WORDS[1:4]]
    assert commands.main(words) == commands.main([*words, "--images", str(PROJECT / "datasets" / "example-style")]) == 0
    alone, own = asked
    assert (
        (alone.slider.generated_images, own.slider.generated_images) == (16, 0)
        and own.images.folder
        and not own.captions.trigger
    )
    assert alone.slider.positive == own.slider.positive == "a huge fox" and alone.run.kind == own.run.kind == "slider"
