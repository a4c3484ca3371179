"""Which caption belongs to which picture of a drop. Used by the intake alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from trainer.images import captions, encodings
from trainer.images.decode import Refused
from trainer.images.limits import Limits
from trainer.images.picture import Picture
from trainer.images.sources import Entry, fold

HELD_BYTES = 1 << 16
"""So much of a caption file is read and kept: more than the longest caption in any encoding."""


@dataclass(frozen=True)
class Caption:
    """A caption as one clean line. `written` is what the file held, where that might be read otherwise than in `encoding`."""

    text: str = ""
    encoding: str = "utf-8"
    written: bytes = b""


NONE = Caption()


class Pairing:
    """Same folder, same stem, blind to case and NFC/NFD; `.txt` before `.caption`. Oddities go to `tell`."""

    def __init__(self, found: list[Entry], pictures: list[Entry], limits: Limits, tell: Callable[..., None]) -> None:
        self.limits, self.tell = limits, tell
        ordered = sorted((e for e in found if e.kind == "caption"), key=lambda e: not e.name.lower().endswith(".txt"))
        self.by_stem: dict[tuple[str, str], Entry] = {}
        for entry in ordered:
            self.by_stem.setdefault((entry.group, entry.stem), entry)
        self.shared = Counter((entry.group, entry.stem) for entry in pictures)
        self.used: set[tuple[str, str]] = set()
        self.asked: list[Entry] = []

    def of(self, entry: Entry) -> Caption:
        """The caption of a picture, empty where there is none."""
        for key in ((entry.group, entry.stem), (entry.group, entry.full)):
            if key in self.by_stem:
                if key not in self.used and self.shared[key] > 1:
                    self.tell(self.by_stem[key].name, "caption_shared", count=self.shared[key])
                self.used.add(key)
                return self.text(self.by_stem[key])
        return NONE

    def text(self, entry: Entry) -> Caption:
        """A caption file as one clean line; what was odd about it is told once."""
        caption, odd = self._all[(entry.group, entry.name)]
        if entry not in self.asked:
            self.asked.append(entry)
            for code, params in odd:
                self.tell(entry.name, code, **params)
        return caption

    def leftovers(self, before: list[Picture]) -> dict[str, Caption]:
        """Captions without a picture: for pictures taken in earlier under that name (by id), or told."""
        originals = {fold(PurePosixPath(picture.original).stem): picture.id for picture in before}
        late = {}
        for key, entry in self.by_stem.items():
            if key in self.used:
                continue
            if entry.stem in originals and (caption := self.text(entry)).text:
                late[originals[entry.stem]] = caption
            else:
                self.tell(entry.name, "caption_alone")
        return late

    def tell_encodings(self) -> None:
        """What the captions asked for were read as: the first words so, and in the next-best reading."""
        read: dict[str, list[Entry]] = {}
        for entry in self.asked:
            caption = self._all[(entry.group, entry.name)][0]
            if caption.encoding != "utf-8" and caption.text:
                read.setdefault(caption.encoding, []).append(entry)
        for encoding, entries in read.items():
            captions_ = [self._all[(entry.group, entry.name)][0] for entry in entries]
            told = {"encoding": encoding, "words": encodings.words(captions_[0].text)}
            code, files = "caption_encoding", [caption.written for caption in captions_ if caption.written]
            if other := encodings.next_best(files, encoding) if files else None:
                words = encodings.words(captions.clean(encodings.decode(files[0], other)))
                told |= {"other": other, "other_words": words}
                code = "caption_encoding_other"
            for entry in entries:
                self.tell(entry.name, code, **told)

    @cached_property
    def _all(self) -> dict[tuple[str, str], tuple[Caption, list[tuple[str, dict[str, Any]]]]]:
        """Every caption file of the drop, read together, with what is odd about each."""
        done: dict[tuple[str, str], tuple[Caption, list[tuple[str, dict[str, Any]]]]] = {}
        held: list[tuple[tuple[str, str], bytes]] = []
        for entry in self.by_stem.values():
            try:
                held.append(((entry.group, entry.name), _head(entry.read(self.limits.caption_bytes))))
            except Refused:
                done[(entry.group, entry.name)] = NONE, [("caption_unread", {})]
        for (key, data), reading in zip(held, encodings.read_all([data for _, data in held]), strict=True):
            text, cut = captions.shorten(captions.clean(reading.text), self.limits.caption_chars)
            odd: list[tuple[str, dict[str, Any]]] = [("caption_mended", {})] if reading.damaged else []
            odd += [("caption_cut", {"limit": self.limits.caption_chars})] if cut else []
            sure = encodings.certain(data)
            guessed = sure is None or sure.encoding != reading.encoding
            done[key] = Caption(text, reading.encoding, data if guessed else b""), odd
        return done


def _head(data: bytes) -> bytes:
    """As much of a caption file as counts, cut off behind a blank, comma or line break."""
    if len(data) <= HELD_BYTES:
        return data
    cut = max(data.rfind(mark, HELD_BYTES // 2, HELD_BYTES) for mark in (b" ", b",", b"\n"))
    return data[: (cut + 1 if cut > 0 else HELD_BYTES) & ~1]
