"""The looks made from an icon set: a print in eight inks, a stamp in blue, a sticker, an outlined and a raised drawing."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tools.mini_base.looks import INKS, LOOKS, TONES, outlined, printed, raised, stamped, sticker
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


def test_a_stamp_has_four_tones_of_one_ink_darker_where_the_drawing_is() -> None:
    picture = _disc()
    draw = ImageDraw.Draw(picture)
    draw.rectangle([60, 60, 80, 130], fill=(250, 250, 250, 255))
    draw.rectangle([90, 60, 110, 130], fill=(250, 200, 60, 255))
    seen = np.asarray(stamped(picture))
    assert {tuple(c) for c in seen[..., :3].reshape(-1, 3).tolist()} <= {tuple(c) for c in TONES.tolist()}
    assert np.array_equal(seen[..., 3], np.asarray(outlined(picture))[..., 3]), "as large, with the same line around"
    white, yellow, red = (seen[96, x, :3].tolist() for x in (72, 100, 130))
    assert [white, yellow, red] == [TONES[3].tolist(), TONES[2].tolist(), TONES[1].tolist()]
    line = np.flatnonzero(seen[96, :, 3] > 200)[0] + 1
    assert seen[96, line, :3].tolist() == TONES[0].tolist(), "the line is in full ink"


def test_a_sticker_has_a_white_border_and_a_shadow_within_the_picture() -> None:
    seen = np.asarray(sticker(_disc())).astype(int)
    assert seen[96, 96].tolist() == [230, 30, 30, 255]
    row = seen[96]
    paper = [x for x in range(96) if row[x, 3] > 240 and row[x, :3].min() > 240]
    assert paper and max(paper) - min(paper) >= 2, "a border left of the drawing"
    outside = row[min(paper) - 6]
    assert 0 < outside[3] < 120 and outside[:3].max() < 60, "a dark, see-through shadow outside it"
    assert seen[[0, -1], :, 3].max() == 0 and seen[:, [0, -1], 3].max() == 0, "nothing touches the picture's edge"


def test_an_outline_runs_around_the_drawing_and_where_its_colours_meet() -> None:
    picture = _disc()
    ImageDraw.Draw(picture).rectangle([90, 70, 102, 122], fill=(250, 250, 250, 255))
    seen = np.asarray(outlined(picture)).astype(int)
    row = seen[96]
    dark = (row[:, 3] > 200) & (row[:, :3].max(1) < 110)
    runs = [len(run) for run in np.split(np.flatnonzero(dark), np.flatnonzero(np.diff(np.flatnonzero(dark)) > 1) + 1)]
    assert len(runs) == 4, "left and right of the disc, left and right of the bar in it"
    assert min(runs[0], runs[3]) > max(runs[1], runs[2]), "thick around, thin within"
    assert row[96].tolist() == [250, 250, 250, 255] and abs(row[70] - [230, 30, 30, 255]).max() < 3
    assert seen[[0, -1], :, 3].max() == 0 and seen[:, [0, -1], 3].max() == 0, "nothing touches the picture's edge"


def test_a_raised_drawing_throws_a_solid_shadow_to_the_lower_right() -> None:
    seen = np.asarray(raised(_disc())).astype(int)
    shadow = (seen[..., 3] == 255) & (abs(seen[..., :3] - [56, 48, 132]).max(-1) < 3)
    paint = (seen[..., 3] == 255) & (abs(seen[..., :3] - [230, 30, 30]).max(-1) < 3)
    (sy, sx), (py, px) = (np.argwhere(part).mean(0) for part in (shadow, paint))
    assert shadow.sum() > 0.05 * paint.sum() and sy > py + 20 and sx > px + 20
    assert seen[[0, -1], :, 3].max() == 0 and seen[:, [0, -1], 3].max() == 0, "nothing touches the picture's edge"


def test_every_look_a_style_names_is_there() -> None:
    assert {s.look for s in STYLES if s.look} == set(LOOKS)
