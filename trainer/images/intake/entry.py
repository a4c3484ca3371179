"""One file of what was brought, and how it is read. Made by sources.py and zips.py, sorted by gate.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from trainer.images.decoding.decode import Refused
from trainer.images.intake.names import CAPTIONS, NAMED, TABLES, repeats_of, split
from trainer.images.set.limits import MB

Kind = Literal["picture", "caption", "table", "other", "refused"]


@dataclass(eq=False)
class Entry:
    """One file of what was brought. `name` is its raw path inside the source, `/` between folders."""

    name: str
    kind: Kind
    source: str = ""
    """What it came from: entries of different zips or folders never pair, even where their names are equal."""
    read: Callable[[int], bytes] = field(default=lambda limit: b"", repr=False)
    """All its bytes; raises `Refused` when there are more than `limit`."""
    head: Callable[[], bytes] = field(default=lambda: b"", repr=False)
    """Its first bytes, without reading or unpacking the rest. Raises `Refused`."""
    failed: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called when what was read turned out to be no picture; a zip with too many of these is opened no further."""
    refusal: Refused | None = None
    place: str | Path | None = None
    """Where it lies on the disk, for a file that is used in place."""

    def __post_init__(self) -> None:
        above, _, self.file = self.name.rpartition("/")
        self.folder = above
        self.group = (self.source, above)
        self.stem, self.ending = split(self.file)

    @property
    def path(self) -> Path | None:
        """`place` as a path."""
        return None if self.place is None else Path(self.place)

    @property
    def repeats(self) -> tuple[int, str] | None:
        """(10, "name") where the folder is called `10_name`, as kohya's trainer wants it."""
        return repeats_of(self.folder.rpartition("/")[2])


@dataclass(frozen=True)
class Sent:
    """A file that lies at `path` under a name of ours and was called `name` where it came from (folders with `/`)."""

    path: Path
    name: str


def kind_by_name(name: str) -> Kind:
    """What a file is meant to be, by its ending."""
    ending = split(name)[1]
    if ending in CAPTIONS:
        return "caption"
    return "table" if ending in TABLES else "picture" if ending in NAMED else "other"


def counted(file: BinaryIO, limit: int) -> bytes:
    """At most `limit` bytes; more is a refusal, found without reading the rest."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise Refused("file_too_big", limit=limit // MB)
    return data
