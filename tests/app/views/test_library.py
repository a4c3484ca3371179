"""The library's cards as HTML, and taking in a file from elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from app.actions import imports
from app.pages.preview.initial_form import initial_form
from app.ui.services import Services, Ui
from app.views import library as view
from app.views.preview import STRIPS
from tests.helpers import studio
from trainer.adapters.compat.inspect import inspect
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.library.library import Library

en, ja = partial(t, language="en"), partial(t, language="ja")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path).create()


def file(path: Path | None) -> str | None:
    return f"/files/{path.name}" if path else None


def upload(home: Home, name: str, data: bytes, batch: str = "a" * 32) -> str:
    folder = home.cache / "uploads" / batch / "drop"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)
    return batch


def test_a_card_says_how_to_use_it_and_where_it_comes_from(home: Home) -> None:
    studio.lora(home, rights={"purpose": "<b>Ink</b> foxes"})
    (card,) = Library(home).cards()
    said = view.card(card, file, en, "en", preview="/en/preview?lora=Ink_fox", again="/en/train?again=Ink_fox")
    for words in (
        "inkfox",
        "drawn by me",
        "CC-BY-4.0",
        "&lt;b&gt;Ink&lt;/b&gt; foxes",
        "120",
        "/files/Ink_fox.png",
        "/files/Ink_fox.safetensors?download",
        "/en/preview?lora=Ink_fox",
        "/en/train?again=Ink_fox",
    ):
        assert words in said
    assert "<b>Ink" not in said and 'data-copy="inkfox"' in said
    assert "README.md" not in said
    said = view.card(card, file, en, "en", preview="", again="", readme='# "Ink" <b>')
    assert 'href="data:text/markdown;charset=utf-8,%23%20%22Ink%22%20%3Cb%3E" download="README.md"' in said


def test_a_broken_file_is_a_card_with_a_sentence(home: Home) -> None:
    (home.loras / "bad.safetensors").write_bytes(b"not a lora")
    (card,) = Library(home).cards()
    for lang, words in (("en", en), ("ja", ja)):
        said = view.card(card, file, words, lang, preview="", again="")
        assert card.broken is not None and card.broken.sentence(lang) in said and "download" not in said
    assert "cannot be read" in view.grid([card], None, None, file, en, lambda page, **_: page)


@pytest.mark.parametrize(
    ("words", "kind", "state", "found"),
    [
        ("", "", "", True),
        ("INK", "", "", True),
        ("foxes inkfox", "", "", True),
        ("wolf", "", "", False),
        ("", "character", "", True),
        ("", "style", "", False),
        ("", "", "in_use", False),
        ("", "", "trying", True),
    ],
)
def test_searching_and_filtering(home: Home, words: str, kind: str, state: str, found: bool) -> None:
    studio.lora(home)
    assert view.matches(Library(home).cards()[0], words, kind, state) is found


def test_which_programs_read_it_with_reasons_in_both_languages(home: Home) -> None:
    verdicts = inspect(studio.lora(home)).programs
    for words in (en, ja):
        said = view.programs(verdicts, words)
        assert said.count("<tr>") == 5 and "AUTOMATIC1111" in said and "programs." not in said


def test_a_file_from_elsewhere_is_copied_under_a_free_name_and_nothing_is_overwritten(home: Home) -> None:
    path = studio.lora(home)
    before = path.read_bytes()
    assert imports.take_in(home, Library(home), upload(home, "Ink_fox.safetensors", before)) == "Ink_fox_v2"
    assert path.read_bytes() == before and (home.loras / "Ink_fox_v2.safetensors").read_bytes() == before
    assert (home.loras / "Ink_fox_v2.json").exists() and not list((home.cache / "uploads").iterdir())
    assert len(Library(home).cards()) == 2


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 something else", b"\xff" * 64])
def test_a_file_that_is_no_lora_is_refused_and_removed(home: Home, data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        imports.take_in(home, Library(home), upload(home, "x.safetensors", data))
    assert not caught.value.sentence("ja").startswith("problems.")
    assert not list(home.loras.iterdir()) and not list((home.cache / "uploads").iterdir())


@pytest.mark.parametrize("batch", ["../../..", "", None, "A" * 32, "b" * 32])
def test_an_upload_that_is_not_there_is_refused(home: Home, batch: str | None) -> None:
    with pytest.raises(Problem):
        imports.take_in(home, Library(home), batch)


def test_a_slider_shows_what_it_moves_and_is_tried_from_minus_two_to_two(home: Home) -> None:
    words = {"target": "a fox", "positive": "a huge fox", "negative": "a tiny fox"}
    studio.lora(home, "Size", run={"kind": "slider"}, captions={"trigger": ""}, slider=words)
    library = Library(home)
    (card,) = library.cards()
    assert library.cards()[0] == card == Library(home).cards()[0]  # read anew, from memory, and from the cache on disk
    for say, lang in ((en, "en"), (ja, "ja")):
        shown = view.card(card, file, say, lang, preview="", again="")
        for said in words.values():
            assert said in shown
    ui = Ui.of(Services(home), "en")
    form, _ = initial_form(ui, "Size")
    assert (form["prompt"], form["strip"], form["loras"][0]["name"]) == ("a fox", "slider", "Size")
    assert STRIPS["slider"] == (-2, -1, -0.5, 0, 0.5, 1, 2)
    studio.lora(home, "Secret", run={"kind": "slider"}, slider=words, save={"share_captions": False})
    secret = next(card for card in library.cards() if card.name == "Secret")
    assert secret.slider == ("", "", "") and en("library_texts.slider_private") in view.card(
        secret, file, en, "en", preview="", again=""
    )
    assert b"huge" not in secret.file.read_bytes()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_file_that_loads_with_a_limit_says_so_beside_the_program(tmp_path: Path, language: str) -> None:
    import numpy as np

    from tests.helpers.lora_files import raw

    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {f"{name}.oft_blocks": np.zeros((80, 4, 4), np.float16), f"{name}.alpha": np.zeros((), np.float16)}
    found = inspect(raw(tmp_path / "a.safetensors", tensors, {"ss_base_model_version": "sd_v1"}))
    say = partial(t, language=language)
    shown = view.programs(found.programs, say, ("lycoris_ia3",))
    assert shown.count(say("page.library.answer.not_linear")) == 1 and say("programs.not_linear").split("。")[0][:20] in shown
    assert shown.count(say("page.library.answer.yes")) >= 1 and shown.count("p-bad") == 3 and "LyCORIS" in shown
