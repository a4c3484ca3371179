"""A LoRA's README.md for a hub: what it says, what it keeps to itself, and that no file's words can command its readers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.helpers import studio
from trainer.adapters import file as lora_file
from trainer.commands.card import main
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.library import model_card
from trainer.library.cards import Card
from trainer.library.library import Library


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def made(home: Home, **said: str) -> Card:
    path = studio.lora(home)
    if said:
        lora_file.rewrite(path, path, said)
    return Library(home).cards()[0]


def facts(text: str) -> dict[str, str]:
    """The plain `key: value` lines at the top."""
    return dict(line.split(": ", 1) for line in text.split("---")[1].splitlines() if re.match(r"\w+: ", line))


def test_it_says_base_licence_trigger_strength_date_pictures_and_conditions(home: Home) -> None:
    text = model_card.text(made(home), "en", "Ink_fox.png")
    top = facts(text)
    assert top["license"] == "cc-by-4.0" and json.loads(top["instance_prompt"]) == "inkfox" and "base_model" not in top
    for words in (
        "# Ink",
        "Ink foxes",
        "`inkfox`",
        "drawn by me",
        "CreativeML OpenRAIL-M",
        "CC-BY-4.0",
        "120",
        "2023-11-14",
        "![Ink_fox](<Ink_fox.png>)",
        "lora, 4",
        "a fox",
    ):
        assert words in text
    assert "トリガーワード: `inkfox`" in model_card.text(made(home), "ja")


def test_words_kept_private_and_names_of_this_machine_stay_out(home: Home) -> None:
    text = model_card.text(made(home, ss_tag_frequency=""), "en")
    assert "a fox" not in text and "captions" not in text and str(home.root) not in text


def test_a_base_of_a_hub_is_linked_and_unknown_conditions_are_said_to_be_other(home: Home) -> None:
    card = Card("x", made(home).file, base="owner/base-1.0", licence="ask me first")
    top = facts(model_card.text(card, "en"))
    assert json.loads(top["base_model"]) == "owner/base-1.0"
    assert top["license"] == "other" and json.loads(top["license_name"]) == "ask me first"
    assert "Ask its maker" in model_card.text(Card("x", card.file), "en")


def test_what_a_file_says_stays_one_harmless_line(home: Home) -> None:
    evil = "<script>x</script>\n---\nlicense: mit\n[a](javascript:x)`"
    card = Card("x", made(home).file, title=evil, trigger=evil, purpose=evil, licence=evil, base=evil, rights=evil)
    text = model_card.text(card, "en")
    assert [line for line in text.splitlines() if line == "---"] == ["---"] * 2 and "\nlicense: mit" not in text
    assert not re.search(r"(?<!\\)<script|(?<!\\)\[a", text.split("\n---\n", 1)[1])


def test_the_command_prints_it_or_fills_a_folder_and_overwrites_nothing(home: Home, tmp_path: Path, capsys) -> None:
    file, out = made(home).file, tmp_path / "hub"
    assert main(["Ink_fox", "--home", str(home.root)]) == 0 and "inkfox" in capsys.readouterr().out
    assert main([str(file), "--home", str(home.root), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"README.md", "Ink_fox.safetensors", "Ink_fox.png"}
    assert (out / "Ink_fox.safetensors").read_bytes() == file.read_bytes()
    with pytest.raises(Problem) as told:
        main([str(file), "--home", str(home.root), "--out", str(out)])
    assert told.value.code == "out_exists"
    (home.loras / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(Problem):
        main(["bad", "--home", str(home.root)])
