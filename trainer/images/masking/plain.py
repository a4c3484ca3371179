"""Masks of what stands before a plain ground, without a model: the ground is flooded in from the borders. NumPy and Pillow.

Colours are compared in OKLab (Ottosson 2020), where equal distances look about equally large; lightness counts half, so that
soft shadows belong to the ground. A floor or a hill of another colour may reach from one side of the picture to the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from trainer.core.problem import Problem
from trainer.images.masking.result import MaskResult

SIDE = 384
"""The longer side at which is flooded."""
TOLERANCE = 0.055
"""OKLab distance that still is ground; black to white is 1, or 0.5 here."""
COLOURS, SHARE = 3, 0.75
"""At most so many colours must cover this share of the border, else the ground is not plain. The rest is what stands out
where it is cut off by the border, as in a portrait."""
ACROSS = 0.03
"""A further colour is ground where it covers this share of each of two opposite borders: a floor does, a foot does not."""
LEAST, MOST = 0.005, 0.95
"""What stands out must be more than a speck and less than everything."""
SPECK = 0.02
"""A piece smaller than this share of the largest is ground that was drawn on, not part of what counts."""
EDGE = 1.2
"""Pixels over which the edge fades, at `SIDE`."""
FLAT, FLAT_SHARE = 0.02, 0.75
"""This share of the ground has to lie so near to its colours: in a photograph's blurred background it does not."""
UNSURE = 0.85
"""Below this confidence it is refused. The mascot's pictures come to 0.9 and more, two photographs out of doors to 0.5 and
0.64."""

_TO_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]], np.float32)  # fmt: skip
_TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                    [0.0259040371, 0.7827717662, -0.8086757660]], np.float32)  # fmt: skip


class Plain:
    """Nothing is loaded; a word is not needed."""

    def __call__(self, pictures: Sequence[Image.Image], word: str) -> list[MaskResult | Problem]:
        return [segment(picture) for picture in pictures]


def segment(picture: Image.Image) -> MaskResult | Problem:
    """The mask of one picture, or why there is none."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    lab = oklab(np.asarray(small))
    away, plain = _away(lab)
    if plain < SHARE:
        return Problem("mask_ground", share=round(100 * plain))
    ground = flooded(away < TOLERANCE)
    shape = _without_specks(~ground)
    share = float(shape.mean())
    if not LEAST <= share <= MOST:
        return Problem("mask_nothing")
    sure = _clear(away, shape) * min(1.0, float((away[ground] < FLAT).mean()) / FLAT_SHARE)
    if sure < UNSURE:
        return Problem("mask_unsure", sure=round(100 * sure))
    mask = Image.fromarray(np.where(shape, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(EDGE))
    return MaskResult(mask.resize(picture.size, Image.Resampling.BICUBIC), sure)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB `[h, w, 3]` of 0..255 as OKLab, lightness halved."""
    s = rgb.astype(np.float32) / 255
    linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T * np.array([0.5, 1, 1], np.float32)


def _away(lab: np.ndarray) -> tuple[np.ndarray, float]:
    """(distance of each pixel to the nearest colour of the ground, share of the border these colours cover)."""
    ring = max(1, min(lab.shape[:2]) // 200)
    sides = [part.reshape(-1, 3) for part in (lab[:ring], lab[-ring:], lab[:, :ring], lab[:, -ring:])]
    rest = border = np.concatenate(sides)
    away, count = np.full(lab.shape[:2], np.inf, np.float32), 0
    while len(rest) >= ACROSS * len(border) and count < COLOURS:
        colour = _commonest(rest)
        covers = [float((_distance(side, colour) < TOLERANCE).mean()) for side in sides]
        if count and max(min(covers[:2]), min(covers[2:])) < ACROSS:
            break
        away = np.minimum(away, _distance(lab, colour))
        rest = rest[_distance(rest, colour) >= TOLERANCE]
        count += 1
    return away, 1 - len(rest) / len(border)


def _distance(lab: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.linalg.norm(lab - colour, axis=-1)


def _commonest(colours: np.ndarray) -> np.ndarray:
    """The mean of the fullest cell of a grid of colours as wide as the tolerance."""
    cells, which, counts = np.unique(np.floor(colours / TOLERANCE), axis=0, return_inverse=True, return_counts=True)
    del cells
    return colours[which.ravel() == counts.argmax()].mean(0)


def flooded(free: np.ndarray) -> np.ndarray:
    """What of `free [h, w]` can be reached from the border through it, in steps along rows and columns."""
    reached = np.zeros_like(free)
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        reached[side] = free[side]
    return _spread(reached, free)


def _spread(reached: np.ndarray, free: np.ndarray) -> np.ndarray:
    """`reached` grown through `free` as far as it goes: a whole stretch of a row or column at a time."""
    while True:
        grown = _along(_along(reached, free).T, free.T).T
        if grown.sum() == reached.sum():
            return reached
        reached = grown


def _along(reached: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Every unbroken stretch of a row that is reached anywhere."""
    begins = free.copy()
    begins[:, 1:] &= ~free[:, :-1]
    number = np.cumsum(begins.ravel(), dtype=np.int32).reshape(free.shape)  # of the stretch; meaningless where not free
    hit = np.zeros(int(number[-1, -1]) + 1, bool)
    hit[number[reached & free]] = True
    return hit[number] & free


def _without_specks(shape: np.ndarray) -> np.ndarray:
    """The largest piece and those not far smaller."""
    tidy = np.asarray(Image.fromarray(np.where(shape, 255, 0).astype(np.uint8)).filter(ImageFilter.MedianFilter(3))) > 0
    rest, pieces = tidy.copy(), []
    while rest.any() and len(pieces) < 60:
        start = np.zeros_like(rest)
        start[np.unravel_index(int(rest.argmax()), rest.shape)] = True
        piece = _spread(start, rest)
        pieces.append(piece)
        rest &= ~piece
    largest = max((int(piece.sum()) for piece in pieces), default=0)
    kept = np.zeros_like(tidy)
    for piece in pieces:
        if piece.sum() >= SPECK * largest:
            kept |= piece
    return kept


def _clear(away: np.ndarray, shape: np.ndarray) -> float:
    """How clearly what stands out does: the share of its outline, a few pixels inside, that is far from the ground."""
    mask = Image.fromarray(np.where(shape, 255, 0).astype(np.uint8))
    inner = np.asarray(mask.filter(ImageFilter.MinFilter(5))) > 0
    deeper = np.asarray(mask.filter(ImageFilter.MinFilter(9))) > 0
    band = inner & ~deeper
    return float((away[band] >= 1.5 * TOLERANCE).mean()) if band.any() else 0.0
