"""Good and bad picture files, captions and zips, built byte by byte for the tests of this folder."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def scene(seed: int = 0, size: tuple[int, int] = (256, 256)) -> Image.Image:
    """A colourful picture with edges and texture, another for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(60, 200, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = (int(v) for v in rng.integers(0, (size[0], size[1])))
        w, h = (int(v) for v in rng.integers(max(4, min(size) // 10), max(8, min(size) // 2), 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=colour)
    return image


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The picture as file bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, *, before: bytes = b"", rows: bytes = b"") -> bytes:
    """A grey PNG that claims a size; `before` are chunks ahead of the image data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(value: int, colours: int = 1, side: int = 40) -> bytes:
    """A 16-bit grey (1) or RGB (3) PNG of one value."""
    row = b"\0" + struct.pack(">H", value) * (side * colours)
    header = struct.pack(">IIBBBBB", side, side, 16, 0 if colours == 1 else 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(row * side))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def png_rows(size: tuple[int, int], bits: int, colour: int, row: bytes, before: bytes = b"") -> bytes:
    """A PNG of equal rows in a colour type (0 grey, 2 RGB, 4 grey with alpha); `before` are chunks ahead of the data."""
    body = chunk(b"IDAT", zlib.compress((b"\0" + row) * size[1]))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + body + chunk(b"IEND", b"")


def grey_profile(gamma: float) -> bytes:
    """An ICC profile (version 2) for grey of one gamma, white D50."""
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    name = b"Grey of a test\0"
    desc = (b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(4 + 4 + 2 + 1 + 67)).ljust(108, b"\0")
    tags, at = [(b"desc", desc), (b"wtpt", white), (b"kTRC", curve)], 128 + 4 + 3 * 12
    table, data = struct.pack(">I", 3), b""
    for tag, body in tags:
        table += tag + struct.pack(">II", at + len(data), len(body))
        data += body
    head = struct.pack(">I4sI4s4s4s", at + len(data), bytes(4), 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + data


def film(size: int, before: bytes = b"") -> bytes:
    """Bytes like the film a phone puts behind a photo: an MP4 header, then data in which FF DA comes up again and again."""
    rng = np.random.default_rng(size)
    data = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    return before + b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + data + b"\xff\xda\0\x08" * (size // 20_000)


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip with these members."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def set_flag(path: Path, bit: int) -> Path:
    """Set a bit in the flags of every member, in both places where a zip says them."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= bit
            at = data.find(mark, at + 4)
    path.write_bytes(data)
    return path


def claim_size(path: Path, size: int) -> Path:
    """Forge the unpacked size of every member, in both places."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset : at + offset + 4] = struct.pack("<I", size)
            at = data.find(mark, at + 4)
    path.write_bytes(data)
    return path


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Files below `folder`."""
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder
