"""Measures what a training will cost: a few real steps in a child process. `python -m trainer forecast CONFIG.json`.

Where memory runs out it says how much was needed and how much there is.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from trainer.config.load import build
from trainer.config.plan import draws
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.images.set.examples import View, augmentations_of

if TYPE_CHECKING:
    from trainer.bases.families import ModelComponents
    from trainer.config.train import TrainConfig
    from trainer.engine.networks.adapter import Adapter
    from trainer.engine.setup import TrainingData

STEPS = 3
"""Steps that are timed, after those that warm up."""


def measure(config_file: Path, home: Home) -> dict[str, float | int]:
    """Set up the run as it would start, with one image encoded, and time steps on its largest bucket; nothing is written. What
    has to be encoded before the start counts flipped, cropped and augmented views and regularization images, each where it
    is not cached already; a slider generates its images first."""
    from trainer.engine.base import load_base
    from trainer.engine.setup import TrainingRun
    from trainer.engine.speed import device

    device.silence_libraries()
    config = build(json.loads(config_file.read_text("utf-8")))
    begun = time.monotonic()
    costs = DataCosts(config, config_file, home)
    run = TrainingRun(config, load_base(config, home), costs.data)
    run.choose_stepper(run.total, lambda why: None)
    load_seconds = time.monotonic() - begun - costs.seconds
    largest = max(run.data.examples, key=lambda example: example.bucket[0] * example.bucket[1])
    views = [[View(largest, False)] * config.run.batch_size] * config.run.gradient_accumulation
    times = []
    for step in range(run.stepper.warm_up + STEPS):
        begun = time.monotonic()
        loss, _ = run.step(step, views)
        loss.item()
        times.append(time.monotonic() - begun)
    each, total, encode_seconds = median(times[-STEPS:]), run.total, costs.encode_seconds
    numbers = sum(p.numel() for p in run.adapter.parameters())
    return {
        "seconds_per_step": each,
        "steps": total,
        "load_seconds": load_seconds,
        "encode_seconds": encode_seconds,
        "seconds": each * total + encode_seconds + load_seconds,
        "file_bytes": numbers * (4 if config.save.dtype == "fp32" else 2),
        "cache_bytes": costs.cache_bytes,
        "peak_bytes": device.peak_memory(run.components.device),
    }


class DataCosts:
    """The data of a run that is only measured, and what making it would cost."""

    def __init__(self, config: TrainConfig, config_file: Path, home: Home) -> None:
        self.config, self.config_file, self.home = config, config_file, home
        self.seconds = self.encode_seconds = 0.0
        """Seconds this measuring took; seconds until everything would be encoded."""
        self.cache_bytes = 0

    def data(self, components: ModelComponents, adapter: Adapter) -> TrainingData:
        """All examples, of which one is encoded; one class picture will do for the time it takes."""
        from trainer.engine.base import main_size
        from trainer.engine.data.batches import load_examples
        from trainer.engine.data.latents import LatentCache
        from trainer.engine.data.regularization import RegularizationSampler, regularization_examples
        from trainer.engine.objective import slider, validation
        from trainer.engine.setup import TrainingData

        begun = time.monotonic()
        with adapter.disabled():
            run = RunDir(self.config_file.parent)
            config = slider.own_pictures(run, self.config, components, lambda event: None, count=1)
        drawn = config.slider.generated_images if draws(config) else 0
        drawing_seconds = (time.monotonic() - begun) * drawn
        every = load_examples(config, main_size(config, components))
        held_out, examples = validation.held_out(config, every)
        latents = LatentCache(components, self.home.cache / "latents", config.memory.cache_latents)
        images, kin = config.images, regularization_examples(config, main_size(config, components))
        views = latents.looks(every, images.flip_augment, images.random_crops, augmentations_of(images))
        views += latents.looks(kin, images.flip_augment)
        encode_seconds, cache_bytes = latents.cost(views)
        self.encode_seconds = encode_seconds * max(1, drawn) + drawing_seconds
        self.cache_bytes = cache_bytes * max(1, drawn)
        classes = RegularizationSampler(kin[:1], config.run.batch_size, 0, False) if kin else None
        self.seconds = time.monotonic() - begun
        return TrainingData(config, examples, held_out, latents, classes)


def main(argv: list[str]) -> int:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="forecast")
    parser.add_argument("config", type=Path)
    parser.add_argument("--home")
    given = parser.parse_args(argv)
    try:
        told = measure(given.config, Home.find(given.home))
    except (RuntimeError, MemoryError) as error:
        from trainer.engine.speed import device

        if isinstance(error, RuntimeError) and not device.is_oom(error):
            raise
        told = short(error, given.config)
    print(json.dumps(told), flush=True)
    return 0


def short(error: BaseException, config_file: Path) -> dict[str, int]:
    """What the trial needed and what there is, in bytes, where memory ran out: what it held and what it was refused."""
    from trainer.engine.speed import device

    where = device.choose_device(build(json.loads(config_file.read_text("utf-8"))).run.device)
    held, free, refused = device.peak_memory(where), device.bytes_available(where), device.bytes_requested(error)
    return {"needed": max(held, free) + refused, "free": free}
