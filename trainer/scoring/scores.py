"""The formulas of likeness, on unit vectors of pictures and sentences. NumPy and Pillow.

CLIP-I and CLIP-T as in DreamBooth (Ruiz et al. 2023, section 4.1): the mean cosine between the pictures drawn and the
pictures learnt from, and between a picture and its prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

COPY, COPY_PIXELS = 0.95, 0.95
"""The cosines, of a CLIP's vectors and of small pictures, from which a picture may be a copy; both are needed. Higher where
the set's own pictures come that close to each other. Each alone takes another pose of one character for a copy."""
SMALL = 32
SAME = 0.99
"""Two pictures of a set nearer than this are one picture twice: they say nothing about how near different ones come."""


@dataclass(frozen=True)
class Score:
    """One picture. `prompt` is None where it has none to be held against; `nearest` indexes the set's pictures."""

    likeness: float
    prompt: float | None
    nearest: int
    closeness: float
    copied: bool


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows `[n, d]` at length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class Looks:
    """Pictures as unit vectors: a CLIP's `clip [n, d]`, and small pictures `pixels [n, 3 * SMALL**2]`."""

    clip: np.ndarray
    pixels: np.ndarray


def scores(drawn: Looks, learnt: Looks, said: list[np.ndarray | None]) -> list[Score]:
    """Pictures `drawn` against the set `learnt`, and each against its own sentence (a unit vector `[d]`)."""
    cosines, pixels = drawn.clip @ learnt.clip.T, drawn.pixels @ learnt.pixels.T
    limit, pixel_limit = copy_limit(learnt.clip, COPY), copy_limit(learnt.pixels, COPY_PIXELS)
    found = []
    for row, small, picture, words in zip(cosines, pixels, drawn.clip, said, strict=True):
        near = int(row.argmax())
        copied = bool(row[near] >= limit and small[near] >= pixel_limit)
        fits = None if words is None else float(picture @ words)
        found.append(Score(float(row.mean()), fits, near, float(row[near]), copied))
    return found


def small(picture: Image.Image) -> np.ndarray:
    """A picture as `[3 * SMALL**2]`: every colour's mean taken off, so that one plain ground is like no other."""
    pixels = np.asarray(picture.convert("RGB").resize((SMALL, SMALL), Image.Resampling.BOX), np.float32)
    return unit((pixels - pixels.mean((0, 1))).ravel())


def among_themselves(learnt: np.ndarray) -> float | None:
    """The mean cosine of the set's pictures to each other (`[m, d]`): what a drawing cannot well exceed. None for one."""
    many = len(learnt)
    return float((learnt @ learnt.T)[~np.eye(many, dtype=bool)].mean()) if many > 1 else None


def copy_limit(learnt: np.ndarray, least: float) -> float:
    """The cosine from which a picture counts as a copy: `least`, or how near two different pictures of the set come."""
    cosines = learnt @ learnt.T
    others = cosines[~np.eye(len(learnt), dtype=bool) & (cosines < SAME)]
    return float(others.max(initial=least))
