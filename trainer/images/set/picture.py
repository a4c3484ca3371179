"""One picture of an image set as the folder shows it: file, caption, size, and what `set.json` notes about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.config.lines import MAX_REPEATS, MAX_WEIGHT
from trainer.core.problem import Problem
from trainer.images.captions import captions
from trainer.images.captions.encodings import Reading
from trainer.images.captions.files import NO_CAPTION, CaptionFiles
from trainer.images.decoding import decode
from trainer.images.intake import gate
from trainer.images.intake.entry import Entry
from trainer.images.intake.names import fold, ignored, natural
from trainer.images.intake.roles import MASK_FOLDERS
from trainer.images.intake.sources import on_disk
from trainer.images.set.facts import PictureCache
from trainer.images.set.limits import LIMITS
from trainer.images.set.staging import MASK


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
    facts: PictureCache = field(repr=False, compare=False)
    encoding: str = "utf-8"
    """What its caption file is written in, by Python's name."""
    mask: Path | None = None
    """The mask beside it in another program's manner (`name-masklabel.png`, `masks/name.png`); see masks.py."""

    @cached_property
    def content(self) -> str:
        """SHA-256 of the decoded pixels: the key of everything computed from the picture."""
        content_hash = self.facts.get(self.file, "content")
        if not isinstance(content_hash, str):
            content_hash = decode.content_hash(self.load())
            self.facts.put(self.file, content=content_hash)
            self.facts.save(soon=True)
        return content_hash

    def load(self) -> Image.Image:
        """The picture as upright 8-bit sRGB. Raises `Problem("picture_broken")` where it cannot be read."""
        try:
            with open(self.file, "rb") as file:
                return decode.decode(file)[0]
        except (decode.Refused, OSError) as error:
            raise Problem("picture_broken", picture=self.file.name, detail=str(error)) from error


Unreadable = tuple[Path, decode.Refused]


def scan(
    folder: Path, notes: Mapping[str, Any], facts: PictureCache, only: str | None = None, encoding: str | None = None
) -> tuple[list[Picture], list[Unreadable]]:
    """The pictures in `folder` in natural order, and the files meant as pictures whose header says they are none.

    With `only`, just those that could be the picture of that id. `encoding` is what captions are read in that are not UTF-8.
    """
    sorted_ = sort_folder(folder)
    texts = [source.entry.path for source in sorted_.captions.values() if source.text is None]
    texts += [entry.path for entry in sorted_.alone]
    written = CaptionFiles([path for path in dict.fromkeys(texts) if path], encoding)
    pictures: list[Picture] = []
    bad: list[Unreadable] = []
    ids: set[str] = set()
    stems = (only, Path(only).stem) if only else ()
    for entry in sorted(sorted_.pictures, key=lambda entry: natural(entry.file)):
        if only is not None and entry.stem not in stems:
            continue
        file = folder / entry.file
        try:
            width, height = _size(file, facts)
        except (decode.Refused, OSError) as error:
            bad.append((file, error if isinstance(error, decode.Refused) else decode.Refused("unreadable_file")))
            continue
        id_ = entry.file if entry.stem in ids else entry.stem
        ids.add(id_)
        source, mask = sorted_.captions.get(entry), sorted_.masks.get(entry)
        pictures.append(_picture(id_, file, (width, height), notes.get(id_), source, mask, written, facts))
    return pictures, bad


def sort_folder(folder: Path) -> gate.Sorted:
    """What lies in a folder that is used in place, by raw names: pictures with captions and masks, and what is to be told.

    Folders below are not read, but for those with masks.
    """
    entries: list[Entry] = []
    for item in os.scandir(folder):
        if ignored(item.name):
            continue
        if item.is_file():
            entries.append(on_disk(item.path, item.name))
        elif fold(item.name) in MASK_FOLDERS and item.is_dir():
            inside = [below for below in os.scandir(item.path) if below.is_file() and not ignored(below.name)]
            masks = [on_disk(below.path, f"{item.name}/{below.name}") for below in inside]
            entries += [mask for mask in masks if mask.kind == "picture"]
    entries.sort(key=lambda entry: entry.name)
    sorted_ = gate.sort(entries, LIMITS, probe=False)
    sorted_.pictures = [entry for entry in sorted_.pictures if not entry.folder]
    return sorted_


def _picture(
    id_: str,
    file: Path,
    size: tuple[int, int],
    note: Any,
    source: gate.CaptionSource | None,
    mask: Entry | None,
    written: CaptionFiles,
    facts: PictureCache,
) -> Picture:
    note = note if isinstance(note, dict) else {}
    text = source.entry.path if source and source.text is None else None
    reading = written.read(text) if text else Reading(source.text, "utf-8") if source and source.text else NO_CAPTION
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
        mask=mask.path if mask and mask.file != f"{file.stem}{MASK}" else None,
    )


def _size(file: Path, facts: PictureCache) -> tuple[int, int]:
    """Width and height as shown, from the header alone."""
    cached = facts.get(file, "size")
    if isinstance(cached, list) and len(cached) == 2:
        return cached[0], cached[1]
    with open(file, "rb") as handle:
        size = decode.upright_size(decode.open_picture(handle).image)
    facts.put(file, size=list(size))
    return size
