"""One picture of an image set as the folder shows it: file, caption, size, and what `set.json` notes about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.images import captions, decode
from trainer.images.caption_files import NONE, CaptionFiles
from trainer.images.facts import Facts
from trainer.images.sources import CAPTIONS, NAMED, fold, natural
from trainer.images.staging import MASK
from trainer.problem import Problem

MAX_REPEATS = 200
MAX_WEIGHT = 10.0


@dataclass(frozen=True)
class Picture:
    """`original` is the name it came with: text for showing, never a path."""

    id: str
    file: Path
    caption_file: Path
    """Where the caption is, or would be."""
    caption: str
    width: int
    height: int
    original: str
    repeats: int
    focus: tuple[float, float] | None
    added: str
    weight: float
    """How much an error on it counts, against 1."""
    facts: Facts = field(repr=False, compare=False)
    encoding: str = "utf-8"
    """What its caption file is written in, by Python's name."""

    @cached_property
    def content(self) -> str:
        """SHA-256 of the decoded pixels: the key of everything computed from the picture."""
        known = self.facts.get(self.file, "content")
        if not isinstance(known, str):
            known = decode.content_hash(self.load())
            self.facts.put(self.file, content=known)
            self.facts.save(soon=True)
        return known

    def load(self) -> Image.Image:
        """The picture as upright 8-bit sRGB. Raises `Problem("picture_broken")` where it cannot be read."""
        try:
            with open(self.file, "rb") as file:
                return decode.decode(file)[0]
        except (decode.Refused, OSError) as error:
            raise Problem("picture_broken", picture=self.file.name, detail=str(error)) from error


Unreadable = tuple[Path, decode.Refused]


def scan(
    folder: Path, notes: Mapping[str, Any], facts: Facts, only: str | None = None, encoding: str | None = None
) -> tuple[list[Picture], list[Unreadable]]:
    """The pictures in `folder` in natural order, and the files meant as pictures whose header says they are none.

    With `only`, just those that could be the picture of that id. `encoding` is what captions are read in that are not UTF-8.
    """
    listing = sorted((f for f in folder.iterdir() if not f.name.startswith(".")), key=lambda file: natural(file.name))
    texts = {fold(file.name): file for file in listing if file.suffix.lower() in CAPTIONS}
    written = CaptionFiles(texts.values(), encoding)
    found: list[Picture] = []
    bad: list[Unreadable] = []
    ids: set[str] = set()
    stems = {file.stem for file in listing}
    for file in listing:
        if file.name.endswith(MASK) and file.name.removesuffix(MASK) in stems:
            continue
        if file.suffix.lower() not in NAMED or only not in (None, file.stem, file.name) or not file.is_file():
            continue
        try:
            width, height = _size(file, facts)
        except (decode.Refused, OSError) as error:
            bad.append((file, error if isinstance(error, decode.Refused) else decode.Refused("unreadable_file")))
            continue
        id_ = file.name if file.stem in ids else file.stem
        ids.add(id_)
        found.append(_picture(id_, file, (width, height), notes.get(id_), texts, written, facts))
    return found, bad


def _picture(
    id_: str, file: Path, size: tuple[int, int], note: Any, texts: Mapping[str, Path], written: CaptionFiles, facts: Facts
) -> Picture:
    note = note if isinstance(note, dict) else {}
    names = [fold(base) + ending for ending in CAPTIONS for base in (file.stem, file.name)]
    text = next((texts[name] for name in names if name in texts), None)
    reading = written.read(text) if text else NONE
    focus, repeats, weight = note.get("focus"), note.get("repeats"), note.get("weight")
    if not (isinstance(focus, list) and len(focus) == 2 and all(isinstance(part, int | float) for part in focus)):
        focus = None
    return Picture(
        id=id_,
        file=file,
        caption_file=text or file.with_suffix(".txt"),
        caption=captions.clean(reading.text),
        width=size[0],
        height=size[1],
        original=note["original"] if isinstance(note.get("original"), str) else file.name,
        repeats=repeats if isinstance(repeats, int) and 1 <= repeats <= MAX_REPEATS else 1,
        focus=(float(focus[0]), float(focus[1])) if focus else None,
        added=note["added"] if isinstance(note.get("added"), str) else "",
        weight=float(weight) if isinstance(weight, int | float) and 0 < weight <= MAX_WEIGHT else 1.0,
        facts=facts,
        encoding=reading.encoding,
    )


def _size(file: Path, facts: Facts) -> tuple[int, int]:
    """Width and height as shown, from the header alone."""
    known = facts.get(file, "size")
    if isinstance(known, list) and len(known) == 2:
        return known[0], known[1]
    with open(file, "rb") as handle:
        size = decode.upright_size(decode.open_picture(handle).image)
    facts.put(file, size=list(size))
    return size
