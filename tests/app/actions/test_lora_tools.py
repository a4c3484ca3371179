"""The Library page's fold that merges and shrinks: new files with their origin in them, and a sentence for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.actions.lora_tools import bake, extract, make
from tests.helpers import studio
from tests.helpers.lora_files import factors
from trainer.adapters import file as lora_file
from trainer.adapters.weights import normalise
from trainer.bases import catalog
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.library.library import Library


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
        (0, "", "", "x", "loras_unchosen"),
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


def mini_lora(home: Home, name: str = "Ink") -> str:
    """A LoRA for the embedded base, in the library."""
    layers = catalog.layers(catalog.find(home, "mini"))
    return lora_file.write(home.loras / f"{name}.safetensors", factors(layers), {}, family="sd1").stem


def test_a_base_takes_a_lora_in_and_gives_it_back(home: Home) -> None:
    lora, told = mini_lora(home), []
    old = {file: file.read_bytes() for file in (PROJECT / "models" / "mini").rglob("*.safetensors")}
    new = bake(home, "mini", [lora], "0.5", "Inked", lambda done, of: told.append((done, of)))
    assert told[-1][0] == told[-1][1] > 50 and {file: file.read_bytes() for file in old} == old
    assert catalog.find(home, new).path == home.models / "Inked" and new in [base.id for base in catalog.list_bases(home)]
    old_facts, facts = catalog.find(home, "mini"), catalog.find(home, new)
    assert (facts.id, facts.title) == ("Inked", "Inked"), "another base, by its own name"
    for kept in ("family", "licence", "licence_url", "resolution", "guidance", "steps", "sample_prompts"):
        assert getattr(facts, kept) == getattr(old_facts, kept)
    assert facts.path is not None
    made = json.loads((facts.path / "atelier.json").read_text())["made_from"]
    assert made["base"] == "mini" and [(one["name"], one["unet"]) for one in made["loras"]] == [("Ink", 0.5)]
    assert bake(home, "mini", [lora], "0.5", "Inked") == "Inked_v2", "nothing is overwritten"
    back = Library(home).card(extract(home, "mini", new, "4", "Out of it"))
    assert back.rank == 4 and back.broken is None
    place = ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    given, found = (normalise(home.loras / f"{n}.safetensors").modules[place].delta() for n in (lora, back.name))
    assert np.allclose(found, 0.5 * given, atol=2e-2 * np.abs(given).max())  # through a base in fp16


def test_mistakes_with_bases_are_said_and_nothing_is_made(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = mini_lora(home)

    def code(work: object) -> str:
        with pytest.raises(Problem) as told:
            work()  # type: ignore[operator]
        assert str(told.value)
        return told.value.code

    assert code(lambda: bake(home, "", [lora], "", "x")) == "base_unchosen"
    assert code(lambda: bake(home, "mini", [], "", "x")) == "loras_unchosen"
    assert code(lambda: bake(home, "nowhere", [lora], "", "x")) == "base_missing"
    assert code(lambda: extract(home, "mini", "mini", "4", "x")) == "extract_same"
    assert code(lambda: extract(home, "mini", "", "4", "x")) == "base_unchosen"
    assert code(lambda: extract(home, "mini", "mini", "", "x")) == "resize_how"
    monkeypatch.setattr("app.actions.lora_tools.shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    assert code(lambda: bake(home, "mini", [lora], "", "x")) == "job_disk_short"
    assert not list(home.models.iterdir()) and not (home.loras / "x.safetensors").exists()
