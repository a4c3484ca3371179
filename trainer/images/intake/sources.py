"""What was brought, as a flat list of entries: files, folders, zips and uploads look alike. Nothing is ever extracted.

Entries carry the raw name, as it was called where it came from. What follows (gate.py) goes by that name alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from trainer.images.decoding.decode import HEAD_BYTES, Refused, kind_of
from trainer.images.intake import zips
from trainer.images.intake.entry import Entry, Kind, Sent, counted, kind_by_name
from trainer.images.intake.names import ignored, natural
from trainer.images.set.limits import LIMITS, Limits


@contextlib.contextmanager
def entries(sources: Iterable[Path | Sent], limits: Limits = LIMITS) -> Iterator[list[Entry]]:
    """Everything in `sources` worth an answer, in natural order; zips stay open for reading inside the `with`."""
    result: list[Entry] = []
    with contextlib.ExitStack() as stack:
        for number, source in enumerate(sorted(sources, key=lambda source_: natural(source_.name))):
            if isinstance(source, Sent):
                if not ignored(source.name):
                    result += _file(source.path, source.name, limits, stack)
            elif source.is_dir():
                result += sorted(folder(source, str(number)), key=lambda entry: natural(entry.name))
            elif not ignored(source.name):
                result += _file(source, source.name, limits, stack)
        yield result


def _file(path: Path, name: str, limits: Limits, stack: contextlib.ExitStack) -> list[Entry]:
    """A file brought by itself: a zip opens up, anything else must be a picture, a caption or a table of captions."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return [Entry(name, "refused", refusal=Refused("unreadable_file"))]
    if kind_of(head) == "ZIP":
        try:
            return sorted(zips.members(path, limits, stack), key=lambda entry: natural(entry.name))
        except Refused as refusal:
            return [Entry(name, "refused", refusal=refusal)]
    kind = kind_by_name(name)
    if kind == "other" and "/" not in name:
        kind = "picture"  # a single file somebody chose is meant as a picture and is told what it is
    return [on_disk(path, name, kind)]


def folder(top: Path, source: str = "") -> list[Entry]:
    """Every file below `top`; links and special files are not followed."""
    entries_ = []
    for place, below, names in os.walk(top, followlinks=False):
        below[:] = sorted(name for name in below if not ignored(name))
        for name in names:
            path = Path(place, name)
            inside = path.relative_to(top.parent).as_posix()
            if ignored(name):
                continue
            if path.is_symlink() or not path.is_file():
                entries_.append(Entry(inside, "refused", source, refusal=Refused("link")))
                continue
            entries_.append(on_disk(path, inside, source=source))
    return entries_


def on_disk(path: Path | str, name: str, kind: Kind | None = None, source: str = "") -> Entry:
    """The entry of a file on the disk."""

    def read(limit: int) -> bytes:
        with _opened(path) as file:
            return counted(file, limit)

    def head() -> bytes:
        with _opened(path) as file:
            return file.read(HEAD_BYTES)

    return Entry(name, kind or kind_by_name(name), source, read, head, place=path)


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[BinaryIO]:
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise Refused("unreadable_file") from error
