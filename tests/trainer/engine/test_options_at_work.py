"""Options at other values than their own: each changes what it says, in the optimiser, in a step or in a whole small run."""

from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.trainer.engine.optim.test_optimizer import OPTIMIZERS, Layers, everything, stepper, steps
from trainer.config import load
from trainer.config.options import options
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.data.batches import load_examples
from trainer.engine.data.latents import LatentCache
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.output import checkpoint
from trainer.images.set.examples import View

OTHER = {
    "lr": "0.004", "text_encoder_lr": "0.004", "weight_decay": "0.9", "beta1": "0.5", "beta2": "0.5", "d_coef": "3",
    "bias_correction": "false", "safeguard_warmup": "false", "momentum": "0.5",
}  # fmt: skip
"""A value far from the default for every field of every optimiser."""
ELSEWHERE = {"optimizer.name", "optimizer.text_encoder_2_lr", "optimizer.block_lrs", "optimizer.embedding_lr"}
"""Not a field of one, the second rate of SDXL (test_families), the factors of blocks (test_kinds, test_guard), and the rate of
the trigger's own vectors (test_own_words)."""
FIELDS = [
    (name, known.name.removeprefix("optimizer.")) for known in options() for name in known.variants or OPTIMIZERS
    if known.name.startswith("optimizer.") and known.name not in ELSEWHERE and name in OPTIMIZERS
]  # fmt: skip


def learnt(name: str, *words: str) -> torch.Tensor:
    """Lion sees signs alone: only a rate that overshoots shows what it remembers."""
    layers, rate = Layers(), {"lion": ["optimizer.lr=0.05"], "dadapt_lion": ["optimizer.lr=10"]}.get(name, [])
    config = load.build({}, overrides=[f"optimizer.name={name}", *rate, *words])
    steps(stepper(config, layers), layers, 0, 12)
    return everything(layers)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_field_of_an_optimiser_changes_what_is_learnt(name: str, field: str) -> None:
    plain, other = learnt(name), learnt(name, f"optimizer.{field}={OTHER[field]}")
    assert torch.isfinite(other).all() and not torch.equal(plain, other)


def test_weight_decay_pulls_to_nothing() -> None:
    """With no gradient to follow, AdamW's step is w - lr · decay · w."""
    layers = Layers()
    guard = stepper(load.build({}, overrides=["optimizer.lr=0.1", "optimizer.weight_decay=0.5"]), layers)
    before = layers.weights[0].detach().clone()
    for weight in layers.weights:
        weight.grad = torch.zeros_like(weight)
    assert guard.update(torch.zeros(()), 1.0)
    assert torch.allclose(layers.weights[0].detach(), before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(("cap", "share"), [(0.01, None), (1000.0, 1.0), (0.0, 1.0)])
def test_the_cap_on_a_step_is_a_cap_on_the_norm_of_all_gradients_together(cap: float, share: float | None) -> None:
    """Seen where AdamW keeps its first gradient: its average is (1 - beta1) · g."""
    layers = Layers()
    guard = stepper(load.build({}, overrides=[f"run.max_grad_norm={cap}"]), layers)
    loss = layers.loss()
    loss.backward()
    norm = torch.cat([w.grad.flatten() for w in layers.weights]).norm()  # type: ignore[union-attr]
    assert norm > 0.01 and guard.update(loss.detach(), 1.0)
    kept = torch.cat([guard.optimizer.state[w]["exp_avg"].flatten() for w in layers.weights]) / (1 - 0.9)
    assert torch.allclose(kept.norm(), norm * share if share else torch.tensor(cap), rtol=1e-4)


@pytest.fixture(scope="module")
def learner(tiny_base, picture_folder, tmp_path_factory):
    """A bench with three small pictures, one with a mask, a base with an adapter on it, and the pictures encoded."""
    from tests.helpers.training_home import Bench
    from trainer.core.home import Home

    root = tmp_path_factory.mktemp("options")
    shutil.copytree(picture_folder, root / "set")
    small(root / "set")
    mask = Image.new("L", (40, 40))
    mask.paste(255, (8, 8, 24, 24))
    mask.save(root / "set" / "0000.mask.png")
    bench = Bench(Home(root / "home").create(), tiny_base, root / "set")
    parts = load_base(bench.config(), bench.home)
    return bench, parts, Adapter(parts, bench.config()), LatentCache(parts, bench.home.cache / "latents")


def small(folder) -> None:
    for file in sorted(folder.glob("*.png")):
        with Image.open(file) as image:
            little = image.resize((40, 40))
        little.save(file) if file.stem < "0003" else file.unlink()


@pytest.mark.parametrize(("given", "word"), [
    ("loss.type=huber", "loss.huber_c=1"), ("noise.max_timestep=200", "loss.min_snr_gamma=0.5"),
    ("noise.max_timestep=200", "loss.min_snr_gamma="), ("loss.masked=true", "loss.unmasked_weight=0.9"),
    ("noise.multires_iterations=4", "noise.multires_discount=0.8"),
    ("noise.timestep_sampling=logit_normal", "noise.logit_mean=2"),
    ("noise.timestep_sampling=logit_normal", "noise.logit_std=3"), ("noise.min_timestep=1", "noise.min_timestep=900"),
    ("noise.offset=0", "noise.offset=0.1"), ("captions.dropout=0", "captions.dropout=1"),
])  # fmt: skip
def test_an_option_changes_the_loss(learner, given: str, word: str) -> None:
    bench, parts, adapter, latents = learner

    def loss(*words: str) -> float:
        config = bench.config("images.upscale=false", *words)
        items = load_examples(config, 64)
        maker = TrainingObjective(config, parts, adapter, latents)
        return float(maker.backward(3, [[View(items[0], False), View(items[1], False)]]))

    assert loss(given) != loss(given, word)


def test_a_zero_terminal_schedule_is_asked_of_the_base_itself(learner) -> None:
    bench, *_ = learner
    with pytest.raises(Problem) as told:
        load_base(bench.config("noise.zero_terminal_snr=true"), bench.home)
    assert told.value.code == "zero_terminal_epsilon"


def test_formats_follow_their_options(bench) -> None:
    """Of a picture 96 x 64: a format of its shape, a finer one, or a square."""

    def wide(*words: str) -> set:
        return {item.bucket for item in load_examples(bench.config(*words), 256) if item.picture.id == "0005"}

    assert wide("images.buckets=false") == {(256, 256)}
    ((plain, finer),) = zip(wide(), wide("images.bucket_resolution_step=8"), strict=True)
    assert plain[0] % 64 == plain[1] % 64 == 0 and plain != finer
    assert abs(finer[0] / finer[1] - 1.5) <= abs(plain[0] / plain[1] - 1.5)


def test_latents_kept_or_not_give_the_same_file_and_so_many_checkpoints_stay(bench, tmp_path) -> None:
    small(bench.folder)
    words = ("run.steps=4", "save.every=1", "samples.steps=1", "images.upscale=false", "lora.include=attn2")
    files = {}
    for keep, cached in ((3, "false"), (2, "true")):
        run = bench.run(cached)
        files[cached] = bench.train(bench.config(*words, f"save.keep={keep}", f"memory.cache_latents={cached}"), cached)
        assert checkpoint.steps(run) == [1, 2, 3, 4][-keep:]
        kept = [file for file in (bench.home.cache / "latents").rglob("*") if file.is_file()]
        assert bool(kept) is (cached == "true")
    one, other = (load_file(files[cached]) for cached in ("false", "true"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


CROWDED = {
    "schedule_free": ("run.ema_decay=0.9", "lora.scale_weight_norms=0.05", "lora.dropout=0.2", "lora.rank_dropout=0.2"),
    "muon": ("lora.type=dora", "lora.targets=all", "lora.module_dropout=0.2"),
    "prodigy": ("run.ema_decay=0.9", "optimizer.lr=1", "optimizer.block_lrs=*.attn2.* = 0.5"),
    "came": ("lora.type=lokr", "lora.lokr_factor=4"),
}  # fmt: skip
"""What keeps averages, caps or leaves out, together with the optimisers that could be at odds with it."""


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adamw"])
def test_every_optimiser_trains_a_whole_run_and_goes_on_exactly(bench, name: str) -> None:
    small(bench.folder)
    words = [
        "run.steps=3",
        "save.every=2",
        "samples.steps=1",
        "images.upscale=false",
        "lora.include=attn",
        "validation.every=0",
        f"optimizer.name={name}",
        *CROWDED.get(name, ()),
    ]
    config = bench.config(*words)
    straight = bench.train(config, "straight")
    losses = bench.losses()
    assert len(losses) == 3 and all(loss is not None for loss in losses)
    shutil.copytree(bench.run("straight").path, bench.run("again").path, dirs_exist_ok=True)
    shutil.rmtree(bench.run("again").path / "checkpoints" / "000003")
    resumed = bench.train(config, "again")
    assert bench.losses() == losses[2:]
    one, other = load_file(straight), load_file(resumed)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
