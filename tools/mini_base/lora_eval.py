"""Measures what a LoRA learns on the embedded base, through the project's own commands.

`python -m tools.mini_base lora` calls `run`: train with `launch.py train`, draw with `launch.py sample` at several
strengths, and ask the judge. What was tried is written to one JSON file.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from .words import full_caption

ROOT = Path(__file__).resolve().parents[2]
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.3, 1.5)
KINDS = ("style", "character")
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


@dataclass(frozen=True)
class Measure:
    """What every measure needs: who judges, what things there are, where pictures go, at which strengths."""

    judge: Judge
    pack: Pack
    model: Path
    home: Path
    out: Path
    strengths: Sequence[float] = STRENGTHS
    many: int = 40

    def sample(self, lora: Path, prompts: Sequence[str]) -> dict[float, list[Image.Image]]:
        """`launch.py sample`; the pictures by strength, in the order of the prompts."""
        spoken = [word for prompt in prompts for word in ("--prompt", prompt)]
        steps = ",".join(f"{s:g}" for s in self.strengths)
        where = ("--base", str(self.model), "--home", str(self.home), "--out", str(self.out))
        _command("sample", str(lora), *spoken, "--strengths", steps, "--seed", "7", *where)
        names = {s: [f"p{k}_s{s:.2f}.png" for k in range(len(prompts))] for s in self.strengths}
        return {s: [Image.open(self.out / name).convert("RGB") for name in row] for s, row in names.items()}

    def named(self, pictures: Sequence[Image.Image], things: Sequence[Concept], among: int = 1) -> float:
        """The share of pictures whose thing is among the judge's first guesses."""
        right = np.array([[self.pack.place_of[c.slug]] for c in things])
        order = np.argsort(-self.judge.scores(pictures, thing_sentences(self.pack)), axis=1)
        return _share((order[:, :among] == right).any(1))

    def style(self, lora: Path) -> dict[str, Any]:
        """By strength: shares judged to be in the taught style, and whose thing is still named, first and among five."""
        things = things_not_in_the_set(self.pack, self.many)
        drawn = self.sample(lora, [full_caption(c.name, STYLES[_INK].words, "white") for c in things])
        result: dict[str, Any] = {"style": {}, "thing": {}, "thing_top5": {}, "difference": {}}
        base = _stack(drawn[min(drawn)])
        for strength, pictures in drawn.items():
            key = f"{strength:g}"
            result["style"][key] = _share(self.judge.scores(pictures, STYLE_SENTENCES).argmax(1) == _INK)
            result["thing"][key] = self.named(pictures, things)
            result["thing_top5"][key] = self.named(pictures, things, 5)
            result["difference"][key] = round(float(np.abs(_stack(pictures) - base).mean()), 2)
        return result

    def character(self, lora: Path) -> dict[str, Any]:
        """By strength: shares that show the mascot, from its trigger and without it, and of other things still named."""
        grounds = ("white", "red", "blue", "yellow", "green", "pink", "gray", "orange")
        doing = ("", " waving", " jumping", " looking up", " holding a star")
        called = [f"a {MASCOT_NAME}{how}, {ground} background" for how in doing for ground in grounds]
        things = things_not_in_the_set(self.pack, self.many // 2)
        others = [full_caption(c.name, STYLES[0].words, "white") for c in things]
        drawn = self.sample(lora, [*called, *others])
        sentences = thing_sentences(self.pack)
        result: dict[str, Any] = {"from_trigger": {}, "without_trigger": {}, "others_named": {}}
        for strength, pictures in drawn.items():
            is_mascot = self.judge.scores(pictures, sentences).argmax(1) == len(self.pack.concepts)
            result["from_trigger"][f"{strength:g}"] = _share(is_mascot[: len(called)])
            result["without_trigger"][f"{strength:g}"] = _share(is_mascot[len(called) :])
            result["others_named"][f"{strength:g}"] = self.named(pictures[len(called) :], things)
        return result


def run(
    model: Path,
    pack: Pack,
    home: Path,
    out: Path,
    overrides: Sequence[str],
    *,
    kinds: Sequence[str] = KINDS,
    strengths: Sequence[float] = STRENGTHS,
    many: int = 40,
) -> dict[str, Any]:
    """Train and measure the examples with the same overrides; append to `out/lora.json`: every trial is kept."""
    judge = Judge(model / "judge", _tokenizer(model))
    trial: dict[str, Any] = {"overrides": list(overrides), "strengths": list(strengths), "many": many}
    name = f"trial-{int(time.time())}"
    for kind in kinds:
        lora, seconds = train(f"{name}-{kind}", ROOT / "datasets" / f"example-{kind}", kind, model, home, overrides)
        measure = Measure(judge, pack, model, home, out / f"{name}-{kind}", strengths, many)
        trial[kind] = {"seconds": round(seconds, 1), **getattr(measure, kind)(lora)}
    file = out / "lora.json"
    trials = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    trials.append(trial)
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(trials, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(trial, indent=2), flush=True)
    return trial


def _tokenizer(model: Path) -> Any:
    from .tokenizer import load

    return load(model / "tokenizer")


def _command(*words: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "launch.py"), *words], cwd=ROOT, check=True)


def _stack(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(p, dtype=np.float32) for p in pictures])


def _share(hits: np.ndarray) -> float:
    return round(float(hits.mean()), 4)
