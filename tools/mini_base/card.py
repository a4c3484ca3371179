"""Writes the model card of `models/mini` from what was trained and measured. `export.py` calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from .data import Pack
from .evaluate import table
from .sources import HANDS, STYLES, WORDS


def model_card(work: Path, pack: Pack, model: Path, machine: str, figures: dict[str, Any] | None) -> str:
    """The card as Markdown."""
    taught = [s for s in STYLES if s.taught]
    styles = ", ".join(f"`{s.words}`" for s in taught)
    things = ", ".join(c.name for c in pack.concepts)
    pictures = len(pack.where(taught=True))
    words = " and ".join(f"`{p.name}` {p.version}" for p in WORDS)
    unmeasured = "Not measured yet: run `python -m tools.mini_base evaluate`.\n"
    return f"""# Atelier Mini: the embedded base model

A small Stable Diffusion in plain diffusers form (`AutoencoderKL`, `CLIPTextModel`, `CLIPTokenizer`,
`UNet2DConditionModel`, DDIM with v-prediction and zero terminal SNR), made so that training a LoRA can be tried on any
machine in minutes. Its parts carry Stable Diffusion 1.5's module names, so LoRA files have the usual keys.

![What it draws](grid.png)

**What it is.** It draws {len(pack.concepts)} everyday things by name, in {len(taught)} styles ({styles}), on ten
background colours, at 128 x 128 pixels: `a fox, flat style, blue background`. It learnt from {pictures} drawings.
**What it is not.** It knows no photographs, no people, no scenes with several things, and no words beyond its list. It
is a place to try things, not a source of finished pictures. Use guidance 3 and 20 steps.

## Parts
{_parts(model)}

Training: {_training(work)} on {machine}. A judge begins with the text half of the one before it. The recipe is in
`tools/mini_base/`.

## Figures
{table(figures) if figures else unmeasured}
## Data and licences
Icons from npm packages, drawn with resvg on plain backgrounds and captioned from their names and keywords.

| pictures | package | licence | style word |
|---|---|---|---|
{_sources()}

Names and keywords: {words}, both MIT. The drawings were changed: rasterised, turned, scaled, put on coloured
backgrounds, and learnt from. The weights are given under Apache-2.0, with the credits above. Only the judge has seen what is
marked as its own here, and the project's mascot; the VAE, the text encoder and the UNet have not.

## Things it knows
{things}.
"""


def _parts(model: Path) -> str:
    names = {
        "vae": "VAE, f8, 8 latent channels",
        "text_encoder": "text encoder, own vocabulary",
        "unet": "UNet, cross-attention at 16 x 16 and 8 x 8",
        "judge": "judge, a small CLIP",
    }
    lines = ["| part | parameters | fp16 |", "|---|---|---|"]
    for folder, what in names.items():
        files = list((model / folder).glob("*.safetensors"))
        if files:
            size = sum(f.stat().st_size for f in files)
            lines.append(f"| {what} | {size / 2e6:.2f} M | {size / 1e6:.1f} MB |")
    return "\n".join(lines)


_STAGES = {"vae": "the VAE", "ldm": "the text encoder and the UNet", "judge": "the judge"}


def training_facts(work: Path) -> dict[str, dict[str, Any]]:
    """What each stage took: minutes, samples and steps. `carry.take_up` goes on from here."""
    facts = {}
    for stage in _STAGES:
        file = work / stage / "curve.csv"
        if file.is_file():
            with file.open(encoding="utf-8") as stream:
                last = list(csv.DictReader(stream))[-1]
            facts[stage] = {
                "minutes": round(float(last["seconds"]) / 60, 1),
                "samples": int(last["samples"]),
                "steps": int(last["step"]),
            }
    return facts


def _training(work: Path) -> str:
    facts = training_facts(work).items()
    spent = [f"{f['minutes']:.1f} min and {f['samples']:,} samples for {_STAGES[stage]}" for stage, f in facts]
    return "; ".join(spent) or "not recorded"


def _sources() -> str:
    rows = []
    for s in STYLES:
        made = f", made of the drawings by `{s.look}` in `looks.py`" if s.look else ""
        use = s.words + made + ("" if s.taught else " (judge only)")
        rows.append(f"| {s.credit} | `{s.package.name}` {s.package.version} | {s.licence} | {use} |")
    for h in HANDS:
        rows.append(f"| {h.credit} | `{h.package.name}` {h.package.version} | {h.licence} | no word (judge only) |")
    return "\n".join(rows)


def read_figures(folder: Path) -> dict[str, Any] | None:
    """The figures of an earlier evaluation, if there are any."""
    file = folder / "evaluation.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
