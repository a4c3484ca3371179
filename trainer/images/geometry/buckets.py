"""Aspect-ratio buckets, sizes of about the same area: pure geometry. The engine crops with it, the page draws it.

A picture of any shape is scaled until it covers its bucket and what hangs over is cropped around its focus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

Size = tuple[int, int]
Focus = tuple[float, float]
CENTRE: Focus = (0.5, 0.5)


class Crop(NamedTuple):
    """What is cut from a picture: the scale it is drawn at and the box in source pixels."""

    scale: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in source pixels, as Pillow takes a box."""
        return self.left, self.top, self.right, self.bottom


def step_for(resolution: int, step: int = 64) -> int:
    """The largest step up to `step` that still gives a small resolution several buckets: a multiple of 8, at most an
    eighth of the side (64 for 512 and above, 16 for 128)."""
    return max(8, min(step, resolution // 8 // 8 * 8))


def buckets(resolution: int, step: int = 64, max_ratio: float = 2.0, dense: bool = True) -> list[Size]:
    """All buckets (width, height) in pixels, of at most `resolution`² pixels whose sides are multiples of `step`, widest last.

    512, 64, 2 gives 384x640, 448x576, 512x512, 576x448, 640x384. For each shorter side the longest other that fits, and with
    `dense` for each longer side too: 1024 has 1280x768 and 1408x704 only so.
    """
    step = min(step, resolution)
    area, square = resolution * resolution, resolution // step * step
    sizes = {(square, square)}
    longest = int(resolution * math.sqrt(max_ratio)) + 2 * step if dense else square
    for width in range(step, longest + 1, step):
        height = area // width // step * step
        if height and max(height / width, width / height) <= max_ratio:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes, key=lambda size: (size[0] / size[1], size))


def assign(width: int, height: int, sizes: Sequence[Size], *, upscale: bool = True, step: int = 64) -> Size:
    """The bucket whose shape is closest to the picture's, as a ratio of ratios.

    With `upscale` off, a picture that would have to grow gets a smaller bucket of its own, rounded down to `step`.
    """
    shape = math.log(width / height)
    best = min(sizes, key=lambda size: (abs(math.log(size[0] / size[1]) - shape), -size[0] * size[1], size))
    shrink = min(width / best[0], height / best[1])
    if upscale or shrink >= 1:
        return best
    wide, high = (max(step, int(side * shrink + 1e-6) // step * step) for side in best)
    return wide, high


def crop_box(width: int, height: int, bucket: Size, focus: Focus | None = None) -> Crop:
    """The largest part of the picture in the bucket's shape, as near to `focus` (0..1) as the edges allow."""
    scale = max(bucket[0] / width, bucket[1] / height)
    wide, high = min(float(width), bucket[0] / scale), min(float(height), bucket[1] / scale)
    x, y = focus or CENTRE
    left = min(max(x * width - wide / 2, 0.0), width - wide)
    top = min(max(y * height - high / 2, 0.0), height - high)
    return Crop(scale, left, top, left + wide, top + high)


def cut_share(width: int, height: int, bucket: Size) -> float:
    """The share of the picture that the bucket cuts off, 0..1."""
    crop = crop_box(width, height, bucket)
    return 1 - (crop.right - crop.left) * (crop.bottom - crop.top) / (width * height)


def cut(image: Image.Image, bucket: Size, focus: Focus | None = None) -> Image.Image:
    """The picture as training sees it: cut and scaled in one Lanczos pass, without rounding the box to whole pixels."""
    crop = crop_box(image.width, image.height, bucket, focus)
    if image.size == bucket:
        return image.copy()
    return image.resize(bucket, Image.Resampling.LANCZOS, box=crop.box)
