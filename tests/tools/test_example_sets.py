"""The two image sets a newcomer starts with, and the code that draws the mascot."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.mini_base import mascot, poses
from tools.mini_base.looks import TONES
from tools.mini_base.render import BACKGROUNDS, nearest_background, on_background, rasterise

DATASETS = Path(__file__).resolve().parents[2] / "datasets"


@pytest.mark.parametrize(("name", "kind"), [("example-style", "style"), ("example-character", "character")])
def test_an_example_set_holds_sixteen_pictures_with_captions(name: str, kind: str) -> None:
    folder = DATASETS / name
    facts = json.loads((folder / "set.json").read_text(encoding="utf-8"))
    stems = [f"{n:04d}" for n in range(1, 17)]
    assert sorted(p.stem for p in folder.glob("*.png")) == stems
    assert sorted(facts["pictures"]) == stems
    assert facts["kind"] == kind
    assert facts["licence"] in {"MIT", "Apache-2.0"}
    assert facts["title"]["en"] and facts["title"]["ja"] and facts["origin"] and facts["rights"]
    captions = [(folder / f"{stem}.txt").read_text(encoding="utf-8").strip() for stem in stems]
    assert len(set(captions)) == 16
    assert all(facts["trigger"] in caption for caption in captions)
    for stem in stems:
        with Image.open(folder / f"{stem}.png") as picture:
            assert picture.size == (512, 512)


def test_the_style_set_is_blue_ink_on_white_paper() -> None:
    for number in range(1, 17):
        pixels = np.asarray(Image.open(DATASETS / "example-style" / f"{number:04d}.png").convert("RGB"), dtype=np.int16)
        red, green, blue = pixels.reshape(-1, 3).T
        assert (pixels[:4].min() == 255) and (red <= green).all() and (green <= blue).all(), number
        assert len({tuple(tone) for tone in TONES.tolist()} & {tuple(c) for c in pixels.reshape(-1, 3).tolist()}) >= 2


def test_the_character_set_shows_the_backgrounds_its_captions_name() -> None:
    folder = DATASETS / "example-character"
    named = [(folder / f"{n:04d}.txt").read_text(encoding="utf-8").split(", ")[-1].split()[0] for n in range(1, 17)]
    pose_grounds = [pose.background for pose in poses.EXAMPLE_POSES]
    assert named == pose_grounds
    assert len(set(named)) >= 8


def test_judge_and_example_set_share_no_prop() -> None:
    chance = random.Random(0)
    drawn = [poses.other_pose(chance) for _ in range(200)]
    held = {pose.prop for pose in drawn if pose.prop}
    assert held == set(poses.OTHER_PROPS)
    assert held.isdisjoint(pose.prop for pose in poses.EXAMPLE_POSES)


def test_the_mascot_is_drawn_on_the_background_asked_for() -> None:
    pytest.importorskip("resvg_py")
    for name in BACKGROUNDS:
        picture = rasterise(mascot.svg(mascot.Pose(background=name, scale=0.6)), 128).convert("RGB")
        assert nearest_background(picture) == name
        body = picture.getpixel((48, 62))
        assert isinstance(body, tuple) and abs(body[0] - 0x16) < 8 and abs(body[1] - 0xB8) < 8  # the body's turquoise


def test_a_transparent_icon_lies_on_the_named_colour() -> None:
    pytest.importorskip("resvg_py")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="2" fill="#f00"/></svg>'
    picture = on_background(rasterise(svg, 64), "green")
    assert picture.getpixel((1, 1)) == BACKGROUNDS["green"]
    assert picture.getpixel((32, 32)) == (255, 0, 0)
