"""From bytes nobody vouches for to an 8-bit sRGB picture, or a refusal with its reason. Used by intake, sets, report.

Order matters: magic bytes -> only that one Pillow reader -> size from the header -> decode in full -> turn, depth,
colour, transparency. Pillow's `verify()` passes truncated JPEGs, so it is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import re
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from PIL import Image

from trainer.images.decoding import jpeg
from trainer.images.decoding.pixels import BROKEN, WHITE, Colour, scale_key, split, to_srgb, upright, upright_size
from trainer.images.set.limits import LIMITS, Limits

__all__ = [
    "ARCHIVES", "HEAD_BYTES", "LARGE_PIXELS", "READERS", "WHITE", "Colour", "Opened", "Refused", "as_png", "check_size",
    "content_hash", "decode", "kind_of", "load", "open_picture", "split", "to_srgb", "upright", "upright_size",
]  # fmt: skip
HEAD_BYTES = 512
READERS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
"""The only formats whose decoder is ever run (and HEIC where pillow_heif is installed)."""

LARGE_PIXELS = 16_000_000
_one_large = threading.Lock()
"""However many threads decode, only one picture above that size is decoded at a time: 64 megapixels take 0.5 GB."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"8BPS", "PSD"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"SIMPLE  =", "FITS"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"Rar!", "RAR"),
    (b"7z\xbc\xaf", "7Z"),
    (b"\x1f\x8b", "GZIP"),
    (b"BZh", "BZIP2"),
    (b"\xfd7zXZ", "XZ"),
)
ARCHIVES = ("ZIP", "RAR", "7Z", "GZIP", "BZIP2", "XZ")


class Refused(Exception):
    """A file that is not taken: `intake.<code>` in the texts, filled with `params`."""

    def __init__(self, code: str, **params: Any) -> None:
        super().__init__(code)
        self.code, self.params = code, params


@dataclass
class Opened:
    """A picture whose header was read and found sane; nothing is decoded yet."""

    image: Image.Image
    kind: str
    notices: list[str] = field(default_factory=list)


def kind_of(head: bytes) -> str | None:
    """What the first bytes say a file is: a name such as JPEG, TIFF, SVG, ZIP, or None."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in range(8, min(len(head), max(16, int.from_bytes(head[:4], "big"))), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"} else "VIDEO"
    if re.match(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml|<!DOCTYPE svg|<!--|<svg)", head, re.IGNORECASE) and b"<svg" in head:
        return "SVG"
    return None


def open_picture(file: BinaryIO, limits: Limits = LIMITS) -> Opened:
    """Read the header and check it; raises `Refused`. The file stays open and belongs to the caller."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head:
        raise Refused("empty")
    kind = kind_of(head)
    if kind is None:
        raise Refused("not_a_picture")
    if kind in ARCHIVES:
        raise Refused("archive", kind=kind)
    if kind == "HEIC" and not _heif_ready():
        raise Refused("heic")
    if kind == "TIFF":
        raise Refused("tiff")
    if kind not in READERS and kind != "HEIC":
        raise Refused("other_format", kind=kind)
    notices = _judge_jpeg(file, limits) if kind == "JPEG" else []
    image = _guard(lambda: Image.open(file, formats=["HEIF" if kind == "HEIC" else kind]), limits)
    check_size(image.width, image.height, limits)
    if kind == "PNG":
        scale_key(image)
    return Opened(image, kind, notices)


def check_size(width: int, height: int, limits: Limits = LIMITS) -> None:
    """Raise `Refused` where a picture's sides are out of bounds."""
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise Refused("too_many_pixels", limit=limits.pixels // 1_000_000)
    if max(width, height) > limits.ratio_refused * min(width, height):
        raise Refused("ratio", width=width, height=height, limit=limits.ratio_refused)
    if min(width, height) < limits.smallest_side:
        raise Refused("too_small", width=width, height=height, limit=limits.smallest_side)


def decode(file: BinaryIO, limits: Limits = LIMITS, background: Colour = WHITE) -> tuple[Image.Image, list[str]]:
    """The whole picture as 8-bit sRGB without metadata, and notices (first_frame, film, transparent,
    profile_broken)."""
    opened = open_picture(file, limits)
    large = opened.image.width * opened.image.height > LARGE_PIXELS
    with _one_large if large else contextlib.nullcontext():
        load(opened)
        return to_srgb(opened.image, opened.notices, background), opened.notices


def load(opened: Opened, draft: tuple[int, int] | None = None, limits: Limits = LIMITS) -> None:
    """Decode in full, at a reduced size where the format can (JPEG) and `draft` asks for it."""
    image = opened.image
    if opened.kind in ("GIF", "PNG", "WEBP", "AVIF") and _guard(lambda: getattr(image, "is_animated", False), limits):
        opened.notices.append("first_frame")
    if draft and opened.kind == "JPEG":
        image.draft("RGB", draft)
    _guard(image.load, limits)


def content_hash(image: Image.Image) -> str:
    """What two pictures share when every decoded pixel is the same: SHA-256 of size and RGB bytes."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def as_png(image: Image.Image) -> bytes:
    """The picture as PNG bytes without metadata. Run-length zlib: as small as level 6, three times faster."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def _guard(work: Callable[[], Any], limits: Limits) -> Any:
    """Run a piece of Pillow; whatever it raises on bad bytes becomes a `Refused`."""
    try:
        return work()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused("too_many_pixels", limit=limits.pixels // 1_000_000) from error
    except BROKEN as error:
        bomb = "MAX_TEXT" in str(error) or "Decompressed data too large" in str(error)
        raise Refused("text_bomb" if bomb else "damaged") from error


def _judge_jpeg(file: BinaryIO, limits: Limits) -> list[str]:
    """Refuse a JPEG with endless scans; returns what is told of what lies behind its end."""
    markers = jpeg.markers(file, limits.jpeg_scans)
    if markers.endless:
        raise Refused("damaged")
    return ["film"] if markers.end is not None and jpeg.film_behind(file, markers.end) else []


def _heif_ready() -> bool:
    """Whether HEIC can be read here: the optional package pillow_heif is there and has been told to Pillow."""
    if "HEIF" in Image.OPEN:
        return True
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif  # type: ignore[import-not-found]

    pillow_heif.register_heif_opener()
    return True
