"""One optimiser step against a plain reference: W + s·B·A written out, formulas by hand, gradients by autograd."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.func import functional_call

from tests.helpers.training_home import Bench, make_tiny
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.data.batches import load_examples
from trainer.engine.data.latents import LatentCache
from trainer.engine.data.regularization import class_looks
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingObjective
from trainer.images.set.examples import View


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def world(request, tmp_path_factory):
    """(bench, parts with an adapter that does something, adapter, an untouched second copy of the base)."""
    root = tmp_path_factory.mktemp(request.param)
    base = make_tiny(root / "tiny", request.param)
    folder = root / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index:04d}.png")
        (folder / f"{index:04d}.txt").write_text(f"blob {index}, red, round")
    mask = np.zeros((32, 32), np.uint8)
    mask[4:20, 8:24] = 255
    Image.fromarray(mask).save(folder / "0001.mask.png")
    bench = Bench(Home(root / "home").create(), base, folder)
    config = bench.config("images.upscale=false")
    parts, plain = load_base(config, bench.home), load_base(config, bench.home)
    adapter = Adapter(parts, config)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return bench, parts, adapter, plain


class Reference:
    """The same model as explicit matrices: every adapted weight is W + (alpha/rank)·B·A."""

    def __init__(self, parts, plain, scale: float) -> None:
        self.plain, self.scale, self.leaves = plain, scale, {}
        for part, model in (("unet", parts.unet), ("text_encoder", parts.text_encoders["text_encoder"])):
            for name, module in model.named_modules():
                if hasattr(module, "lora_A"):
                    pair = (module.lora_A["default"].weight, module.lora_B["default"].weight)
                    self.leaves[part, name] = [(p, p.detach().clone().requires_grad_()) for p in pair]

    def _weights(self, part: str, model) -> dict[str, torch.Tensor]:
        state = dict(model.state_dict())
        for (p, name), ((_, a), (_, b)) in self.leaves.items():
            if p == part:
                state[f"{name}.weight"] = state[f"{name}.weight"] + self.scale * b @ a
        return state

    def answer(self, noisy, t, captions, taught: bool = True):
        tokenizer, reader = self.plain.tokenizers["text_encoder"], self.plain.text_encoders["text_encoder"]
        ids = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        words, drawing = (
            ({}, {}) if not taught else (self._weights("text_encoder", reader), self._weights("unet", self.plain.unet))
        )
        hidden = functional_call(reader, words, (ids,)).last_hidden_state
        return functional_call(self.plain.unet, drawing, (noisy, t), {"encoder_hidden_states": hidden}).sample


def alpha_bar(kind: str) -> torch.Tensor:
    """ᾱ of Stable Diffusion's schedule, with its end drawn to nothing for the v base (Lin et al. 2024, algorithm 1)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, 0).sqrt()
    if kind == "v_prediction":
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return (root**2).float()


def weight(s: float, kind: str, rule: str) -> float:
    """The tables of the papers, one line each."""
    if rule == "none":
        return 1.0
    x0 = min(s, 5.0) if rule == "min_snr" else s**0.5
    return (x0 / s if s else 1.0) if kind == "epsilon" else (x0 + 1) / (s + 1)


def pointwise(e: torch.Tensor, rule: str, c: torch.Tensor) -> torch.Tensor:
    if rule == "mse":
        return e * e
    soft = 2 * (torch.sqrt(e * e + c**2) - c)
    return c * soft if rule == "huber" else soft


def border(t: torch.Tensor, a: torch.Tensor, schedule: str) -> torch.Tensor:
    """Of Huber at each timestep, one line a schedule; c is 0.1."""
    falling = {
        "constant": 0.1 + 0 * a,
        "exponential": 0.1 ** (t.view(-1, 1, 1, 1) / 1000),
        "snr": 0.9 / (1 + ((1 - a) / a) ** 0.5) ** 2 + 0.1,
    }
    return falling[schedule]


CASES = {
    "plain": ("loss.weighting=none",),
    "min_snr": (),
    "debiased": ("loss.weighting=debiased",),
    "huber": ("loss.type=huber", "loss.weighting=none"),
    "smooth_l1": ("loss.type=smooth_l1", "loss.huber_schedule=exponential"),
    "huber_snr": ("loss.type=huber", "loss.huber_schedule=snr"),
    "masked": ("loss.masked=true", "loss.unmasked_weight=0.25", "images.flip_augment=true"),
    "prior": ("preservation.base_prior=0.7", "preservation.class_word=thing"),
    "class_pictures": ("preservation.prior_loss_weight=0.5", "preservation.caption=a thing"),
    "noises": (
        "noise.offset=0.1",
        "noise.multires_iterations=4",
        "noise.input_perturbation=0.1",
        "noise.timestep_sampling=logit_normal",
    ),
    "accumulated": ("run.gradient_accumulation=2",),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_what_the_formulas_say(world, case):
    bench, parts, adapter, plain = world
    words = [*CASES[case], "images.upscale=false", "captions.shuffle_tags=true", "captions.dropout=0.3"]
    if case == "class_pictures":
        words.append(f"preservation.regularization_folder={bench.folder}")
    config = bench.config(*words)
    kind = plain.scheduler.config.prediction_type
    latents = LatentCache(parts, bench.home.cache / "latents")
    items = load_examples(config, 64)
    items[1] = replace(items[1], weight=2.5)
    classes = class_looks(config, 64, latents, lambda done, of: None)
    maker = TrainingObjective(config, parts, adapter, latents, classes)
    micro = [[View(items[i], flipped=i == 1), View(items[i + 1], False)] for i in (1, 0)[: config.run.gradient_accumulation]]
    for parameter in adapter.parameters():
        parameter.grad = None
    got = maker.backward(5, micro)

    reference, bars = Reference(parts, plain, 2.0 / 4), alpha_bar(kind)
    total = torch.zeros(())
    for index, looks in enumerate(micro):
        wanted = [(maker.draw(5, index, looks), 1.0, looks)]
        if case == "class_pictures":
            assert classes is not None
            known = classes.batch(5)
            wanted.append((maker.draw(5, index, known, "class"), 0.5, known))
            assert all("blobby" not in caption for caption in wanted[1][0].captions)
        for batch, factor, seen in wanted:
            a = bars[batch.t].view(-1, 1, 1, 1)
            noisy = a.sqrt() * batch.x0 + (1 - a).sqrt() * batch.shown
            target = batch.noise if kind == "epsilon" else a.sqrt() * batch.noise - (1 - a).sqrt() * batch.x0
            c = border(batch.t, a, config.loss.huber_schedule)
            values = pointwise(reference.answer(noisy, batch.t, batch.captions) - target, config.loss.type, c)
            for i, look in enumerate(seen):
                mask = torch.ones(1, *batch.x0.shape[-2:])
                if case == "masked" and look.item.picture.id == "0001":
                    mask = torch.full((16, 16), 0.25)
                    mask[2:10, 4:12] = 1.0
                    mask = mask.flip(-1)[None] if look.flipped else mask[None]
                mean = (values[i] * mask).sum() / mask.expand_as(values[i]).sum()
                s = float(bars[batch.t[i]] / (1 - bars[batch.t[i]]))
                counted = look.item.weight * weight(s, kind, config.loss.weighting) * factor
                total = total + counted * mean / (len(seen) * len(micro))
            if case == "prior":
                untold = [c.replace("blobby", "thing") for c in batch.captions]
                with torch.no_grad():
                    known = reference.answer(noisy, batch.t, untold, taught=False)
                total = total + 0.7 * (reference.answer(noisy, batch.t, untold) - known).pow(2).mean()
    total.backward()
    assert float(got) == pytest.approx(float(total.detach()), rel=1e-5)
    pairs = [pair for both in reference.leaves.values() for pair in both]
    whole = torch.cat([theirs.grad.flatten() for _, theirs in pairs]).norm()
    assert len(pairs) > 40
    for ours, theirs in pairs:  # a tensor fifty times smaller than the rest is measured against the rest: fp32's own floor
        assert (ours.grad - theirs.grad).norm() < 1e-5 * torch.maximum(theirs.grad.norm(), 2e-2 * whole)


def test_without_a_trigger_the_base_is_not_held_to_against_what_is_learnt(world):
    bench, parts, adapter, _ = world
    sums = []
    for prior in ("1", "0"):
        config = bench.config(f"preservation.base_prior={prior}", "captions.trigger=", "images.upscale=false")
        maker = TrainingObjective(config, parts, adapter, LatentCache(parts, bench.home.cache / "latents"))
        sums.append(float(maker.backward(0, [[View(item, False) for item in load_examples(config, 64)]])))
    assert sums[0] == sums[1]


def test_split_in_two_a_batch_gives_the_same_sum(world):
    bench, parts, adapter, _ = world
    config = bench.config("preservation.base_prior=1", "loss.masked=true", "images.upscale=false")
    items = load_examples(config, 64)
    maker = TrainingObjective(config, parts, adapter, LatentCache(parts, bench.home.cache / "latents"))
    results = []
    for split in (1, 2):
        maker.split = split
        for parameter in adapter.parameters():
            parameter.grad = None
        loss = maker.backward(0, [[View(item, False) for item in items]])
        results.append((float(loss), torch.cat([p.grad.flatten() for p in adapter.parameters()])))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-7)


def test_class_pictures_are_the_same_wherever_a_run_goes_on_and_missing_ones_are_said(world):
    bench, parts, *_ = world
    latents = LatentCache(parts, bench.home.cache / "latents")

    def looks(*words):
        return class_looks(bench.config("images.upscale=false", *words), 64, latents, lambda done, of: None)

    assert looks() is None
    there = f"preservation.regularization_folder={bench.folder}"
    each = [looks(there) for _ in range(6)]
    straight = [one.batch(n) for n, one in enumerate(each) if one is not None]
    classes = looks(there)
    assert classes is not None and len(straight) == 6
    assert [classes.batch(n) for n in (0, 1, 4, 5)] == [straight[n] for n in (0, 1, 4, 5)]
    for folder, code in ((bench.home.models, "no_pictures"), (bench.home.root / "nowhere", "folder_missing")):
        with pytest.raises(Problem) as problem:
            looks(f"preservation.regularization_folder={folder}")
        assert (problem.value.code, problem.value.field) == (code, "preservation.regularization_folder")


@pytest.mark.parametrize("keep", [True, False])
def test_a_picture_whose_latents_are_not_finite_is_left_out_kept_or_not(world, tmp_path, monkeypatch, keep):
    bench, parts, *_ = world
    latents = LatentCache(parts, tmp_path, keep)
    original = LatentCache.posterior

    def broken(self, look):
        found = original(self, look)
        if look.item.picture.id == "0002":
            found.mean[0, 0, 0] = float("nan")
        return found

    monkeypatch.setattr(LatentCache, "posterior", broken)
    items = load_examples(bench.config("images.upscale=false"), 64)
    assert [i.picture.id for i in latents.prepare(items, False, lambda done, of: None)] == ["0000", "0001", "0003"]
