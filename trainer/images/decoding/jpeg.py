"""The markers of a JPEG file: how many scans it holds and where it ends. Nothing is decoded (ITU-T T.81, Annex B)."""

from __future__ import annotations

import re
from typing import BinaryIO, NamedTuple

PIECE = 1 << 20
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Entropy-coded data writes FF as FF 00 and may hold restart markers; every other marker ends it."""
_ALONE = frozenset([0x01, 0xD8, *range(0xD0, 0xD8)])
"""Markers without a segment: TEM, SOI, RST0 to RST7."""
_SCAN, _END = 0xDA, 0xD9
MOST = 50_000
"""Markers in one file; a picture has some dozens, one with a large profile or much metadata about a thousand."""


class Markers(NamedTuple):
    """What `markers` counted."""

    scans: int
    end: int | None
    """The offset behind the end-of-image marker; None where there is none, or a limit came first."""
    endless: bool
    """Whether there are more scans than the limit, or more markers than any picture has."""


def markers(file: BinaryIO, limit: int) -> Markers:
    """Walk from marker to marker, passing over the contents of every segment, up to the end of the image or to `limit` + 1
    scans. The file is read from its beginning and left there; memory stays at one megabyte."""
    scans, end, count, offset, pattern = 0, None, 0, 0, _MARKER
    while scans <= limit and count <= MOST and (position := _next(file, offset, pattern)) is not None:
        count += 1
        file.seek(position)
        head = file.read(4)
        kind = head[1]
        offset = position + 2
        if kind == _END:
            end = offset
            break
        if kind in _ALONE:
            continue
        offset += max(2, int.from_bytes(head[2:4], "big")) if len(head) == 4 else 2
        pattern = _MARKER
        if kind == _SCAN:
            scans, pattern = scans + 1, _MARKER_IN_SCAN
    file.seek(0)
    return Markers(scans, end, scans > limit or count > MOST)


def film_behind(file: BinaryIO, end: int) -> bool:
    """Whether an MP4 or QuickTime film follows the picture, as in the motion photos of phones; `end` is the picture's end."""
    file.seek(end)
    tail = b""
    try:
        while piece := file.read(PIECE):
            if re.search(rb"ftyp(?:mp4|iso|qt|avc|MSNV|M4V|3gp|dash)", tail + piece):
                return True
            tail = piece[-8:]
        return False
    finally:
        file.seek(0)


def _next(file: BinaryIO, offset: int, pattern: re.Pattern[bytes]) -> int | None:
    """The offset of the next marker at or behind `offset`."""
    file.seek(offset)
    size = 4096
    while piece := file.read(size):
        if match := pattern.search(piece):
            return offset + match.start()
        if len(piece) == 1:
            return None
        offset += len(piece) - 1  # a marker may lie across two pieces
        file.seek(offset)
        size = PIECE
    return None
