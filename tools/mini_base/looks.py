"""Looks made from an icon set's drawings, where a style is more than the set as it is.

`data.py` calls `LOOKS[style.look]` on every drawing of a style that names one. All of them take and give RGBA pictures of
the same size and leave the ground transparent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageFilter

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


# Four tones of one ink on paper, from full to none.
TONES = np.array([(26, 38, 104), (74, 100, 178), (158, 180, 226), (238, 242, 250)], dtype=np.uint8)
_STEPS = (0.30, 0.56, 0.82)  # of luma (Rec. 601), where the next lighter tone begins


def stamped(picture: Image.Image) -> Image.Image:
    """A print from a stamp: the outlined drawing in four tones of one blue ink, by how light its colours are."""
    lined = outlined(picture)
    luma = np.asarray(lined.convert("RGB").convert("L"), dtype=np.float32) / 255
    tones = TONES[np.digitize(luma, _STEPS)]
    return Image.fromarray(np.concatenate([tones, np.asarray(lined)[..., 3:]], -1), "RGBA")


def sticker(picture: Image.Image) -> Image.Image:
    """The drawing cut out with a white border and a soft shadow, a little smaller so that both fit."""
    side = picture.width
    border, paper = side / 48, _smaller(picture, 0.885)
    wide = paper.getchannel("A").filter(ImageFilter.GaussianBlur(border))
    cut = wide.point(_above(12)).filter(ImageFilter.GaussianBlur(side / 240))
    shadow = cut.filter(ImageFilter.GaussianBlur(side / 38)).point(lambda v: int(v * 0.55))
    result = Image.new("RGBA", picture.size)
    result.alpha_composite(_inked(shadow, (30, 30, 40)))
    result.alpha_composite(_inked(cut, (255, 255, 255)))
    result.alpha_composite(paper)
    return result


def outlined(picture: Image.Image) -> Image.Image:
    """A thick dark line around the drawing, and a thin one where two colours in it meet."""
    side = picture.width
    small = _smaller(picture, 0.93)
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(small)
    flat = paper.convert("RGB").filter(ImageFilter.MedianFilter(5))
    gaps = ImageChops.subtract(flat.filter(ImageFilter.MaxFilter(3)), flat.filter(ImageFilter.MinFilter(3)))
    meeting = Image.fromarray(np.where(np.asarray(gaps).max(-1) > 84, 255, 0).astype(np.uint8))
    shape = small.getchannel("A")
    wide = shape.filter(ImageFilter.GaussianBlur(side / 64)).point(_above(16))
    line = ImageChops.lighter(ImageChops.subtract(wide, shape), ImageChops.multiply(meeting, wide))
    small.alpha_composite(_inked(line.filter(ImageFilter.GaussianBlur(side / 240)), (40, 28, 60)))
    return small


def raised(picture: Image.Image) -> Image.Image:
    """The drawing on a solid indigo shadow to the lower right, as letters on a poster stand out."""
    side = picture.width
    far = round(side * 0.055)
    small = _smaller(picture, 0.9)
    shape = small.getchannel("A").point(_above(100))
    shadow = shape
    for step in range(1, far + 1):
        shadow = ImageChops.lighter(shadow, ImageChops.offset(shape, step, step))
    result = _inked(shadow.filter(ImageFilter.GaussianBlur(side / 300)), (56, 48, 132))
    result.alpha_composite(small)
    return ImageChops.offset(result, -far // 2, -far // 2)


def _above(level: int) -> list[int]:
    """The table for `Image.point` that makes values above `level` white and all others black."""
    return [255 if value > level else 0 for value in range(256)]


def _smaller(picture: Image.Image, share: float) -> Image.Image:
    """The drawing at `share` of its size in the middle of the same square, so that what is added fits."""
    side = picture.width
    inner = round(side * share)
    paper = Image.new("RGBA", picture.size)
    small = picture.convert("RGBA").resize((inner, inner), Image.Resampling.LANCZOS)
    paper.paste(small, ((side - inner) // 2, (side - inner) // 2))
    return paper


def _inked(shape: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    layer = Image.new("RGBA", shape.size, colour)
    layer.putalpha(shape)
    return layer


LOOKS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "printed": printed,
    "stamped": stamped,
    "sticker": sticker,
    "outlined": outlined,
    "raised": raised,
}
