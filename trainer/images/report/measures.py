"""What the report needs to know of one picture, from one reduced decode: hash, sharpness, light, border, thumbnail.

Plain numbers, so that they can be kept in the cache. Called by report.py for each picture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.images.decoding import decode
from trainer.images.set.facts import PictureCache

VERSION = 2
"""Counted up when a measurement changes, so that cached ones are made anew."""
WORK_SIDE = 512
HASH_SIDE, HASH_BITS = 32, 8
THUMB = 8
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Measures:
    """The figures of one picture."""

    hash: int
    """64-bit perceptual hash of the picture, and of its mirror image."""
    mirror: int
    thumb: str
    """8 x 8 RGB bytes, row by row, in hexadecimal."""
    blur: float
    """0 sharp .. 1 blurred (Crete et al. 2007); -1 where there is too little in the picture to tell."""
    dark: float
    """Grey levels below and above which one in a hundred pixels lies, 0..255."""
    bright: float
    border: tuple[int, int, int] | None
    """The one colour all four corners share, if they do."""

    def colours(self) -> np.ndarray:
        """The thumbnail as (8, 8, 3) float."""
        return np.frombuffer(bytes.fromhex(self.thumb), np.uint8).reshape(THUMB, THUMB, 3).astype(np.float32)


def measure(file: Path, facts: PictureCache) -> Measures:
    """Measure a picture, or recall it. Raises `Refused` where it does not decode in full."""
    cached = facts.get(file, "measures")
    if isinstance(cached, dict) and cached.get("version") == VERSION:
        return _revive(cached)
    with open(file, "rb") as handle:
        opened = decode.open_picture(handle)
        decode.load(opened, draft=(WORK_SIDE, WORK_SIDE))
        image = opened.image
        if image.mode in ("RGB", "L") and not image.has_transparency_data:
            image = _reduced(image)
        result = measure_image(decode.to_srgb(image, []))
    facts.put(file, measures=as_dict(result))
    return result


def as_dict(measures: Measures) -> dict[str, Any]:
    """The figures as the cache keeps them."""
    return {"version": VERSION, **asdict(measures)}


def _reduced(image: Image.Image) -> Image.Image:
    """A whole fraction of the picture, not below the working size, colour profile and turn kept."""
    times = min(image.size) // WORK_SIDE
    if times < 2:
        return image
    small = image.reduce(times)
    small.info = image.info
    return small


def measure_image(image: Image.Image) -> Measures:
    """Measure an upright RGB picture."""
    small = _reduced(image).copy()
    small.thumbnail((WORK_SIDE, WORK_SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, np.float32) @ _LUMA
    dark, bright = np.percentile(grey, (1, 99))
    thumb = np.asarray(small.resize((THUMB, THUMB), Image.Resampling.BOX))
    tile = np.asarray(small.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.LANCZOS), np.float32)
    plain, mirrored = _hashes(tile)
    return Measures(
        hash=plain,
        mirror=mirrored,
        thumb=thumb.tobytes().hex(),
        blur=round(max(_blur(grey), _blur(_quarter(grey))), 4),
        dark=round(float(dark), 1),
        bright=round(float(bright), 1),
        border=_border(np.asarray(small, np.float32)),
    )


def _dct_matrix(n: int) -> np.ndarray:
    """The orthonormal DCT-II as a matrix: C[k, x] = sqrt(2/n) cos(pi (2x+1) k / 2n), first row / sqrt 2."""
    k, x = np.arange(n)[:, None], np.arange(n)[None, :]
    matrix = np.sqrt(2 / n) * np.cos(np.pi * (2 * x + 1) * k / (2 * n))
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


_DCT = _dct_matrix(HASH_SIDE)


def _hashes(tile: np.ndarray) -> tuple[int, int]:
    """pHash: the low 8 x 8 DCT coefficients against their median. Mirroring only flips the sign of odd columns."""
    low = (_DCT @ tile @ _DCT.T)[:HASH_BITS, :HASH_BITS]
    return _bits(low), _bits(low * np.where(np.arange(HASH_BITS) % 2, -1, 1))


def _bits(low: np.ndarray) -> int:
    above = (low > np.median(low)).reshape(-1)
    return int.from_bytes(np.packbits(above).tobytes(), "big")


def _blur(grey: np.ndarray) -> float:
    """How little a further blur changes: Crete et al., "The blur effect" (2007), the worse of the two directions.

    D = neighbour differences of the picture, B = those of its 9-tap mean; 1 - sum(max(0, D - B)) / sum(D).
    """
    worst = -1.0
    for picture in (grey, grey.T):
        if picture.shape[0] < 16 or picture.shape[1] < 16:
            return -1.0
        sums = np.cumsum(np.pad(picture, ((5, 4), (0, 0)), "edge"), axis=0)
        blurred = (sums[9:] - sums[:-9]) / 9
        sharp, soft = np.abs(np.diff(picture, axis=0)), np.abs(np.diff(blurred, axis=0))
        total = float(sharp.sum())
        if total < 0.2 * sharp.size:  # hardly any edge: a plain area cannot be told from a blurred one
            continue
        worst = max(worst, 1 - float(np.maximum(0, sharp - soft).sum()) / total)
    return worst


def _quarter(grey: np.ndarray) -> np.ndarray:
    """A quarter of the size. In strongly blurred pictures the 256 levels make steps that look sharp; not so here."""
    high, wide = (side // 4 * 4 for side in grey.shape)
    return grey[:high, :wide].reshape(high // 4, 4, wide // 4, 4).mean((1, 3))


def _border(rgb: np.ndarray) -> tuple[int, int, int] | None:
    """The colour of the corners where each is plain and all four are alike."""
    side = max(2, min(rgb.shape[:2]) // 12)
    corners = [rgb[:side, :side], rgb[:side, -side:], rgb[-side:, :side], rgb[-side:, -side:]]
    means = np.array([corner.mean((0, 1)) for corner in corners])
    if max(float(corner.std((0, 1)).max()) for corner in corners) > 6 or float(np.ptp(means, axis=0).max()) > 8:
        return None
    red, green, blue = (round(float(v)) for v in means.mean(0))
    return red, green, blue


def _revive(cached: dict[str, Any]) -> Measures:
    fields = {key: value for key, value in cached.items() if key != "version"}
    fields["border"] = tuple(fields["border"]) if fields["border"] else None
    return Measures(**fields)
