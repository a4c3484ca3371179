"""Looks made from an icon set's drawings, where a style is more than the set as it is.

`data.py` calls `LOOKS[style.look]` on every drawing of a style that names one. All of them take and give RGBA pictures of
the same size and leave the ground transparent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

# Eight inks of a print of the fifties: paper, brick, mustard, teal, navy, brown, skin, black.
INKS = np.array(
    [
        (245, 232, 205),
        (190, 64, 48),
        (222, 160, 60),
        (48, 122, 120),
        (36, 50, 84),
        (120, 70, 48),
        (232, 196, 150),
        (20, 24, 34),
    ],
    dtype=np.float32,
)


def printed(picture: Image.Image) -> Image.Image:
    """Every colour becomes the nearest of the eight inks (in RGB); the transparency stays."""
    pixels = np.asarray(picture.convert("RGBA"), dtype=np.float32)
    nearest = ((pixels[..., None, :3] - INKS) ** 2).sum(-1).argmin(-1)
    return Image.fromarray(np.concatenate([INKS[nearest], pixels[..., 3:]], -1).astype(np.uint8), "RGBA")


def sticker(picture: Image.Image) -> Image.Image:
    """The drawing cut out with a white border and a soft shadow, a little smaller so that both fit."""
    side = picture.width
    border, inner = side / 48, round(side * 0.885)
    paper = Image.new("RGBA", picture.size)
    small = picture.convert("RGBA").resize((inner, inner), Image.Resampling.LANCZOS)
    paper.paste(small, ((side - inner) // 2,) * 2)
    wide = paper.getchannel("A").filter(ImageFilter.GaussianBlur(border))
    cut = wide.point(lambda v: 255 if v > 12 else 0).filter(ImageFilter.GaussianBlur(side / 240))
    shadow = cut.filter(ImageFilter.GaussianBlur(side / 38)).point(lambda v: int(v * 0.55))
    result = Image.new("RGBA", picture.size)
    for colour, shape in (((30, 30, 40), shadow), ((255, 255, 255), cut)):
        layer = Image.new("RGBA", picture.size, colour)
        layer.putalpha(shape)
        result.alpha_composite(layer)
    result.alpha_composite(paper)
    return result


LOOKS: dict[str, Callable[[Image.Image], Image.Image]] = {"printed": printed, "sticker": sticker}
