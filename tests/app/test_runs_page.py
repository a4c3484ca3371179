"""The Runs page sends only what changed, so that nothing on it moves without a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.pages import runs as page
from app.services import Services, Ui
from tests.app import studio
from trainer.home import Home

PARTS = ("head", "pictures", "loss", "score", "notes", "log", "list")


@pytest.fixture
def ui(tmp_path: Path) -> Ui:
    services = Services(Home.find(tmp_path))
    services.shared.seconds = 0  # each look of these tests stands for one that comes later
    return Ui.of(services, "en")


def changed(values: list[Any]) -> list[str]:
    names = [*PARTS, *page.WORKED, "fold"]
    return [name for name, value in zip(names, values, strict=False) if value != gr.skip()]


def test_a_second_look_at_an_unchanged_run_sends_nothing(ui: Ui) -> None:
    id_ = studio.run(ui.services.home, "Ink", "stopped", 20)
    first = page._look(ui, id_, {})
    assert changed(first) == [*PARTS, *page.WORKED, "fold"] and first[-2] == id_
    second = page._look(ui, id_, first[-1])
    assert changed(second) == [] and second[-1] == gr.skip()


def test_another_state_changes_words_and_buttons_but_not_the_pictures(ui: Ui) -> None:
    id_ = studio.run(ui.services.home, "Ink", "stopped", 20)
    first = page._look(ui, id_, {})
    ui.services.jobs.store.mark(id_, state="succeeded")
    second = page._look(ui, id_, first[-1])
    assert changed(second) == ["head", "list", *page.WORKED, "fold"]
    shown = {name: value["visible"] for name, value in zip(page.WORKED, second[len(PARTS) :], strict=False)}
    assert [name for name, visible in shown.items() if visible] == ["delete"]


def test_without_a_run_the_page_says_how_to_start_one(ui: Ui) -> None:
    values = page._look(ui, None, {})
    assert "/en/train" in values[0] and values[-2] is None
    assert not any(value["visible"] for value in values[len(PARTS) : len(PARTS) + len(page.WORKED)])


def test_an_unknown_run_in_the_address_falls_back_to_the_one_at_work(ui: Ui) -> None:
    work = studio.run(ui.services.home, "Busy", "running", 20)
    studio.run(ui.services.home, "Newer", "stopped", 20)
    assert page._look(ui, "gone", {})[-2] == work


def test_a_run_that_waits_can_be_moved_where_that_changes_something(ui: Ui) -> None:
    first, second, third = (studio.run(ui.services.home, name, "queued", 0) for name in ("A", "B", "C"))

    def offered(id_: str) -> set[str]:
        values = page._look(ui, id_, {})[len(PARTS) :]
        return {name for name, value in zip(page.WORKED, values, strict=False) if value["visible"]}

    assert offered(first) == {"down", "stop"} and offered(third) == {"first", "up", "stop"}
    assert offered(second) == {"first", "up", "down", "stop"}
    page._ask(ui, "first", third)
    assert [row.id for row in ui.services.jobs.store.queue()] == [third, first, second]
    assert offered(third) == {"down", "stop"}
