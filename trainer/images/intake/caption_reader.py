"""Captions read while pictures are taken in: from files, tables, names, and those that come after their pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from trainer.images.captions import captions, encodings
from trainer.images.decoding.decode import Refused
from trainer.images.intake.entry import Entry
from trainer.images.intake.gate import CaptionSource, Sorted, some_names
from trainer.images.intake.names import split
from trainer.images.intake.pairing import Pictures
from trainer.images.set.limits import Limits

Notify = Callable[..., None]
MAX_BYTES = 1 << 16
"""So much of a caption file is read and kept: more than the longest caption in any encoding."""
_COUNTER = re.compile(r"(?:[\s_-]*\(\d+\)|[\s_-]+\d+)+$")
_CAMERA = re.compile(r"^(?:img|dsc|dscn|dscf|pxl|mvimg|p|gopr|dji|screenshot|image|photo|picture|pic|untitled)$", re.IGNORECASE)


@dataclass(frozen=True)
class Caption:
    """A caption as one clean line. `written` is what the file held, where that might be read otherwise than in `encoding`."""

    text: str = ""
    encoding: str = "utf-8"
    written: bytes = b""


class CaptionReader:
    """Reads the captions of one drop; what was odd about one is told once, by the name of its file."""

    def __init__(self, files: Iterable[Entry], limits: Limits, notify: Notify) -> None:
        self.files, self.limits, self.notify = list(files), limits, notify
        self.read_files: list[Entry] = []

    def of(self, source: CaptionSource | None) -> Caption:
        """The caption itself; empty where there is none."""
        if source is None:
            return Caption()
        if source.text is not None:
            text, cut = captions.shorten(captions.clean(source.text), self.limits.caption_chars)
            if cut:
                self.notify(source.entry.name, "caption_cut", limit=self.limits.caption_chars)
            return Caption(text)
        caption, odd = self._all[source.entry]
        if source.entry not in self.read_files:
            self.read_files.append(source.entry)
            for code, params in odd:
                self.notify(source.entry.name, code, **params)
        return caption

    def notify_encodings(self) -> None:
        """What the captions asked for were read as: the first words so, and in the next-best reading."""
        read: dict[str, list[Entry]] = {}
        for entry in self.read_files:
            caption = self._all[entry][0]
            if caption.encoding != "utf-8" and caption.text:
                read.setdefault(caption.encoding, []).append(entry)
        for encoding, entries in read.items():
            captions_ = [self._all[entry][0] for entry in entries]
            params = {"encoding": encoding, "words": encodings.excerpt(captions_[0].text)}
            code, files = "caption_encoding", [caption.written for caption in captions_ if caption.written]
            if other := encodings.next_best(files, encoding) if files else None:
                excerpt = encodings.excerpt(captions.clean(encodings.decode(files[0], other)))
                params |= {"other": other, "other_words": excerpt}
                code = "caption_encoding_other"
            for entry in entries:
                self.notify(entry.name, code, **params)

    @cached_property
    def _all(self) -> dict[Entry, tuple[Caption, list[tuple[str, dict[str, Any]]]]]:
        """Every caption file of the drop, read together, with what is odd about each."""
        done: dict[Entry, tuple[Caption, list[tuple[str, dict[str, Any]]]]] = {}
        contents: list[tuple[Entry, bytes]] = []
        room = self.limits.text_bytes
        for entry in self.files:
            try:
                data = entry.read(min(self.limits.caption_bytes, max(room, 0)))
            except Refused:
                done[entry] = Caption(), [("caption_unread", {})]
                continue
            room -= len(data)
            contents.append((entry, _head(data)))
        for (entry, data), reading in zip(contents, encodings.read_all([data for _, data in contents]), strict=True):
            text, cut = captions.shorten(captions.clean(reading.text), self.limits.caption_chars)
            odd: list[tuple[str, dict[str, Any]]] = [("caption_mended", {})] if reading.damaged else []
            odd += [("caption_cut", {"limit": self.limits.caption_chars})] if cut else []
            sure = encodings.certain(data)
            guessed = sure is None or sure.encoding != reading.encoding
            done[entry] = Caption(text, reading.encoding, data if guessed else b""), odd
        return done


def _head(data: bytes) -> bytes:
    """As much of a caption file as counts, cut off behind a blank, comma or line break."""
    if len(data) <= MAX_BYTES:
        return data
    cut = max(data.rfind(mark, MAX_BYTES // 2, MAX_BYTES) for mark in (b" ", b",", b"\n"))
    return data[: (cut + 1 if cut > 0 else MAX_BYTES) & ~1]


def caption_of_name(stem: str) -> str:
    """The caption in a file name: `red_fox in snow (3)` -> `red fox in snow`; empty where it holds no words (`IMG_0012`)."""
    text = _COUNTER.sub("", stem.replace("_", " ").strip())
    text = captions.clean(text)
    return "" if not any(c.isalpha() for c in text) or _CAMERA.match(text) else text


@dataclass(eq=False)
class ExistingPicture:
    """A picture that is in the set already, by the name it came with."""

    id: str
    name: str

    def __post_init__(self) -> None:
        self.file = PurePosixPath(self.name).name
        self.stem = split(self.file)[0]
        self.folder = self.name.rpartition("/")[0]
        self.group = ("", "")


class LateCaptions:
    """Captions that came without their picture, given to pictures that were taken in earlier under that name."""

    def __init__(self, earlier: Iterable[ExistingPicture]) -> None:
        self.pictures = Pictures(earlier)

    def find(self, name: str, stem: str) -> list[ExistingPicture]:
        """The pictures a caption called `name` (a path) may mean: its folder counts where both had one."""
        folder = name.rpartition("/")[0]
        pictures = self.pictures.find((("", ""), stem))[1]
        if same_folder := [picture for picture in pictures if picture.folder == folder]:
            return same_folder
        return [picture for picture in pictures if not folder or not picture.folder]

    def hand_out(self, sorted_: Sorted, reader: CaptionReader, notify: Notify) -> list[tuple[str, Caption, str]]:
        """(id, caption, name of the file) for every caption that finds one picture; the others are told."""
        assigned: list[tuple[str, Caption, str]] = []
        for entry in sorted_.alone:
            pictures = self.find(entry.name, entry.stem)
            if len(pictures) == 1:
                assigned.append((pictures[0].id, reader.of(CaptionSource(entry)), entry.name))
            else:
                notify(entry.name, "caption_unclear" if pictures else "caption_alone")
        lost: dict[Entry, list[str]] = {}
        for table, path, text in sorted_.rows:
            name = path.replace("\\", "/")
            file = PurePosixPath(name).name
            pictures = self.find(f"{table.folder}/{name}".lstrip("/"), file) or self.find(file, split(file)[0])
            if len(pictures) == 1:
                assigned.append((pictures[0].id, reader.of(CaptionSource(table, text)), table.name))
            else:
                lost.setdefault(table, []).append(path)
        for table, paths in lost.items():
            notify(table.name, "table_unknown", count=len(paths), names=some_names(paths))
        return assigned
