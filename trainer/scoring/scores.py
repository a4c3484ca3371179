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
    """One picture: `likeness` is CLIP-I, `prompt` CLIP-T (None where it has none to be held against), `nearest` indexes the
    set's pictures. All cosines, from -1 to 1."""

    likeness: float
    prompt: float | None
    nearest: int
    nearest_similarity: float
    copied: bool


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows `[n, d]` at length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class ImageEmbeddings:
    """Pictures as unit vectors: a CLIP's `clip [n, d]`, and small pictures `pixels [n, 3 * SMALL**2]`."""

    clip: np.ndarray
    pixels: np.ndarray


def scores(drawn: ImageEmbeddings, reference: ImageEmbeddings, text_embeddings: list[np.ndarray | None]) -> list[Score]:
    """Pictures `drawn` against the set `reference`, and each against its own sentence (a unit vector `[d]`, or None), in
    order."""
    cosines, pixels = drawn.clip @ reference.clip.T, drawn.pixels @ reference.pixels.T
    limit, pixel_limit = copy_threshold(reference.clip, COPY), copy_threshold(reference.pixels, COPY_PIXELS)
    results = []
    for row, small, picture, text_embedding in zip(cosines, pixels, drawn.clip, text_embeddings, strict=True):
        near = int(row.argmax())
        copied = bool(row[near] >= limit and small[near] >= pixel_limit)
        fits = None if text_embedding is None else float(picture @ text_embedding)
        results.append(Score(float(row.mean()), fits, near, float(row[near]), copied))
    return results


def small(picture: Image.Image) -> np.ndarray:
    """A picture as `[3 * SMALL**2]`: every colour's mean taken off, so that one plain ground is like no other."""
    pixels = np.asarray(picture.convert("RGB").resize((SMALL, SMALL), Image.Resampling.BOX), np.float32)
    return unit((pixels - pixels.mean((0, 1))).ravel())


def self_similarity(reference: np.ndarray) -> float | None:
    """The mean cosine of the set's pictures to each other (`[m, d]`): what a drawing cannot well exceed. None for one."""
    many = len(reference)
    return float((reference @ reference.T)[~np.eye(many, dtype=bool)].mean()) if many > 1 else None


def copy_threshold(reference: np.ndarray, least: float) -> float:
    """The cosine from which a picture counts as a copy: `least`, or how near two different pictures of the set come."""
    cosines = reference @ reference.T
    others = cosines[~np.eye(len(reference), dtype=bool) & (cosines < SAME)]
    return float(others.max(initial=least))
