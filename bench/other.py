"""The cases beside training: what a folded LoRA costs a picture, what preparing a set costs, what a large set costs a step."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from bench import setting
from bench.cases import Case
from bench.limit import wait
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.adapters.fold import LoraFuser, LoraStrength
from trainer.bases.families import ModelComponents
from trainer.engine.data import batches
from trainer.engine.data.latents import LatentCache
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter
from trainer.engine.speed import device
from trainer.images.set.examples import View


def preview(case: Case) -> dict[str, Any]:
    """Seconds of a picture with a LoRA folded in against the bare base, in turns. `ratio` above 0.98: it costs nothing."""
    config = setting.config_of(case)
    with tempfile.TemporaryDirectory() as folder:
        parts = setting.load_parts(case)
        adapter = Adapter(parts, config)
        for parameter in adapter.parameters():
            parameter.data += 0.01
        told = metadata.build(
            config,
            parts.facts,
            steps=1,
            total_steps=1,
            items=[],
            loss=None,
            started=0,
            finished=0,
            name="bench",
            run_id="bench",
            cover=None,
        )
        path = lora_file.write(Path(folder) / "bench.safetensors", adapter.export_layers(), told, "fp16", parts.family.name)
        studio = ImageSampler(setting.load_parts(case))
        asked = GenerateRequest("a fox", steps=3, guidance=3.0, width=case.resolution, height=case.resolution)
        folded = GenerateRequest(**{**asked.__dict__, "loras": (LoraStrength(path),)})
        times: dict[str, list[float]] = {"ours": [], "reference": []}
        turn = [("ours", folded), ("reference", asked)]
        for _ in range(case.rounds + 1):
            turn.reverse()
            for name, request in turn:
                begun = time.perf_counter()
                next(iter(studio.draw(request)))
                times[name].append(time.perf_counter() - begun)
        step = _step_ratio(studio.parts, path, case)
    each = {name: median(values[1:]) for name, values in times.items()}
    ratios = [r / o for o, r in zip(times["ours"][1:], times["reference"][1:], strict=True)]
    return _facts(case, 1 / each["ours"], 1 / each["reference"], "pictures/s") | {"ratio": median(ratios), "step_ratio": step}


@torch.no_grad()
def _step_ratio(parts: ModelComponents, path: Path, case: Case) -> float:
    """Seconds of one UNet call with the bare base to those with the LoRA folded in, in turns; the folding itself left out."""
    fuser, side = LoraFuser(parts), case.resolution // 8
    condition = parts.family.encode(parts, parts.family.tokens(parts, ["", "a fox"]))
    noisy = torch.randn(2, parts.unet.config.in_channels, side, side, device=parts.device, dtype=parts.dtype)
    t = torch.tensor([500, 500], device=parts.device)
    ratios = []
    for number in range(2 * case.rounds):
        seconds = {}
        for uses in ([], [LoraStrength(path)]) if number % 2 else ([LoraStrength(path)], []):
            fuser.fuse(uses)
            parts.family.predict(parts, noisy, t, condition)
            wait(case.device)
            begun = time.perf_counter()
            for _ in range(4):
                parts.family.predict(parts, noisy, t, condition)
            wait(case.device)
            seconds[bool(uses)] = time.perf_counter() - begun
        fuser.unfuse()
        ratios.append(seconds[False] / seconds[True])
    return median(ratios)


@torch.no_grad()
def prepare(case: Case) -> dict[str, Any]:
    """Pictures a second from files to cached latents, against a loop that decodes and encodes one after the other, and the
    second start, which reads the cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for number in range(case.pictures):
            rough = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
            rough.resize((640, 640), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.png")
        config = setting.config_of(case)
        config = config.model_copy(update={"images": config.images.model_copy(update={"folder": name})})
        items = batches.load_examples(config, case.resolution)
        parts = setting.load_parts(case)
        for item in items:
            _ = item.picture.content  # taken in on the page, a set has these already
        begun = time.perf_counter()
        for item in items:
            picture = item.picture.load().resize(item.bucket, Image.Resampling.LANCZOS)
            pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
            parts.vae.encode(pixels.to(parts.device)).latent_dist.parameters.cpu()
        plain = time.perf_counter() - begun
        seconds = []
        for _ in range(2):
            latents = LatentCache(parts, folder / "cache")
            begun = time.perf_counter()
            latents.prepare(items, False, lambda done, of: None)
            seconds.append(time.perf_counter() - begun)
    told = _facts(case, case.pictures / seconds[0], case.pictures / plain, "pictures/s")
    return told | {"pictures": case.pictures, "seconds": seconds[0], "second_start_seconds": seconds[1]}


def growth(case: Case) -> dict[str, Any]:
    """Microseconds of choosing a batch by size of the set. `ratio`: 10 pictures' to 10,000 pictures'."""
    each = {}
    for many in (10, 100, 1000, 10_000):
        items: Any = [SimpleNamespace(bucket=(128, 128), picture=SimpleNamespace(id=str(i), repeats=1)) for i in range(many)]
        stream = batches.BucketBatchSampler(items, 4, 0, True).batches()
        looks = max(2 * many, 2000)
        begun = time.perf_counter()
        for _ in itertools.islice(stream, looks // 4):
            pass
        each[str(many)] = (time.perf_counter() - begun) / (looks // 4) * 1e6
    told = {"microseconds_by_pictures": each, "step_milliseconds_by_pictures": _step_milliseconds(case)}
    return _facts(case, 1e6 / each["10000"], 1e6 / each["10"], "batches/s") | told


def _step_milliseconds(case: Case) -> dict[str, float]:
    """Milliseconds of a whole training step by size of the set, the sizes in turns; every picture has been looked at before."""
    from bench.ours import Ours

    sizes, first = (10, 100, 1000, 10_000), batches.load_examples(setting.config_of(case), case.resolution)[0]
    trainers, times = {}, {size: [] for size in sizes}
    for size in sizes:
        items = [replace(first, picture=replace(first.picture, id=str(number))) for number in range(size)]
        trainers[size] = trainer = Ours(case)
        for item in items:
            trainer.run.objective.latents.posterior(View(item, False))
        trainer.batches = batches.BucketBatchSampler(items, case.batch, 0, False).batches()
        trainer.step()
    for _ in range(case.rounds):
        for size in sizes:
            begun = time.perf_counter()
            trainers[size].step()
            wait(case.device)
            times[size].append(time.perf_counter() - begun)
    return {str(size): median(times[size]) * 1000 for size in sizes}


def steady(case: Case) -> dict[str, Any]:
    """Resident memory, and the card's, over a long training. `ratio`: resident bytes after a tenth of the steps to those at the
    end; 1 is flat."""
    from bench.ours import Ours

    trainer, process = Ours(case), psutil.Process()
    trainer.outcome.tell = deque(maxlen=100).append
    tenth, sizes, card = case.steps // 10, [], []
    for number in range(case.steps):
        trainer.step()
        if (number + 1) % tenth == 0:
            sizes.append(process.memory_info().rss)
            if case.device == "cuda":
                card.append(torch.cuda.memory_allocated())
    told = _facts(case, 1 / sizes[-1], 1 / sizes[0], "1/bytes")
    return told | {
        "steps": case.steps,
        "resident_megabytes_by_tenth": _megabytes(sizes),
        "card_megabytes_by_tenth": _megabytes(card),
    }


def _megabytes(sizes: list[int]) -> list[float]:
    return [round(size / 2**20, 1) for size in sizes]


def _facts(case: Case, ours: float, reference: float, unit: str) -> dict[str, Any]:
    peak = device.peak_memory(torch.device(case.device))
    return {
        "case": case.name,
        "ours": ours,
        "reference": reference,
        "unit": unit,
        "ratio": ours / reference,
        "share_of_limit": None,
        "peak_bytes": peak,
        "peak_process_bytes": psutil.Process().memory_info().rss,
    }
