"""The cases beside training: what a folded LoRA costs a picture, what preparing a set costs, what a large set costs a step."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench import setting
from bench.cases import Case
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.adapters.fold import Use
from trainer.engine import data, device
from trainer.engine.cache import Latents
from trainer.engine.inject import Adapter
from trainer.engine.sampling import DrawRequest, Studio

PICTURES = 64


def preview(case: Case) -> dict[str, Any]:
    """Seconds of a picture with a LoRA folded in against the bare base, in turns. `ratio` above 0.98: it costs nothing."""
    config = setting.config_of(case)
    with tempfile.TemporaryDirectory() as folder:
        parts = setting.load_parts(case)
        adapter = Adapter(parts, config)
        for parameter in adapter.parameters():
            parameter.data += 0.01
        told = metadata.build(config, parts.facts, steps=1, total_steps=1, items=[], loss=None, started=0, finished=0,
                              name="bench", run_id="bench", cover=None)
        path = lora_file.write(Path(folder) / "bench.safetensors", adapter.factors(), told, "fp16", parts.family.name)
        studio = Studio(setting.load_parts(case))
        asked = DrawRequest("a fox", steps=3, guidance=3.0, width=case.resolution, height=case.resolution)
        folded = DrawRequest(**{**asked.__dict__, "loras": (Use(path),)})
        times: dict[str, list[float]] = {"ours": [], "reference": []}
        turn = [("ours", folded), ("reference", asked)]
        for _ in range(case.rounds + 1):
            turn.reverse()
            for name, request in turn:
                begun = time.perf_counter()
                next(iter(studio.draw(request)))
                times[name].append(time.perf_counter() - begun)
    each = {name: median(values[1:]) for name, values in times.items()}
    ratios = [r / o for o, r in zip(times["ours"][1:], times["reference"][1:], strict=True)]
    return _facts(case, 1 / each["ours"], 1 / each["reference"], "pictures/s") | {"ratio": median(ratios)}


@torch.no_grad()
def prepare(case: Case) -> dict[str, Any]:
    """Pictures a second from files to cached latents, against a loop that decodes and encodes one after the other, and the
    second start, which reads the cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for number in range(PICTURES):
            rough = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
            rough.resize((640, 640), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.png")
        config = setting.config_of(case)
        config = config.model_copy(update={"images": config.images.model_copy(update={"folder": name})})
        items = data.load_items(config, case.resolution)
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
            latents = Latents(parts, folder / "cache")
            begun = time.perf_counter()
            latents.prepare(items, False, lambda done, of: None)
            seconds.append(time.perf_counter() - begun)
    told = _facts(case, PICTURES / seconds[0], PICTURES / plain, "pictures/s")
    return told | {"pictures": PICTURES, "second_start_pictures_per_second": PICTURES / seconds[1]}


def growth(case: Case) -> dict[str, Any]:
    """Microseconds of choosing a batch by size of the set. `ratio`: 10 pictures' to 10,000 pictures'."""
    each = {}
    for many in (10, 100, 1000, 10_000):
        items: Any = [SimpleNamespace(bucket=(128, 128), picture=SimpleNamespace(id=str(i), repeats=1)) for i in range(many)]
        stream = data.Plan(items, 4, 0, True).batches()
        looks = max(2 * many, 2000)
        begun = time.perf_counter()
        for _ in itertools.islice(stream, looks // 4):
            pass
        each[str(many)] = (time.perf_counter() - begun) / (looks // 4) * 1e6
    return _facts(case, 1e6 / each["10000"], 1e6 / each["10"], "batches/s") | {"microseconds_by_pictures": each}


def _facts(case: Case, ours: float, reference: float, unit: str) -> dict[str, Any]:
    peak = device.peak_memory(torch.device(case.device))
    return {"case": case.name, "ours": ours, "reference": reference, "unit": unit, "ratio": ours / reference,
            "share_of_limit": None, "peak_bytes": peak}
