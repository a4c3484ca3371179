"""Writes the two image sets a newcomer starts with: `datasets/example-style` and `datasets/example-character`.

Run by `python -m tools.mini_base examples`. The base model has seen neither the style nor the character.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import mascot, poses
from .looks import LOOKS
from .render import on_background, rasterise, svg_of_icon
from .sources import check_licence, fetch, read_json, style
from .words import full_caption

PIXELS = 512
CREATED = {"example-style": "2026-11-28", "example-character": "2026-11-23"}

# Sixteen things of varied shape: animals, plants, food, vehicles, buildings, objects.
STYLE_THINGS = (
    "bear", "owl", "fish", "butterfly", "palm-tree", "mushroom", "strawberry", "pineapple",
    "pizza", "cupcake", "airplane", "bus", "house", "star", "guitar", "crown",
)  # fmt: skip


def write_style_set(npm: Path, folder: Path) -> None:
    """Sixteen drawings in the one look the base never saw: stamped in blue ink on white paper."""
    source = style("inkstamp")
    fetch([source.package], npm)
    check_licence(source.package, npm, source.licence)
    pack = read_json(source.package, npm, "icons.json")
    folder.mkdir(parents=True, exist_ok=True)
    originals = {}
    for number, icon in enumerate(STYLE_THINGS, start=1):
        drawing = rasterise(svg_of_icon(pack, icon), PIXELS)
        picture = on_background(LOOKS[str(source.look)](drawing), "white")
        caption = full_caption(icon.replace("-", " "), source.words, "white")
        originals[_save(folder, number, picture, caption)] = {"original": f"{icon}.svg"}
    _write_set(
        folder,
        name="example-style",
        kind="style",
        trigger="inkstamp style",
        title={"en": "Ink stamp", "ja": "インクスタンプ"},
        licence="MIT",
        origin=f"{source.credit}; drawn from the npm package {source.package.name} {source.package.version}",
        rights="The MIT licence of Fluent Emoji allows training, changing and sharing with the copyright notice kept.",
        pictures=originals,
    )


def write_character_set(folder: Path) -> None:
    """Sixteen pictures of the project's own mascot."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = {}
    for number, pose in enumerate(poses.EXAMPLE_POSES, start=1):
        picture = rasterise(mascot.svg(pose, PIXELS), PIXELS).convert("RGB")
        originals[_save(folder, number, picture, poses.caption(pose))] = {"original": f"zibbo-{number:02d}.svg"}
    _write_set(
        folder,
        name="example-character",
        kind="character",
        trigger=mascot.TRIGGER,
        title={"en": "Zibbo, the mascot", "ja": "マスコットのジボ"},
        licence="Apache-2.0",
        origin="Drawn by this project's own code, tools/mini_base/mascot.py",
        rights="Made for this project; free to use under its licence.",
        pictures=originals,
    )


def _save(folder: Path, number: int, picture: Any, caption: str) -> str:
    stem = f"{number:04d}"
    picture.save(folder / f"{stem}.png", optimize=True)
    (folder / f"{stem}.txt").write_text(caption + "\n", encoding="utf-8")
    return stem


def _write_set(folder: Path, **fields: Any) -> None:
    pictures = fields.pop("pictures")
    text = json.dumps({**fields, "created": CREATED[fields["name"]], "pictures": pictures}, ensure_ascii=False, indent=2)
    (folder / "set.json").write_text(text + "\n", encoding="utf-8")
