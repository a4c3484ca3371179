"""The caption files of a folder, read together. Used wherever a set is opened (picture.py) and re-read (rereading.py)."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from trainer.images.captions import captions, encodings
from trainer.images.captions.encodings import Reading
from trainer.images.set.limits import LIMITS

NO_CAPTION = Reading("", "utf-8")


class CaptionFiles:
    """Caption files of one folder. `encoding` is what all are read in that are not UTF-8; None finds it out."""

    def __init__(self, files: Collection[Path], encoding: str | None = None) -> None:
        self.files, self.encoding = list(files), encoding

    def read(self, file: Path) -> Reading:
        """One of them; empty where it cannot be read or is far too large. The others are opened only if they matter."""
        data = data_of(file)
        if data is None:
            return NO_CAPTION
        sure = encodings.certain(data)
        if sure is not None and not encodings.by_chance(sure.text):
            return sure
        return self._together.get(file, NO_CAPTION)

    @cached_property
    def _together(self) -> dict[Path, Reading]:
        data_by_file = {file: data for file in self.files if (data := data_of(file)) is not None}
        return dict(zip(data_by_file, encodings.read_all(list(data_by_file.values()), self.encoding), strict=True))


def data_of(file: Path) -> bytes | None:
    """The bytes of a caption file; None where there is none or it is far too large."""
    try:
        return file.read_bytes() if file.stat().st_size <= LIMITS.caption_bytes else None
    except OSError:
        return None


def read_lines(file: Path, encoding: str) -> tuple[str, ...]:
    """The lines of a caption file, each clean; empty ones left out."""
    data = data_of(file)
    lines = encodings.decode(data, encoding).splitlines() if data is not None else []
    return tuple(text for text in map(captions.clean, lines) if text)
