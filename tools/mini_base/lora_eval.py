"""Measures what a LoRA learns on the embedded base, through the project's own commands.

`python -m tools.mini_base lora` calls `measure_style` and `measure_character`: train with `launch.py train`, draw with
`launch.py sample` at several strengths, and ask the judge. What was tried is written to one JSON file.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .concepts import Concept
from .data import Pack
from .example_sets import STYLE_THINGS
from .judge import thing_sentences
from .judging import MASCOT_NAME, STYLE_SENTENCES, Judge
from .sources import STYLES
from .words import article, full_caption

ROOT = Path(__file__).resolve().parents[2]
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.3, 1.5)
_INK = next(i for i, s in enumerate(STYLES) if not s.taught)


def things_not_in_the_set(pack: Pack, many: int = 40, seed: int = 4) -> list[Concept]:
    """Things the example style's set does not show."""
    others = [c for c in pack.concepts if c.slug not in STYLE_THINGS]
    return random.Random(seed).sample(others, min(many, len(others)))


def train(name: str, images: Path, preset: str, model: Path, home: Path, extra: Sequence[str]) -> tuple[Path, float]:
    """`launch.py train`; the LoRA file and the seconds it took."""
    started = time.monotonic()
    what = ("--images", str(images), "--name", name, "--preset", preset, "--base", str(model), "--rights")
    _command("train", *what, "--home", str(home), *extra)
    files = sorted((home / "outputs" / "loras").glob(f"{name}*.safetensors"), key=lambda f: f.stat().st_mtime)
    return files[-1], time.monotonic() - started


def sample(lora: Path, prompts: Sequence[str], model: Path, home: Path, out: Path) -> dict[float, list[Image.Image]]:
    """`launch.py sample`; the pictures by strength, in the order of the prompts."""
    spoken = [word for prompt in prompts for word in ("--prompt", prompt)]
    steps = ",".join(f"{s:g}" for s in STRENGTHS)
    where = ("--base", str(model), "--home", str(home), "--out", str(out))
    _command("sample", str(lora), *spoken, "--strengths", steps, "--seed", "7", *where)
    return {s: [Image.open(out / f"p{k}_s{s:.2f}.png").convert("RGB") for k in range(len(prompts))] for s in STRENGTHS}


def measure_style(judge: Judge, pack: Pack, lora: Path, model: Path, home: Path, out: Path) -> dict[str, Any]:
    """By strength: share judged to be in the taught style, and share whose thing is still recognised."""
    things = things_not_in_the_set(pack)
    prompts = [full_caption(c.name, STYLES[_INK].words, "white") for c in things]
    drawn = sample(lora, prompts, model, home, out)
    sentences = thing_sentences(pack)
    right = np.array([pack.place_of[c.slug] for c in things])
    result: dict[str, Any] = {"style": {}, "thing": {}, "difference": {}}
    base = np.stack([np.asarray(p, dtype=np.float32) for p in drawn[0.0]])
    for strength, pictures in drawn.items():
        key = f"{strength:g}"
        result["style"][key] = _share(judge.scores(pictures, STYLE_SENTENCES).argmax(1) == _INK)
        result["thing"][key] = _share(judge.scores(pictures, sentences).argmax(1) == right)
        now = np.stack([np.asarray(p, dtype=np.float32) for p in pictures])
        result["difference"][key] = round(float(np.abs(now - base).mean()), 2)
    return result


def measure_character(judge: Judge, pack: Pack, lora: Path, model: Path, home: Path, out: Path) -> dict[str, Any]:
    """By strength: share of pictures that show the mascot, from its trigger and without it."""
    grounds = ("white", "red", "blue", "yellow", "green", "pink", "gray", "orange")
    doing = ("", " waving", " jumping", " looking up", " holding a star")
    called = [f"a {MASCOT_NAME}{how}, {ground} background" for how in doing for ground in grounds]
    others = [f"{article(c.name)}{c.name}, flat style, white background" for c in things_not_in_the_set(pack, 20)]
    drawn = sample(lora, [*called, *others], model, home, out)
    sentences = thing_sentences(pack)
    result: dict[str, Any] = {"from_trigger": {}, "without_trigger": {}}
    for strength, pictures in drawn.items():
        is_mascot = judge.scores(pictures, sentences).argmax(1) == len(pack.concepts)
        result["from_trigger"][f"{strength:g}"] = _share(is_mascot[: len(called)])
        result["without_trigger"][f"{strength:g}"] = _share(is_mascot[len(called) :])
    return result


def run(model: Path, pack: Pack, home: Path, out: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Train and measure both examples with the same overrides; append to `out/lora.json`: every trial is kept."""
    judge = Judge(model / "judge", _tokenizer(model))
    trial: dict[str, Any] = {"overrides": list(overrides), "strengths": list(STRENGTHS)}
    name = f"trial-{int(time.time())}"
    for kind, measure in (("style", measure_style), ("character", measure_character)):
        images = ROOT / "datasets" / f"example-{kind}"
        lora, seconds = train(f"{name}-{kind}", images, kind, model, home, overrides)
        trial[kind] = {"seconds": round(seconds, 1), **measure(judge, pack, lora, model, home, out / f"{name}-{kind}")}
    file = out / "lora.json"
    trials = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    trials.append(trial)
    file.write_text(json.dumps(trials, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(trial, indent=2), flush=True)
    return trial


def _tokenizer(model: Path) -> Any:
    from .tokenizer import load

    return load(model / "tokenizer")


def _command(*words: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "launch.py"), *words], cwd=ROOT, check=True)


def _share(hits: np.ndarray) -> float:
    return round(float(hits.mean()), 4)
