"""The trial of a training tells what it costs, and where memory runs out how much was needed and how much there is."""

from __future__ import annotations

import json

import pytest
import torch

from trainer import files
from trainer.config import load
from trainer.engine import forecast
from trainer.engine.step import StepMaker


def tried(bench, capsys, *overrides: str) -> dict:
    given = bench.home.root / "config.json"
    files.write_json(given, load.dump(bench.config("run.device=cpu", *overrides)))
    capsys.readouterr()
    assert forecast.main([str(given), "--home", str(bench.home.root)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_trial_says_what_a_run_costs_or_what_memory_it_lacks(bench, capsys, monkeypatch):
    told = tried(bench, capsys, "run.steps=7")
    assert told["steps"] == 7 and told["seconds"] >= 7 * told["seconds_per_step"] > 0

    def starve(self, step, batches, scale):
        return torch.empty(10**15)  # what no machine has: the allocator itself refuses

    monkeypatch.setattr(StepMaker, "backward", starve)
    told = tried(bench, capsys)
    assert set(told) == {"needed", "free"}
    assert told["needed"] > 4 * 10**15 > 10**13 > told["free"] > 10**8

    def break_(self, step, batches, scale):
        raise RuntimeError("something else")

    monkeypatch.setattr(StepMaker, "backward", break_)
    with pytest.raises(RuntimeError, match="something else"):
        tried(bench, capsys)


def test_a_trial_of_a_slider_needs_no_pictures_and_counts_the_drawing_of_all(bench, capsys, monkeypatch):
    words = ("run.kind=slider", "slider.target=a fox", "slider.positive=a huge fox", "slider.negative=a tiny fox",
             "captions.trigger=", "images.folder=", "slider.drawn=500", "run.steps=1")  # fmt: skip
    told = tried(bench, capsys, *words)
    drawn = sorted((bench.home.root / "pictures").glob("*.png"))
    assert told["steps"] == 1 and len(drawn) == 1  # of the 500
    assert told["encode_seconds"] > 20 * told["seconds_per_step"]
