"""The looks made from an icon set: a print in eight inks, and a sticker."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tools.mini_base.looks import INKS, LOOKS, printed, sticker
from tools.mini_base.sources import STYLES


def _disc(side: int = 192) -> Image.Image:
    picture = Image.new("RGBA", (side, side))
    ImageDraw.Draw(picture).ellipse([side * 0.2, side * 0.2, side * 0.8, side * 0.8], fill=(230, 30, 30, 255))
    return picture


def test_a_print_has_its_eight_inks_and_the_drawing_s_own_outline() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 4), dtype=np.uint8)
    seen = np.asarray(printed(Image.fromarray(noise, "RGBA")))
    assert {tuple(c) for c in seen[..., :3].reshape(-1, 3).tolist()} == {tuple(c) for c in INKS.astype(int).tolist()}
    assert np.array_equal(seen[..., 3], noise[..., 3])
    assert np.asarray(printed(_disc()))[96, 96].tolist() == [190, 64, 48, 255]  # red becomes brick


def test_a_sticker_has_a_white_border_and_a_shadow_within_the_picture() -> None:
    seen = np.asarray(sticker(_disc())).astype(int)
    assert seen[96, 96].tolist() == [230, 30, 30, 255]
    row = seen[96]
    paper = [x for x in range(96) if row[x, 3] > 240 and row[x, :3].min() > 240]
    assert paper and max(paper) - min(paper) >= 2, "a border left of the drawing"
    outside = row[min(paper) - 6]
    assert 0 < outside[3] < 120 and outside[:3].max() < 60, "a dark, see-through shadow outside it"
    assert seen[[0, -1], :, 3].max() == 0 and seen[:, [0, -1], 3].max() == 0, "nothing touches the picture's edge"


def test_every_look_a_style_names_is_there() -> None:
    assert {s.look for s in STYLES if s.look} == set(LOOKS)
