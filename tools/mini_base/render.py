"""From an SVG drawing to pixels, and from transparent pixels to a picture on a named background.

`data.py`, `judge.py` and `example_sets.py` call this; resvg does the drawing, so gradients and filters come out right.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

# Ten backgrounds a prompt can ask for. Far enough apart that a corner pixel tells which one it is.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (24, 24, 28),
    "gray": (150, 155, 160),
    "red": (222, 66, 66),
    "orange": (245, 150, 55),
    "yellow": (250, 220, 88),
    "green": (92, 182, 104),
    "blue": (82, 142, 234),
    "purple": (150, 98, 206),
    "pink": (250, 168, 204),
}


def svg_of_icon(pack: dict[str, Any], icon: str) -> str:
    """The SVG document of one icon of an Iconify set; `currentColor` becomes black."""
    drawing = pack["icons"][icon]
    left, top = drawing.get("left", 0), drawing.get("top", 0)
    width = drawing.get("width", pack.get("width", 16))
    height = drawing.get("height", pack.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{drawing["body"].replace("currentColor", "#000000")}</svg>'
    )


def rasterise(svg: str, pixels: int) -> Image.Image:
    """Draw a square SVG at `pixels` x `pixels`, keeping transparency."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=pixels, height=pixels))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    return picture if picture.size == (pixels, pixels) else _on_square(picture, pixels)


def _on_square(picture: Image.Image, pixels: int) -> Image.Image:
    """Centre a picture that is not square on a transparent square."""
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (pixels, pixels))
    square.paste(picture, ((pixels - picture.width) // 2, (pixels - picture.height) // 2))
    return square


def on_background(picture: Image.Image, name: str) -> Image.Image:
    """Put a transparent picture on one of the named backgrounds."""
    ground = Image.new("RGBA", picture.size, (*BACKGROUNDS[name], 255))
    return Image.alpha_composite(ground, picture).convert("RGB")


def ink_share(picture: Image.Image) -> float:
    """How much of a transparent picture is drawn on, 0 to 1. An empty drawing gives about 0."""
    return float(np.asarray(picture)[..., 3].mean() / 255)


def nearest_background(picture: Image.Image) -> str:
    """Which named background the four corners show: the median colour of four 8 x 8 patches, nearest in RGB."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    side = max(2, picture.width // 16)
    corners = [pixels[:side, :side], pixels[:side, -side:], pixels[-side:, :side], pixels[-side:, -side:]]
    colour = np.median(np.concatenate([c.reshape(-1, 3) for c in corners]), axis=0)
    names = list(BACKGROUNDS)
    distance = ((np.array([BACKGROUNDS[n] for n in names], dtype=np.float32) - colour) ** 2).sum(axis=1)
    return names[int(distance.argmin())]
