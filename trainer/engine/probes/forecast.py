"""Measures what a training will cost: a few real steps in a child process. `python -m trainer forecast CONFIG.json`.

Where memory runs out it says how much was needed and how much there is.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

from trainer.config.load import build
from trainer.config.plan import draws
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.images.set.examples import View, augmentations_of

STEPS = 3


def measure(config_file: Path, home: Home) -> dict[str, float | int]:
    """Load the base, encode one picture, make three steps on the largest format; nothing is written. What has to be encoded
    before the start counts mirrored pictures, cuts, forms and class pictures, each where it is not kept already, and a
    slider's own pictures are drawn first."""
    from trainer.engine.data import batches
    from trainer.engine.data.latents import LatentCache
    from trainer.engine.data.regularization import RegularizationSampler, regularization_examples
    from trainer.engine.networks.adapter import Adapter
    from trainer.engine.objective import slider, validation
    from trainer.engine.optim.optimizer import OptimizerStepper
    from trainer.engine.speed import device, offload, onednn
    from trainer.engine.train import load_base, main_size, settle_base

    device.silence_libraries()
    config = build(json.loads(config_file.read_text("utf-8")))
    begun = time.monotonic()
    parts = load_base(config, home)
    adapter = Adapter(parts, config)
    settle_base(config, parts)
    load_seconds = time.monotonic() - begun
    begun = time.monotonic()
    with adapter.switched_off():
        config = slider.own_pictures(RunDir(config_file.parent), config, parts, lambda event: None, count=1)
    drawn = config.slider.generated_images if draws(config) else 0
    drawing_seconds = (time.monotonic() - begun) * drawn
    every = batches.load_examples(config, main_size(config, parts))
    _, items = validation.held_out(config, every)
    onednn.enable_onednn(parts)
    guard = OptimizerStepper(config, adapter, parts.device, parts.dtype)
    latents = LatentCache(parts, home.cache / "latents", config.memory.cache_latents)
    images, kin = config.images, regularization_examples(config, main_size(config, parts))
    looks = latents.looks(every, images.flip_augment, images.random_crops, augmentations_of(images)) + latents.looks(
        kin, images.flip_augment
    )
    encode_seconds, cache_bytes = latents.cost(looks)
    encode_seconds = encode_seconds * max(1, drawn) + drawing_seconds
    cache_bytes *= max(1, drawn)
    classes = (
        RegularizationSampler(kin[:1], config.run.batch_size, 0, False) if kin else None
    )  # one will do for the time it takes
    maker = slider.maker(config)(config, parts, adapter, latents, classes)
    offload.rest(parts, config, maker.text_learns)
    largest = max(items, key=lambda item: item.bucket[0] * item.bucket[1])
    batch = [View(largest, False)] * config.run.batch_size
    times = []
    for step in range(STEPS + 1):
        begun = time.monotonic()
        guard.update(maker.backward(step, [batch] * config.run.gradient_accumulation, guard.scale), 1.0).item()
        times.append(time.monotonic() - begun)
    each, total = median(times[1:]), batches.total_steps(config, items)
    numbers = sum(p.numel() for p in adapter.parameters())
    return {
        "seconds_per_step": each,
        "steps": total,
        "load_seconds": load_seconds,
        "encode_seconds": encode_seconds,
        "seconds": each * total + encode_seconds + load_seconds,
        "file_bytes": numbers * (4 if config.save.dtype == "fp32" else 2),
        "cache_bytes": cache_bytes,
        "peak_bytes": device.peak_memory(parts.device),
    }


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
