"""What the Library page answers, asked without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.pages.library import page
from app.pages.library.base_making import BaseHandlers
from app.pages.library.handlers import LibraryHandlers
from app.pages.library.layout import LibraryParts
from app.ui.services import Services, Ui
from tests.app.actions.test_lora_tools import mini_lora
from tests.helpers import studio
from tests.helpers.events import Events
from trainer.core.home import Home


@pytest.fixture
def events(tmp_path: Path) -> Events:
    return Events(page, Ui.of(Services(Home.find(tmp_path).create()), "en"))


@pytest.fixture
def handlers(events: Events) -> LibraryHandlers:
    return events.handlers


@pytest.fixture
def parts(events: Events) -> LibraryParts:
    return events.parts


@pytest.fixture
def fox(events: Events) -> str:
    studio.lora(events.services.home, "Red hat", rights={"purpose": "Hats"})
    return studio.lora(events.services.home, "Ink fox").stem


def address(name: str) -> gr.Request:
    return gr.Request(headers={}, query_params={"lora": name})


def test_an_empty_library_says_how_to_begin_and_hides_what_is_of_no_use(events, handlers, parts) -> None:
    answer = events.ask(handlers.opened, {}, address("gone"))
    assert "/en/train" in answer[parts.grid] and answer[parts.open] is None
    assert not any(answer[part]["visible"] for part in (parts.filters, parts.edit.fold, parts.readers))
    assert events.ask(handlers.filtered, {parts.search: "fox"}) == gr.skip()


def test_the_card_of_the_address_is_opened_with_its_fields(events, handlers, parts, fox) -> None:
    answer = events.ask(handlers.opened, {}, address(fox))
    assert answer[parts.open] == fox == answer[parts.edit.name] and answer[parts.edit.trigger] == "inkfox"
    assert fox in answer[parts.card] and answer[parts.programs].count("<tr>") == 5
    assert set(answer) == set(parts.shown)


def test_a_filter_changes_the_pictures_and_leaves_the_open_card(events, handlers, parts, fox) -> None:
    answer = events.ask(handlers.filtered, {parts.search: "hats", parts.open: fox})
    assert set(answer) == {parts.grid} and "Red_hat" in answer[parts.grid] and fox not in answer[parts.grid]
    nothing = events.ask(handlers.filtered, {parts.search: "no such word", parts.open: fox})
    assert nothing[parts.grid].startswith('<p class="a-note"')


def edited(parts: LibraryParts, events: Events, lora: str, **changes: Any) -> dict[Any, Any]:
    """The fields of the open card with some changed."""
    shown = events.ask(events.handlers.opened, {}, address(lora))
    values = {field: shown[field] for field in parts.edit.fields.values()}
    return values | {parts.open: lora} | {parts.edit.fields[field]: value for field, value in changes.items()}


def test_what_is_changed_is_kept_and_a_new_name_is_opened(events, handlers, parts, fox) -> None:
    answer = events.ask(handlers.saved, edited(parts, events, fox, notes="soft", recommended=0.6, name="Wolf"))
    assert answer[parts.open] == "Wolf" and "a-note" in answer[parts.message]
    card = events.services.library.card("Wolf")
    assert (card.notes, card.recommended.best, card.trigger) == ("soft", 0.6, "inkfox")


def test_a_name_that_is_taken_is_answered_and_nothing_else_moves(events, handlers, parts, fox) -> None:
    answer = events.ask(handlers.saved, edited(parts, events, fox, name="Red_hat"))
    assert set(answer) == {parts.message} and "a-problem" in answer[parts.message]


def test_a_lora_goes_to_the_trash_and_comes_back(events, handlers, parts, fox) -> None:
    gone = events.ask(handlers.gone, {parts.open: fox})
    assert gone[parts.undo]["visible"] is True and gone[parts.open] == "Red_hat"
    back = events.ask(handlers.back, {parts.trashed: gone[parts.trashed]})
    assert back[parts.open] == fox and back[parts.undo]["visible"] is False and back[parts.trashed] is None


def test_a_file_that_never_came_is_answered(events, handlers, parts, fox) -> None:
    answer = events.ask(handlers.taken, {parts.added: json.dumps({"value": "0" * 32})})
    assert set(answer) == {parts.message} and "a-problem" in answer[parts.message]


def test_a_press_on_a_card_opens_it_and_clears_what_was_said(events, handlers, parts, fox) -> None:
    answer = events.ask(handlers.picked, {parts.pick: json.dumps({"value": fox})})
    assert answer[parts.open] == fox and answer[parts.message] == ""


def test_a_mistake_in_making_is_said_in_the_fold_and_what_is_made_is_opened(events, handlers, parts, fox) -> None:
    wrong = events.ask(handlers.made, {parts.make.loras: []})
    assert "a-problem" in wrong[parts.make.message] and parts.grid not in wrong
    values = {parts.make.loras: [fox], parts.make.rank: "2", parts.make.name: "Small"}
    answer = events.ask(handlers.made, values)
    assert answer[parts.open] == "Small" and answer[parts.make.message] == ""
    assert set(events.ask(handlers.offered)[parts.make.loras]["choices"]) == {"Small", fox, "Red_hat"}


def test_the_fold_of_bases_shows_the_fields_of_its_way_and_a_bar_and_opens_what_was_made(events, handlers, parts) -> None:
    fold, bases = parts.bases, BaseHandlers(handlers.ui, parts.bases, handlers)
    lora = mini_lora(events.services.home)
    turned = bases.turned("bake")
    assert [turned[part]["visible"] for part in (fold.tuned, fold.rank, fold.loras, fold.strengths)] == [
        False,
        False,
        True,
        True,
    ]
    form = dict.fromkeys((*fold.fields, *parts.filtering), "") | {fold.way: "bake", fold.base: "mini"}
    (wrong,) = [answer for answer in bases.made(form | {fold.loras: []}) if "a-problem" in answer[fold.line]]
    assert wrong[fold.go]["interactive"] is True
    *_, baked = bases.made(form | {fold.loras: [lora], fold.strengths: "0.5", fold.name: "Inked"})
    assert set(baked) == {fold.line, fold.go} and "Inked" in baked[fold.line]
    assert ("Inked", "Inked") in [(label, value) for label, value in bases.offered()[fold.tuned]["choices"]]
    *_, made = bases.made(form | {fold.way: "extract", fold.tuned: "Inked", fold.rank: "4", fold.name: "Out"})
    assert made[parts.open] == "Out" and set(made) == {*parts.shown, fold.line, fold.go}
