"""What a training lacks before it can start, by one formula for a config and for a tree that is not valid yet."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.config import load
from trainer.config.plan import draws, is_slider
from trainer.config.ready import lacks, slider_problems
from trainer.config.train import TrainConfig

FOX = {"target": "a fox", "positive": "a huge fox", "negative": "a tiny fox"}
CASES: list[tuple[dict[str, Any], int, list[str]]] = [
    ({}, 0, ["images.folder", "save.name", "rights.pictures_ok"]),
    ({"save": {"name": " "}, "rights": {"pictures_ok": True}}, 3, ["save.name"]),
    ({"save": {"name": "Ink"}, "rights": {"pictures_ok": True}}, 3, []),
    ({"save": {"name": "Ink"}, "run": {"kind": "slider"}}, 0, ["slider.target", "slider.positive", "slider.negative"]),
    ({"save": {"name": "Ink"}, "run": {"kind": "slider"}, "slider": FOX}, 0, []),
    (
        {"save": {"name": "Ink"}, "run": {"kind": "slider"}, "slider": {**FOX, "generated_images": 0}},
        0,
        ["images.folder", "rights.pictures_ok"],
    ),
]


@pytest.mark.parametrize(("tree", "images", "fields"), CASES)
def test_a_config_and_its_tree_lack_the_same(tree: dict[str, Any], images: int, fields: list[str]) -> None:
    config = load.build(tree)
    for settings in (tree, config, load.dump(config)):
        assert [problem.field for problem in lacks(settings, images)] == fields
        assert (is_slider(settings), draws(settings)) == (is_slider(config), draws(config))


def test_a_tree_that_is_not_valid_is_answered_too():
    assert [one.field for one in lacks({"lora": {"rank": "much"}, "slider": {"target": None}}, 1)] == [
        "save.name",
        "rights.pictures_ok",
    ]


def test_a_slider_hears_all_it_cannot_have():
    tree = {"run": {"kind": "slider"}, "slider": {**FOX, "negative": " a huge fox"}, "captions": {"trigger": "foxy"}}
    tree |= {"validation": {"split": 0.2}}
    assert [(one.code, one.field) for one in slider_problems(tree)] == [
        ("slider_same", "slider.negative"),
        ("not_for_slider", "captions.trigger"),
        ("not_for_slider", "validation.split"),
    ]
    assert slider_problems(load.merge(tree, {"run": {"kind": "style"}})) == slider_problems(TrainConfig()) == []
