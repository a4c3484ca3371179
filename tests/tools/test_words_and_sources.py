"""Captions speak English, and nothing enters the recipe that must not."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path

import pytest

from tools.mini_base import sources
from tools.mini_base.concepts import Concept, choose, first_few, slug_of
from tools.mini_base.data import icons_of, split
from tools.mini_base.sources import STYLES, Package, SourceError, check_contents, check_licence, refuse_forbidden
from tools.mini_base.words import article, full_caption, varied_caption


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("owl", "an "),
        ("bear", "a "),
        ("unicorn", "a "),
        ("hourglass", "an "),
        ("ewe", "a "),
        ("octopus", "an "),
        ("rhinoceros", "a "),
        ("glasses", ""),
        ("french fries", ""),
        ("bus", "a "),
        ("nest with eggs", "a "),
        ("smiling face with sunglasses", "a "),
    ],
)
def test_a_caption_has_the_right_article(name: str, before: str) -> None:
    assert article(name) == before


def test_a_full_caption_names_thing_style_and_background() -> None:
    assert full_caption("owl", "flat", "blue") == "an owl, flat style, blue background"


def test_a_caption_without_a_background_word_means_white() -> None:
    chance = random.Random(1)
    captions = [varied_caption(["fox"], "flat", "red", chance) for _ in range(300)]
    assert all("red background" in c for c in captions)
    assert any("background" not in varied_caption(["fox"], "flat", "white", chance) for _ in range(100))


def test_the_same_thing_has_one_slug_in_every_list() -> None:
    assert slug_of("T-Rex") == "t-rex"
    assert slug_of("piñata") == "pinata"
    assert slug_of("man’s shoe") == "mans-shoe"


def test_people_flags_and_clocks_are_left_out() -> None:
    rows = {
        "🦊": {"name": "fox", "group": "Animals & Nature"},
        "🕐": {"name": "one o’clock", "group": "Travel & Places"},
        "🧑": {"name": "person", "group": "People & Body"},
        "🏁": {"name": "chequered flag", "group": "Flags"},
        "🚗": {"name": "automobile", "group": "Travel & Places"},
    }
    chosen = choose(rows, [{"emoji": "🦊", "tags": ["reynard", "animal"]}])
    assert [c.slug for c in chosen] == ["fox", "automobile"]
    assert chosen[0].names == ("fox", "reynard")
    assert chosen[1].name == "car"
    assert [c.slug for c in first_few(chosen, 1)] == ["fox"]


@pytest.mark.parametrize("name", ["fxemoji", "emojione", "emojione-v1", "openmoji"])
def test_the_sets_kept_out_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match="kept out"):
        refuse_forbidden(f"@iconify-json/{name}")
    assert all(not s.package.name.endswith("/" + name) for s in (*STYLES, *sources.HANDS))


def test_other_hands_give_each_thing_its_own_icons_only() -> None:
    things = [Concept(slug, "Objects", (slug,)) for slug in ("bell", "automobile", "ewe", "rocket")]
    icons = ("bell", "bell-fill", "church", "car-fill", "automobile-fill", "sheep", "sheep-fill", "rocket-launch")
    hand = sources.Hand("pretend", sources.TWEMOJI, "MIT", "nobody", ("", "-fill"))
    assert icons_of(hand, {icon: icon for icon in icons}, things) == {
        ("bell", ""): "bell",
        ("bell", "-fill"): "bell-fill",
        ("automobile", "-fill"): "car-fill",
        ("ewe", ""): "sheep",
        ("ewe", "-fill"): "sheep-fill",
    }


def _package(folder: Path, licence: str) -> Package:
    package = Package("@iconify-json/pretend", "1.0.0", "x")
    content = json.dumps({"license": {"spdx": licence}}).encode()
    with tarfile.open(folder / package.file, "w:gz") as archive:
        info = tarfile.TarInfo("package/info.json")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return package


def test_a_changed_package_is_refused(tmp_path: Path) -> None:
    package = _package(tmp_path, "MIT")
    with pytest.raises(SourceError, match="not the pinned file"):
        check_contents(package, tmp_path)


def test_a_licence_is_read_from_the_package_itself(tmp_path: Path) -> None:
    package = _package(tmp_path, "CC-BY-SA-4.0")
    with pytest.raises(SourceError, match=r"CC-BY-SA-4\.0"):
        check_licence(package, tmp_path, "CC-BY-SA-4.0")
    check_licence(_package(tmp_path, "MIT"), tmp_path, "MIT")


def test_the_base_never_learns_the_example_style_and_not_every_combination() -> None:
    slugs = [f"thing-{i}" for i in range(400)]
    ink = [split(slug, sources.style("inkstamp")) for slug in slugs]
    flat = [split(slug, sources.style("twemoji")) for slug in slugs]
    assert not any(d.taught for d in ink)
    assert 20 < sum(not d.taught for d in flat) < 65  # a tenth
    assert 5 < sum(not d.judge_learns for d in flat) < 35  # a twenty-fifth
    assert flat == [split(slug, sources.style("twemoji")) for slug in slugs]
