"""Which caption belongs to which picture of a drop. Used by the intake alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from trainer.images import captions
from trainer.images.decode import Refused
from trainer.images.limits import Limits
from trainer.images.picture import Picture
from trainer.images.sources import Entry, fold


class Pairing:
    """Same folder, same stem, blind to case and NFC/NFD; `.txt` before `.caption`. Oddities go to `tell`."""

    def __init__(self, found: list[Entry], pictures: list[Entry], limits: Limits, tell: Callable[..., None]) -> None:
        self.limits, self.tell = limits, tell
        ordered = sorted((e for e in found if e.kind == "caption"), key=lambda e: not e.name.lower().endswith(".txt"))
        self.by_stem: dict[tuple[str, str], Entry] = {}
        for entry in ordered:
            self.by_stem.setdefault((entry.group, entry.stem), entry)
        self.shared = Counter((entry.group, entry.stem) for entry in pictures)
        self.read: dict[tuple[str, str], str] = {}
        self.used: set[tuple[str, str]] = set()

    def of(self, entry: Entry) -> str:
        """The caption of a picture, empty where there is none."""
        for key in ((entry.group, entry.stem), (entry.group, entry.full)):
            if key in self.by_stem:
                if key not in self.used and self.shared[key] > 1:
                    self.tell(self.by_stem[key].name, "caption_shared", count=self.shared[key])
                self.used.add(key)
                return self.text(self.by_stem[key])
        return ""

    def text(self, entry: Entry) -> str:
        """A caption file as one clean line; what was odd about it is told once."""
        key = (entry.group, entry.name)
        if key not in self.read:
            self.read[key] = self._read(entry)
        return self.read[key]

    def leftovers(self, before: list[Picture]) -> dict[str, str]:
        """Captions without a picture: for pictures taken in earlier under that name (by id), or told."""
        originals = {fold(PurePosixPath(picture.original).stem): picture.id for picture in before}
        late = {}
        for key, entry in self.by_stem.items():
            if key in self.used:
                continue
            if entry.stem in originals and (text := self.text(entry)):
                late[originals[entry.stem]] = text
            else:
                self.tell(entry.name, "caption_alone")
        return late

    def _read(self, entry: Entry) -> str:
        try:
            raw, encoding = captions.decode(entry.read(self.limits.caption_bytes))
        except Refused:
            self.tell(entry.name, "caption_unread")
            return ""
        text, cut = captions.shorten(captions.clean(raw), self.limits.caption_chars)
        odd: dict[str, Any] = {"surrogates": ("caption_mended", {}), "utf-8": None}
        told = odd.get(encoding, ("caption_encoding", {"encoding": encoding}))
        if told:
            self.tell(entry.name, told[0], **told[1])
        if cut:
            self.tell(entry.name, "caption_cut", limit=self.limits.caption_chars)
        return text
