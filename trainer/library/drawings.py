"""Drawn previews on disk: one folder for one set of settings, with the pictures at each strength drawn so far.

The same settings give the same pictures, so a strength already drawn is never drawn again. Used by app/actions/previews.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.core import files
from trainer.core.locks import lock

_KEY = re.compile(r"[0-9a-f]{16}")
_FACTS = "drawing.json"


@dataclass(frozen=True)
class Drawing:
    """One set of settings and its pictures by strength. `form` is what the page showed, to show it again."""

    folder: Path
    form: dict[str, Any]
    frames: dict[float, Path] = field(default_factory=dict)
    time: float = 0.0

    @property
    def key(self) -> str:
        """The name of its folder, as of the function `key`."""
        return self.folder.name

    def best(self) -> Path | None:
        """The picture that stands for the drawing: the one nearest to strength 1."""
        return self.frames[min(self.frames, key=lambda s: abs(s - 1))] if self.frames else None


def key(base: str, stamp: Any, request: dict[str, Any]) -> str:
    """The name of the folder, 16 hex digits: a hash of everything that decides the pixels, LoRA files by name, size and time.

    OSError where a LoRA file of `request` is gone.
    """
    loras = []
    for use in request.get("loras", ()):
        state = Path(use["path"]).stat()
        loras.append([Path(use["path"]).name, state.st_size, state.st_mtime_ns, use["unet"], use["text_encoder"]])
    settings = {name: value for name, value in request.items() if name not in ("loras", "strengths")}
    text = json.dumps([base, stamp, settings, loras], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


class Drawings:
    """The drawings below one folder (`outputs/previews`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, name: str, form: dict[str, Any]) -> Drawing:
        """The drawing `name`, made where it is new; its form and time become those of now."""
        existing = self.get(name)
        return self._write(Drawing(self.folder / name, form, existing.frames if existing else {}, time.time()))

    def add(self, drawing: Drawing, strength: float, picture: Path) -> Drawing:
        """The drawing with one picture more, written down."""
        frames = {**drawing.frames, round(strength, 2): drawing.folder / picture.name}
        return self._write(Drawing(drawing.folder, drawing.form, frames, drawing.time))

    def get(self, name: str | None) -> Drawing | None:
        """The drawing of that name with the pictures that still exist, or None."""
        if not name or not _KEY.fullmatch(name):
            return None
        tree = files.read_json(self.folder / name / _FACTS)
        if not isinstance(tree, dict):
            return None
        frames: dict[float, Path] = {}
        for strength, picture in tree.get("frames", {}).items():
            path = self.folder / name / Path(str(picture)).name
            if path.is_file():
                frames[float(strength)] = path
        return Drawing(self.folder / name, tree.get("form", {}), dict(sorted(frames.items())), tree.get("time", 0.0))

    def latest(self, limit: int = 12) -> list[Drawing]:
        """The newest drawings that have a picture."""
        try:
            names = [entry.name for entry in self.folder.iterdir() if _KEY.fullmatch(entry.name)]
        except FileNotFoundError:
            return []
        facts = [(self.folder / name / _FACTS, name) for name in names]
        newest = sorted(((path.stat().st_mtime, name) for path, name in facts if path.is_file()), reverse=True)
        drawings = (self.get(name) for _, name in newest[: limit * 3])
        return [drawing for drawing in drawings if drawing and drawing.frames][:limit]

    def _write(self, drawing: Drawing) -> Drawing:
        """Write a drawing down, with the pictures another page or program drew for it meanwhile; returns it."""
        with lock(self.folder / ".lock"):
            existing = self.get(drawing.key)
            frames = dict(sorted({**(existing.frames if existing else {}), **drawing.frames}.items()))
            names = {f"{s:g}": path.name for s, path in frames.items()}
            files.write_json(drawing.folder / _FACTS, {"time": drawing.time, "form": drawing.form, "frames": names})
        return Drawing(drawing.folder, drawing.form, frames, drawing.time)
