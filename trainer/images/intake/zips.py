"""The members of a zip as entries. Nothing is extracted, and nothing a directory claims about sizes is believed.

A zip is judged from its directory first (entries, paths, links, encryption, nesting). A member is then unpacked only as far
as is needed to recognise it; what unpacks to much more than it takes is read where its first bytes are a picture's, and counts.
"""

from __future__ import annotations

import contextlib
import re
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from trainer.images.decoding.decode import HEAD_BYTES, READERS, Refused, kind_of
from trainer.images.intake.entry import Entry, counted, kind_by_name
from trainer.images.intake.names import ignored, split
from trainer.images.set.limits import MB, Limits

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)
_ARCHIVES = (".zip", ".rar", ".7z", ".gz")


class Budget:
    """What the members of one zip that grow by more than `zip_ratio` may still unpack to, counted over all threads.

    Flat drawings kept without compression (BMP) grow by 300 and more and are honest; a bomb is recognised by its first
    bytes, by members that turn out to hold no whole picture, or by the sum.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.left, self.broken = limits, limits.zip_grown_bytes, 0
        self.lock = threading.Lock()

    def grows(self, info: zipfile.ZipInfo) -> bool:
        """Whether a member's directory entry promises unusual growth."""
        return info.file_size > MB and info.file_size > self.limits.zip_ratio * max(info.compress_size, 1)

    def take(self, size: int) -> None:
        """Count `size` bytes. Raises `Refused` once there were too many, or too many members of the kind were no pictures."""
        with self.lock:
            self.left -= size
            if self.left < 0 or self.broken >= self.limits.zip_grown_broken:
                raise Refused("zip_bomb")

    def failed(self) -> None:
        """A member that grew was no picture after all."""
        with self.lock:
            self.broken += 1


def members(path: Path, limits: Limits, stack: contextlib.ExitStack) -> list[Entry]:
    """The members worth an answer. A refusal of the whole zip is raised, a member's own stands in its entry."""
    size = path.stat().st_size
    if _directory_bytes(path, size) > limits.zip_entries * 1024:
        raise Refused("zip_entries", limit=limits.zip_entries)
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except _DAMAGE as error:
        raise Refused("zip_damaged") from error
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]  # is_dir() stumbles over an empty name
    if len(archive.infolist()) > limits.zip_entries:
        raise Refused("zip_entries", limit=limits.zip_entries)
    if sum(info.compress_size for info in infos) > size:
        raise Refused("zip_bomb")  # members that share their bytes
    budget, entries = Budget(limits), []
    for info in infos:
        name = _name(info)
        refusal = _judge_path(name) or (None if ignored(name) else _judge(info, name))
        if refusal:
            entries.append(Entry(name, "refused", str(path), refusal=refusal))
        elif not ignored(name):
            read, head = _readers(archive, info, budget)
            entries.append(Entry(name, kind_by_name(name), str(path), read, head, failed=_failing(info, budget)))
    return entries


def _name(info: zipfile.ZipInfo) -> str:
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


def _judge(info: zipfile.ZipInfo, name: str) -> Refused | None:
    """What speaks against a member by its directory entry."""
    if stat.S_ISLNK(info.external_attr >> 16):
        return Refused("link")
    if info.flag_bits & 0x1:
        return Refused("zip_encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Refused("zip_method")
    if split(name)[1] in _ARCHIVES:
        return Refused("archive", kind=split(name)[1][1:].upper())
    return None


def _readers(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget
) -> tuple[Callable[[int], bytes], Callable[[], bytes]]:
    """What reads a member whole, and what unpacks its first bytes alone."""

    def first(size: int) -> bytes:
        try:
            with archive.open(info) as file:
                return file.read(size)
        except _DAMAGE as error:
            raise Refused("zip_damaged") from error

    def head() -> bytes:
        data = first(HEAD_BYTES)
        if budget.grows(info) and kind_of(data) is None:
            raise Refused("zip_bomb")
        return data

    def read(limit: int) -> bytes:
        if budget.grows(info):
            if kind_of(head()) not in READERS:
                raise Refused("zip_bomb")  # other formats are told by their first bytes, and never read
            budget.take(info.file_size)
        if info.file_size > limit:
            raise Refused("file_too_big", limit=limit // MB)
        try:
            with archive.open(info) as file:
                data = counted(file, limit)  # type: ignore[arg-type]
        except _DAMAGE as error:
            raise Refused("zip_damaged") from error
        if len(data) != info.file_size:
            raise Refused("zip_damaged")
        return data

    return read, head


def _failing(info: zipfile.ZipInfo, budget: Budget) -> Callable[[], None]:
    return lambda: budget.failed() if budget.grows(info) else None


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
