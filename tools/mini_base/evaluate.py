"""Measures a finished model: the table of the model card.

`python -m tools.mini_base evaluate` calls `evaluate`: 200 prompts (things x styles x backgrounds, half of them
combinations never seen in training), judged by the judge, the background by corner pixels, the autoencoder in dB.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import ldm
from . import vae as vae_stage
from .data import Pack
from .judge import thing_sentences
from .judging import STYLE_SENTENCES, Judge
from .progress import grid
from .render import BACKGROUNDS, nearest_background
from .sources import STYLES
from .views import Views
from .words import full_caption

_STYLES = [s.key for s in STYLES]


@dataclass(frozen=True)
class Question:
    """One prompt and what its picture should show."""

    prompt: str
    thing: int
    style: int
    background: str
    combination_seen: bool


def questions(pack: Pack, many: int = 200, seed: int = 3) -> list[Question]:
    """Half from combinations kept back, half from taught ones, backgrounds alike."""
    chance = random.Random(seed)
    kept_back, taught = pack.kept_back(), pack.where(taught=True)
    half = min(many // 2, len(kept_back))
    places = chance.sample(kept_back, half) + chance.sample(taught, min(many - half, len(taught)))
    asked = []
    for number, place in enumerate(places):
        drawing = pack.drawings[place]
        ground = chance.choice(list(BACKGROUNDS))
        words = STYLES[_STYLES.index(drawing.style)].words
        prompt = full_caption(pack.concept(drawing).name, words, ground)
        style = _STYLES.index(drawing.style)
        asked.append(Question(prompt, pack.place_of[drawing.slug], style, ground, number >= half))
    return asked


def evaluate(
    model: Path,
    pack: Pack,
    out: Path,
    *,
    many: int = 200,
    steps: int = 20,
    guidance: float = 3.0,
    device: str | None = None,
) -> dict[str, Any]:
    """Draw, judge, measure; write `evaluation.json`, `evaluation.md` and a grid into `out`, and return the figures."""
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    from .progress import device_for

    where = device_for(device)
    pipe = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32).to(where)
    pipe.set_progress_bar_config(disable=True)
    judge = Judge(model / "judge", pipe.tokenizer)
    asked = questions(pack, many)
    prompts = [q.prompt for q in asked]
    pictures = ldm.draw(pipe, prompts, steps=steps, guidance=guidance)
    again = ldm.draw(pipe, prompts[:20], seed=1000, steps=steps, guidance=guidance)

    right = np.array([[q.thing] for q in asked])
    order = np.argsort(-judge.scores(pictures, thing_sentences(pack)), axis=1)
    top1, top5 = (order[:, :1] == right).any(1), (order[:, :5] == right).any(1)
    style = judge.scores(pictures, STYLE_SENTENCES).argmax(1) == np.array([q.style for q in asked])
    ground = np.array([nearest_background(p) == q.background for p, q in zip(pictures, asked, strict=True)])
    seen = np.array([q.combination_seen for q in asked])
    apart = [np.abs(_array(a) - _array(b)).mean() for a, b in zip(pictures[: len(again)], again, strict=True)]
    views = Views(pack, where, pipe.unet.config.sample_size * 8)
    psnr, _, _ = vae_stage.reconstruction_psnr(pipe.vae, views, (pack.kept_back() or pack.where(taught=True))[:256])
    figures: dict[str, Any] = {
        "prompts": len(asked),
        "thing_top1": _share(top1),
        "thing_top1_new_combinations": _share(top1[~seen]),
        "thing_top5": _share(top5),
        "thing_top5_new_combinations": _share(top5[~seen]),
        "style": _share(style),
        "style_by_word": _by_word(asked, style),
        "background": _share(ground),
        "psnr_db": round(psnr, 2),
        "seeds_apart": round(float(np.mean(apart)), 2),
        "seconds_per_picture": _seconds(pipe, prompts[0], steps, guidance) if where.type == "cpu" else None,
        "steps": steps,
        "guidance": guidance,
    }
    accuracy = model / "judge" / "accuracy.json"
    if accuracy.is_file():
        figures["judge_itself"] = json.loads(accuracy.read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (out / "evaluation.md").write_text(table(figures), encoding="utf-8")
    names = [f"{'' if ok else 'x '}{q.prompt}" for q, ok in zip(asked, top1, strict=True)]
    grid(pictures, 10, out / "evaluation.png", names)
    print(table(figures), flush=True)
    return figures


def _by_word(asked: list[Question], hits: np.ndarray) -> dict[str, float]:
    """The share of hits for each style, by the word that calls it."""
    styles = np.array([q.style for q in asked])
    return {STYLES[k].words: _share(hits[styles == k]) for k in sorted(set(styles.tolist()))}


def _array(picture: Any) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float32)


def _share(hits: np.ndarray) -> float:
    return round(float(hits.mean()), 4) if len(hits) else 0.0


def _seconds(pipe: Any, prompt: str, steps: int, guidance: float) -> float:
    """Seconds for one picture drawn alone, the better of two."""
    taken = []
    for _ in range(2):
        started = time.monotonic()
        ldm.draw(pipe, [prompt], steps=steps, guidance=guidance)
        taken.append(time.monotonic() - started)
    return round(min(taken), 2)


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown, beside what was aimed at."""
    rows = [
        ("thing, first guess", figures["thing_top1"], 0.60),
        ("thing, first guess, combinations never seen", figures["thing_top1_new_combinations"], 0.60),
        ("thing, among five", figures["thing_top5"], 0.85),
        ("thing, among five, combinations never seen", figures["thing_top5_new_combinations"], 0.85),
        ("style", figures["style"], 0.90),
        *((f"style: {word}", share, 0.90) for word, share in figures.get("style_by_word", {}).items()),
        ("background colour (corner pixels)", figures["background"], 0.90),
    ]
    lines = [f"| {figures['prompts']} prompts | reached | aimed at |", "|---|---|---|"]
    lines += [f"| {name} | {value:.1%} | {aim:.0%} |" for name, value, aim in rows]
    lines.append(f"| autoencoder, kept-back drawings | {figures['psnr_db']:.1f} dB | 26 dB |")
    lines.append(f"| mean difference between two seeds (0..255) | {figures['seeds_apart']:.1f} | above 5 |")
    if figures["seconds_per_picture"] is not None:
        lines.append(f"| one picture, {figures['steps']} steps, CPU | {figures['seconds_per_picture']:.1f} s | 3 s |")
    for name, value in figures.get("judge_itself", {}).items():
        lines.append(f"| the judge on drawings it never learnt: {name.replace('_', ' ')} | {value:.1%} | |")
    return "\n".join(lines) + "\n"
