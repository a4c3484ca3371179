"""The Library page's fold that merges and shrinks: new files with their origin in them, and a sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.making import make
from tests.app import studio
from trainer.adapters.weights import normalise
from trainer.home import Home
from trainer.library import Library
from trainer.problem import Problem


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.find(tmp_path).create()
    studio.lora(home, "Ink fox")
    studio.lora(home, "Red hat")
    return home


def test_several_become_one_under_a_free_name_with_their_origin(home: Home) -> None:
    one, two = (card.name for card in Library(home).cards())
    before = (home.loras / f"{one}.safetensors").read_bytes()
    name = make(home, [one, two], "0.8", "", one)
    assert name != one and (home.loras / f"{one}.safetensors").read_bytes() == before
    card = Library(home).card(name)
    assert card.rank == 8 and card.broken is None and card.trigger == "inkfox"
    place = ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    made, first = (normalise(home.loras / f"{n}.safetensors").modules[place].delta() for n in (name, one))
    assert np.allclose(made, 1.8 * first, atol=2e-3 * np.abs(first).max())  # both hold the same here; fp16


def test_one_becomes_smaller(home: Home) -> None:
    one = Library(home).cards()[0].name
    assert Library(home).card(make(home, [one], "", "2", "Small fox")).rank == 2


@pytest.mark.parametrize(
    ("names", "strengths", "rank", "name", "code"),
    [
        (0, "", "", "x", "merge_few"),
        (2, "", "", " ", "name_missing"),
        (2, "a, b", "", "x", "not_float"),
        (2, "1, 99", "", "x", "strength_range"),
        (2, "1, 1, 1", "", "x", "strengths_many"),
        (1, "", "", "x", "resize_how"),
        (1, "", "2.5", "x", "not_int"),
        (1, "", "0", "x", "rank_range"),
    ],
)
def test_a_mistake_is_said_and_nothing_is_made(home: Home, names: int, strengths: str, rank: str, name: str, code: str) -> None:
    chosen = [card.name for card in Library(home).cards()][:names]
    with pytest.raises(Problem) as told:
        make(home, chosen, strengths, rank, name)
    assert told.value.code == code and str(told.value)
    assert len(Library(home).cards()) == 2
