"""What was dropped, as a flat list of entries: files, folders and zips look alike. Nothing is ever extracted.

A zip is judged from its directory first (entries, paths, links, encryption, nesting, growth) and read member by member
with a counter: what the directory claims about sizes is never believed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from trainer.images.decode import HEAD_BYTES, READERS, Refused, kind_of
from trainer.images.limits import LIMITS, MB, Limits

CAPTIONS = (".txt", ".caption")
_PICTURE_ENDINGS = ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .avif .heic .heif"
_OTHER_ENDINGS = ".tif .tiff .svg .psd .pdf .eps .ai .fits .jxl .jp2 .ico .tga .dng .cr2 .nef .arw .zip .rar .7z .gz"
NAMED = frozenset(f"{_PICTURE_ENDINGS} {_OTHER_ENDINGS}".split())
"""Endings a person means as a picture or an archive: those are answered, other files are passed over."""
_JUNK = frozenset(["__macosx", ".ds_store", "thumbs.db", "desktop.ini", "@eadir", "set.json"])
_REPEATS = re.compile(r"^(\d{1,3})_(.+)$")
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)

Kind = Literal["picture", "caption", "other", "refused"]


@dataclass
class Entry:
    """One file of what was dropped. `name` is its path inside the drop, only shown; pairs are sought in a `group`."""

    name: str
    kind: Kind
    group: str = ""
    read: Callable[[int], bytes] = field(default=lambda limit: b"", repr=False)
    """All its bytes; raises `Refused` when there are more than `limit`."""
    refusal: Refused | None = None

    @property
    def stem(self) -> str:
        """What a picture and its caption share: the name without its ending, blind to case and to NFC/NFD."""
        return fold(PurePosixPath(self.name).stem)

    @property
    def full(self) -> str:
        """The whole file name in the same folded form: some programs write `a.png.txt`."""
        return fold(PurePosixPath(self.name).name)

    @property
    def repeats(self) -> tuple[int, str] | None:
        """(10, "name") where the folder is called `10_name`, as kohya's trainer wants it."""
        return repeats_of(PurePosixPath(self.name).parent.name)


def repeats_of(folder: str) -> tuple[int, str] | None:
    """(10, "name") for a folder called `10_name`, else None."""
    found = _REPEATS.match(folder)
    return (int(found[1]), found[2]) if found and 1 <= int(found[1]) <= 200 else None


def fold(name: str) -> str:
    """A name for comparing."""
    return unicodedata.normalize("NFC", name).casefold().strip()


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key under which `2.png` comes before `10.png`."""
    pieces = (piece for piece in re.split(r"(\d{1,15})", fold(name)) if piece)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def shown(name: str, limit: int = LIMITS.name_chars) -> str:
    """An original name as harmless text: no control or direction marks, not endless. Escaping is the page's work."""
    text = name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = "".join(c for c in text if c == "\u200d" or unicodedata.category(c) not in ("Cc", "Cf"))
    text = unicodedata.normalize("NFC", text).strip()
    return text if len(text) <= limit else text[: limit - 21] + "…" + text[-20:]


def ignored(name: str) -> bool:
    """Whether systems left this file there unasked (`__MACOSX/`, `.DS_Store`, `Thumbs.db`, anything hidden)."""
    parts = (part for part in PurePosixPath(name).parts if part not in (".", ".."))
    return any(part.casefold() in _JUNK or part.startswith(".") for part in parts)


@contextlib.contextmanager
def entries(sources: Iterable[Path], limits: Limits = LIMITS) -> Iterator[list[Entry]]:
    """Everything in `sources` worth an answer, in natural order; zips stay open for reading inside the `with`."""
    found: list[Entry] = []
    with contextlib.ExitStack() as stack:
        for source in sorted(sources, key=lambda path: natural(path.name)):
            if source.is_dir():
                found += sorted(_folder(source), key=lambda entry: natural(entry.name))
            elif not ignored(source.name):
                found += sorted(_file(source, limits, stack), key=lambda entry: natural(entry.name))
        yield found


def _file(path: Path, limits: Limits, stack: contextlib.ExitStack) -> list[Entry]:
    """A file dropped by itself: a zip opens up, anything else must be a picture or a caption."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return [Entry(path.name, "refused", refusal=Refused("unreadable_file"))]
    if kind_of(head) == "ZIP":
        try:
            return _zip(path, limits, stack)
        except Refused as refusal:
            return [Entry(path.name, "refused", refusal=refusal)]
    kind: Kind = "caption" if path.suffix.lower() in CAPTIONS else "picture"
    return [Entry(path.name, kind, "", _disk_reader(path))]


def _folder(top: Path) -> list[Entry]:
    """Every file below `top`; links and special files are not followed."""
    found = []
    for folder, below, names in os.walk(top, followlinks=False):
        below[:] = sorted(name for name in below if not ignored(name))
        for name in names:
            path = Path(folder, name)
            inside = path.relative_to(top.parent).as_posix()
            if ignored(name):
                continue
            if path.is_symlink() or not path.is_file():
                found.append(Entry(inside, "refused", refusal=Refused("link")))
                continue
            found.append(_entry(inside, folder, _disk_reader(path)))
    return found


def _entry(name: str, group: str, read: Callable[[int], bytes]) -> Entry:
    ending = PurePosixPath(name).suffix.lower()
    kind: Kind = "caption" if ending in CAPTIONS else "picture" if ending in NAMED else "other"
    return Entry(name, kind, group, read)


def _disk_reader(path: Path) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        try:
            with open(path, "rb") as file:
                return _counted(file, limit)
        except OSError as error:
            raise Refused("unreadable_file") from error

    return read


def _counted(file: BinaryIO, limit: int) -> bytes:
    """At most `limit` bytes; more is a refusal, found without reading the rest."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise Refused("file_too_big", limit=limit // MB)
    return data


def _zip(path: Path, limits: Limits, stack: contextlib.ExitStack) -> list[Entry]:
    """The members of a zip. A whole-archive refusal is raised, a member's own stands in its entry."""
    size = path.stat().st_size
    if _directory_bytes(path, size) > limits.zip_entries * 1024:
        raise Refused("zip_entries", limit=limits.zip_entries)
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except _DAMAGE as error:
        raise Refused("zip_damaged") from error
    members = [info for info in archive.infolist() if not info.filename.endswith("/")]  # is_dir() stumbles over an empty name
    if len(archive.infolist()) > limits.zip_entries:
        raise Refused("zip_entries", limit=limits.zip_entries)
    if sum(info.compress_size for info in members) > size:
        raise Refused("zip_bomb")  # members that share their bytes
    found = []
    for info in members:
        name = _member_name(info)
        refusal = _judge_path(name) or (None if ignored(name) else _judge(info, name, limits))
        if refusal:
            found.append(Entry(name, "refused", refusal=refusal))
        elif not ignored(name):
            group = f"{path}/{PurePosixPath(name).parent}"
            found.append(_entry(name, group, _member_reader(archive, info, limits)))
    return found


def _member_name(info: zipfile.ZipInfo) -> str:
    """A member's name as it was meant: the flag for UTF-8 is believed, else UTF-8 and Japanese Windows are tried."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeEncodeError):
            raw = name.encode("cp437")
            for encoding in ("utf-8", "cp932"):
                with contextlib.suppress(UnicodeDecodeError):
                    name = raw.decode(encoding)
                    break
    return name.replace("\\", "/")


def _judge_path(name: str) -> Refused | None:
    """Members that point outside are never honest, whatever they hold."""
    outside = name.startswith("/") or re.match(r"^[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name
    return Refused("zip_path") if outside else None


def _judge(info: zipfile.ZipInfo, name: str, limits: Limits) -> Refused | None:
    """What speaks against a member by its directory entry."""
    if stat.S_ISLNK(info.external_attr >> 16):
        return Refused("link")
    if info.flag_bits & 0x1:
        return Refused("zip_encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Refused("zip_method")
    if PurePosixPath(name).suffix.lower() in (".zip", ".rar", ".7z", ".gz"):
        return Refused("archive", kind=PurePosixPath(name).suffix[1:].upper())
    if info.file_size > MB and info.file_size > limits.zip_ratio * max(info.compress_size, 1):
        return Refused("zip_bomb")
    return None


def _member_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        try:
            with archive.open(info) as file:
                data = _counted(file, limit)  # type: ignore[arg-type]
        except _DAMAGE as error:
            raise Refused("zip_damaged") from error
        if len(data) > MB and len(data) > limits.zip_ratio * max(info.compress_size, 1):
            raise Refused("zip_bomb")
        return data

    return read


def _directory_bytes(path: Path, size: int) -> int:
    """How large a zip says its directory is, before anything parses it (zip64 too): 100,000 entries cost seconds."""
    with open(path, "rb") as file:
        file.seek(max(0, size - 66_000))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + 20 > len(tail):
            raise Refused("zip_damaged")
        claimed = int.from_bytes(tail[at + 12 : at + 16], "little")
        if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
            file.seek(int.from_bytes(tail[at - 12 : at - 4], "little") % max(size, 1))
            claimed = max(claimed if claimed != 0xFFFFFFFF else 0, int.from_bytes(file.read(56)[40:48], "little"))
    return claimed


def looks_like_picture(entry: Entry, limits: Limits) -> bool:
    """Whether a file with an unknown ending holds a picture after all."""
    try:
        return kind_of(entry.read(limits.file_bytes)[:HEAD_BYTES]) in READERS
    except Refused:
        return False
