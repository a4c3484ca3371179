"""The trial of a training tells what it costs, and where memory runs out how much was needed and how much there is."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from trainer.config import load
from trainer.core import events, files
from trainer.engine import setup
from trainer.engine.base import load_base
from trainer.engine.data import batches as data
from trainer.engine.data.latents import HEADER, LatentCache
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.probes import forecast
from trainer.engine.speed import device
from trainer.engine.speed.step_graph import EagerStepper
from trainer.images.set.examples import augmentations_of

MANY = (
    "images.buckets=false",
    "images.augment_variants=3",
    "images.color_jitter=0.1",
    "images.random_crops=2",
    "images.flip_augment=true",
    "run.steps=7",
)
EACH = 2 * 4 * 32 * 32 * 4 + HEADER
"""Bytes of mean and deviation of a picture of 64 px: four channels of 32 x 32 numbers."""


def tried(bench, capsys, *overrides: str) -> dict:
    given = bench.home.root / "config.json"
    files.write_json(given, load.dump(bench.config("run.device=cpu", *overrides)))
    capsys.readouterr()
    assert forecast.main([str(given), "--home", str(bench.home.root)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_forms_cuts_mirrored_and_class_pictures_count_in_preparation_and_on_the_disk(bench, capsys):
    """Six pictures, two of them with cuts as they are wider: (4 + 2 x 2 cuts) x 3 forms x 2 mirrored, and 2 for the class."""
    shutil.copytree(bench.folder, bench.home.root / "kin")
    Image.new("RGB", (64, 64), "red").save(bench.home.root / "kin" / "0000.png")  # the others are encoded for the set itself
    told = tried(bench, capsys, *MANY, f"preservation.regularization_folder={bench.home.root / 'kin'}")
    assert told["cache_bytes"] == (48 + 2) * EACH
    assert told["encode_seconds"] > 0 and told["seconds"] > told["encode_seconds"] + 7 * told["seconds_per_step"]

    config = bench.config(*MANY)
    parts, items, forms = load_base(config, bench.home), data.load_examples(config, 64), augmentations_of(config.images)
    latents = LatentCache(parts, bench.home.cache / "latents")
    kept = list(latents.folder.rglob("*.safetensors"))
    assert len(kept) == 2 and {file.stat().st_size for file in kept} == {EACH}  # those the trial looked at
    looks = latents.looks(items, True, 2, forms)
    assert latents.cost(looks)[1] == (48 - 1) * EACH
    latents.prepare(items, True, lambda done, of: None, 2, forms)
    assert len(list(latents.folder.rglob("*.safetensors"))) == 48 + 1 and latents.cost(looks) == (0, 0)
    assert LatentCache(parts, latents.folder, keep=False).cost(looks)[1] == 0


def test_a_trial_says_what_a_run_costs_or_what_memory_it_lacks(bench, capsys, monkeypatch):
    told = tried(bench, capsys, "run.steps=7")
    assert told["steps"] == 7 and told["seconds"] >= 7 * told["seconds_per_step"] > 0

    def starve(self, step, batches, scale):
        return torch.empty(10**15)  # what no machine has: the allocator itself refuses

    monkeypatch.setattr(TrainingObjective, "backward", starve)
    told = tried(bench, capsys)
    assert set(told) == {"needed", "free"}
    assert told["needed"] > 4 * 10**15 > 10**13 > told["free"] > 10**8

    def break_(self, step, batches, scale):
        raise RuntimeError("something else")

    monkeypatch.setattr(TrainingObjective, "backward", break_)
    with pytest.raises(RuntimeError, match="something else"):
        tried(bench, capsys)


def test_a_trial_of_a_slider_needs_no_pictures_and_counts_the_drawing_of_all(bench, capsys, monkeypatch):
    words = ("run.kind=slider", "slider.target=a fox", "slider.positive=a huge fox", "slider.negative=a tiny fox",
             "captions.trigger=", "images.folder=", "slider.generated_images=500", "run.steps=1")  # fmt: skip
    told = tried(bench, capsys, *words)
    drawn = sorted((bench.home.root / "pictures").glob("*.png"))
    assert told["steps"] == 1 and len(drawn) == 1  # of the 500
    assert told["encode_seconds"] > 20 * told["seconds_per_step"]


def test_what_a_trial_times_is_set_up_as_the_run_is(bench, capsys, monkeypatch):
    """The facts of both, as the run's `started` event says them, and the steps timed are the stepper's, after its warm-up."""
    overrides = ("run.steps=2", "memory.base_dtype=bf16", "memory.quantize_base=int8", "memory.gradient_checkpointing=true",
                 "validation.split=0.2", "run.gradient_accumulation=2")  # fmt: skip
    trials, steps = [], []

    class Trial(setup.TrainingRun):
        def choose_stepper(self, steps, lost):
            super().choose_stepper(steps, lost)
            trials.append(self)

    def take(self, step, micro, factor, take=EagerStepper.take):
        steps.append((step, len(micro)))
        return take(self, step, micro, factor)

    monkeypatch.setattr(device, "_plain_speed", lambda dtype: 2.0)  # measured, it may come out this way once and that way then
    with monkeypatch.context() as only:
        only.setattr(setup, "TrainingRun", Trial)
        only.setattr(EagerStepper, "take", take)
        only.setattr(EagerStepper, "warm_up", 2)
        tried(bench, capsys, *overrides)
    assert steps == [(step, 2) for step in range(2 + forecast.STEPS)]
    (trial,) = trials
    bench.train(bench.config("run.device=cpu", *overrides))
    (started,) = (event for event in bench.events if isinstance(event, events.Started))
    assert trial.facts() == started.facts and started.facts["attention"] == "plain"
    processors = {type(processor).__name__ for processor in trial.components.unet.attn_processors.values()}
    assert processors == {"AttnProcessor"} and trial.components.unet.is_gradient_checkpointing
