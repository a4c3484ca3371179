"""Names any system accepts, and files that are whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.core import files
from trainer.core.home import Home
from trainer.core.problem import Problem


@given(st.text())
def test_any_text_becomes_a_name_any_system_takes(text):
    name = files.safe_name(text, "thing")
    assert name and len(f"{name}_v999.safetensors".encode()) <= 255
    assert not set(name) & set('<>:"/\\|?*\0') and name.strip(" .") == name
    assert name.split(".")[0].lower() not in {"con", "nul", "com1"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("水彩 の 絵", "水彩_の_絵"),
        ("../../etc", "etc"),
        ("CON", "thing_CON"),
        ("a/b\\c", "a_b_c"),
        ("", "thing"),
    ],
)
def test_names_stay_readable(text, name):
    assert files.safe_name(text, "thing") == name


def test_a_long_japanese_name_can_be_written_and_takes_a_number(tmp_path):
    stem = files.safe_name("水" * 200, "thing")
    for wanted in (stem, f"{stem}_v2"):
        path = files.free_name(tmp_path, stem, ".json")
        files.write_json(path, {"a": 1})
        assert path.stem == wanted and json.loads(path.read_text()) == {"a": 1}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_what_is_no_json_is_the_default(tmp_path):
    (tmp_path / "a").write_text("{")
    assert files.read_json(tmp_path / "a", 1) == 1 and files.read_json(tmp_path / "b", 2) == 2


def test_a_folder_of_an_account_that_is_not_there_stays_as_it_was_typed(tmp_path):
    assert files.expanded("~no-such-account/x").as_posix() == "~no-such-account/x"
    assert files.expanded("~/x") == Path.home() / "x" and files.expanded(tmp_path) == tmp_path
    with pytest.raises(Problem) as told:
        Home.find("~no-such-account/x")
    assert (told.value.code, told.value.field) == ("folder_missing", "home")
    assert not Home(tmp_path).lora("~no-such-account/x").is_file() and not Home(tmp_path).lora("x" * 5000).is_file()
