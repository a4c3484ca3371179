"""Data augmentation: a picture as it is, and variants with color jitter or a small rotation. Pure functions for the engine.

A rotated variant is scaled up until no empty corner shows and then cut, so that it keeps its bucket.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from PIL import Image, ImageEnhance

from trainer.images.geometry import buckets

HUE = 0.1
"""How far the hue moves for a color jitter of 1, as a share of the circle."""


class Augmentation(NamedTuple):
    """One change: three factors, a shift of the hue as a share of the circle, and degrees against the clock."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    rotation: float


class AugmentationSettings(NamedTuple):
    """How many variants each picture has, itself among them, and how far the others may go."""

    count: int = 1
    color_jitter: float = 0.0
    rotation: float = 0.0

    def draw(self, rng: random.Random) -> Augmentation:
        """One of the others, by the state of `rng`."""
        brightness, contrast, saturation, hue, rotation = (rng.uniform(-1, 1) for _ in range(5))
        return Augmentation(
            1 + self.color_jitter * brightness,
            1 + self.color_jitter * contrast,
            1 + self.color_jitter * saturation,
            HUE * self.color_jitter * hue,
            self.rotation * rotation,
        )


def zoom(size: buckets.Size, augmentation: Augmentation | None) -> float:
    """How much larger a picture must be for its bucket to hold no empty corner once rotated: w·cos + h·sin over w, h alike."""
    if augmentation is None or not augmentation.rotation:
        return 1.0
    (wide, high), angle = size, math.radians(abs(augmentation.rotation))
    return math.cos(angle) + math.sin(angle) * max(high / wide, wide / high)


def cut(
    image: Image.Image, bucket: buckets.Size, focus: buckets.Focus | None, augmentation: Augmentation | None
) -> Image.Image:
    """The picture cut to its bucket around the focus, and then rotated around the middle of the cut."""
    scale = zoom(bucket, augmentation)
    if augmentation is None or scale == 1.0:
        return buckets.cut(image, bucket, focus)
    wide, high = (math.ceil(side * scale) + 2 for side in bucket)  # a pixel more on each side: interpolation looks around
    turned = buckets.cut(image, (wide, high), focus).rotate(augmentation.rotation, Image.Resampling.BICUBIC)
    left, top = (wide - bucket[0]) // 2, (high - bucket[1]) // 2
    return turned.crop((left, top, left + bucket[0], top + bucket[1]))


def color_jitter(image: Image.Image, augmentation: Augmentation | None) -> Image.Image:
    """An RGB picture with the augmentation's brightness, contrast, saturation and hue."""
    if augmentation is None:
        return image
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhance, factor in zip(enhancers, augmentation[:3], strict=True):
        image = enhance(image).enhance(factor) if factor != 1 else image
    shift = round(augmentation.hue * 256)
    if not shift:
        return image
    hue, saturation, value = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point([(h + shift) % 256 for h in range(256)]), saturation, value)).convert("RGB")
