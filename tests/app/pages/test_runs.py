"""The Runs page sends only what changed, so that nothing on it moves without a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.pages.runs import page as runs_page
from app.pages.runs.layout import BUTTONS
from app.ui.services import Services, Ui
from tests.helpers import studio
from tests.helpers.browser import visit
from tests.helpers.events import Events
from trainer.config import load
from trainer.core import events, files
from trainer.core.home import PROJECT, Home
from trainer.core.run_dir import RunDir
from trainer.core.texts import t
from trainer.engine.output.control import Control
from trainer.images.provenance import Sources
from trainer.images.set.image_set import ImageSet

PARTS = {"head", "pictures", "loss", "score", "notes", "log", "list"}
NOBODY = gr.Request(headers={}, query_params={})


@pytest.fixture
def runs(tmp_path: Path) -> Events:
    services = Services(Home.find(tmp_path))
    services.shared.seconds = 0  # each look of these tests stands for one that comes later
    return Events(runs_page, Ui.of(services, "en"))


def look(runs: Events, run_id: str | None, digests: dict[str, str] | None = None) -> dict[Any, Any]:
    parts = runs.parts
    return runs.ask(runs.handlers.look, {parts.run: run_id, parts.digests: digests or {}}, NOBODY)


def changed(runs: Events, answer: dict[Any, Any]) -> set[str]:
    """What a look sends, by name; the buttons and the fold around the log come and go together."""
    parts = runs.parts
    names = {name for name, part in parts.html.items() if part in answer}
    buttons = {parts.log_fold, *parts.buttons.values()} & set(answer)
    assert len(buttons) in (0, len(BUTTONS) + 1)
    return names | ({"buttons"} if buttons else set())


def offered(runs: Events, answer: dict[Any, Any]) -> set[str]:
    return {name for name, button in runs.parts.buttons.items() if answer[button]["visible"]}


def test_a_second_look_at_an_unchanged_run_sends_nothing(runs: Events) -> None:
    parts, id_ = runs.parts, studio.run(runs.services.home, "Ink", "stopped", 20)
    first = look(runs, id_)
    assert changed(runs, first) == PARTS | {"buttons"} and first[parts.run] == id_
    assert look(runs, id_, first[parts.digests]) == {parts.run: id_}


def test_another_state_changes_words_and_buttons_but_not_the_pictures(runs: Events) -> None:
    id_ = studio.run(runs.services.home, "Ink", "stopped", 20)
    first = look(runs, id_)
    runs.services.jobs.store.mark(id_, state="succeeded")
    second = look(runs, id_, first[runs.parts.digests])
    assert changed(runs, second) == {"head", "list", "buttons"} and offered(runs, second) == {"delete"}


def test_without_a_run_the_page_says_how_to_start_one(runs: Events) -> None:
    answer = look(runs, None)
    assert "/en/train" in answer[runs.parts.html["head"]] and answer[runs.parts.run] is None
    assert offered(runs, answer) == set()


def test_an_unknown_run_in_the_address_falls_back_to_the_one_at_work(runs: Events) -> None:
    work = studio.run(runs.services.home, "Busy", "running", 20)
    studio.run(runs.services.home, "Newer", "stopped", 20)
    assert look(runs, "gone")[runs.parts.run] == work


def test_a_run_that_waits_can_be_moved_where_that_changes_something(runs: Events) -> None:
    first, second, third = (studio.run(runs.services.home, name, "queued", 0) for name in ("A", "B", "C"))
    assert offered(runs, look(runs, first)) == {"down", "stop"}
    assert offered(runs, look(runs, third)) == {"first", "up", "stop"}
    assert offered(runs, look(runs, second)) == {"first", "up", "down", "stop"}
    press(runs, "first", third)
    assert [row.id for row in runs.services.jobs.store.queue()] == [third, first, second]
    assert offered(runs, look(runs, third)) == {"down", "stop"}


def press(runs: Events, action: str, id_: str) -> dict[Any, Any]:
    """What a button of the run answers; nothing of the run has been shown before."""
    return runs.press(runs.parts.buttons[action], {runs.parts.run: id_})


def test_a_run_taken_away_can_be_put_back(runs: Events) -> None:
    parts, id_ = runs.parts, studio.run(runs.services.home, "Ink", "stopped", 20)
    gone = press(runs, "delete", id_)
    assert "“Ink” is in the trash." in gone[parts.message] and gone[parts.undo]["visible"] and gone[parts.trashed] == id_
    assert gone[parts.run] is None
    back = runs.ask(runs.handlers.put_back, {parts.trashed: id_})
    assert back[parts.run] == id_ and back[parts.undo]["visible"] is False and back[parts.trashed] is None


def test_what_a_person_saved_is_shown_with_its_file(runs: Events) -> None:
    id_ = studio.run(runs.services.home, "Ink", "succeeded", 20)
    folder = RunDir(runs.services.home.runs / id_)
    for step, wanted in ((10, False), (13, True)):
        file = f"checkpoints/{step:06d}/lora.safetensors"
        events.EventLog(folder.events).write(events.Saved(step=step, file=file, wanted=wanted))
    notes = look(runs, id_)[runs.parts.html["notes"]]
    assert f"/files/runs/{id_}/checkpoints/000013/lora.safetensors?download" in notes and "Step 13" in notes
    assert "000010" not in notes


@pytest.mark.browser
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_run_whose_set_changed_asks_before_it_goes_on(page: Any, live_server: Any, lang: str) -> None:
    home, jobs = live_server.services.home, live_server.services.jobs
    folder = home.datasets / f"changed-{lang}"
    shutil.copytree(PROJECT / "datasets" / "example-style", folder)
    busy = studio.run(home, f"Busy {lang}", "paused", 5)  # holds the device, so that nothing begins here
    id_ = studio.run(home, f"Changed {lang}", "stopped", 20)
    tree = load.dump(load.build({"images": {"folder": str(folder)}, "save": {"name": "Changed"}}))
    files.write_json(jobs.run_dir(id_).config, tree)
    kept = Sources(load.build(tree), home).kept()
    files.write_json(jobs.run_dir(id_).checkpoint(20) / "manifest.json", {"step": 20, "files": {}, "sources": kept})
    gone = sorted(folder.glob("*.png"))[0].name
    ImageSet(folder).delete([gone])

    visit(page, f"{live_server.url}/{lang}/runs?run={id_}")
    for leaves in (True, False):
        page.locator("#run-resume").click()
        page.locator("#run-message").get_by_text(gone).wait_for()
        assert jobs.row(id_).state == "stopped"
        page.locator("#run-leave" if leaves else "#run-set-as-it-is").click()
        page.locator("#run-leave").wait_for(state="hidden")
    page.locator("#run-resume").wait_for(state="hidden")
    assert jobs.row(id_).state == "queued"
    jobs.stop(id_)
    jobs.store.mark(busy, state="stopped")


@pytest.mark.parametrize("action", ["save", "sample"])
def test_a_wish_is_answered_at_once_and_until_the_trainer_has_read_it(runs: Events, action: str) -> None:
    parts, home = runs.parts, runs.services.home
    id_ = studio.run(home, "Night run", "running", 20, rate=2.0)
    answer = runs.press(parts.buttons[action], {parts.run: id_, parts.digests: {}})
    sentence = t(f"page.runs.pending.{action}", language="en", span=" (about 2 s)")
    assert sentence in answer[parts.html["head"]]
    control = Control(RunDir(home.runs / id_))
    control.poll()
    assert control.take(action)
    assert sentence not in look(runs, id_)[parts.html["head"]]
