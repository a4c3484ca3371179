"""The Runs page sends only what changed, so that nothing on it moves without a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.pages.runs import page as runs_page
from app.ui.services import Services, Ui
from tests.helpers import studio
from tests.helpers.browser import visit
from trainer.config import load
from trainer.core import events, files
from trainer.core.home import PROJECT, Home
from trainer.core.run_dir import RunDir
from trainer.images.provenance import Sources
from trainer.images.set.image_set import ImageSet

PARTS = ("head", "pictures", "loss", "score", "notes", "log", "list")


@pytest.fixture
def ui(tmp_path: Path) -> Ui:
    services = Services(Home.find(tmp_path))
    services.shared.seconds = 0  # each look of these tests stands for one that comes later
    return Ui.of(services, "en")


def changed(values: list[Any]) -> list[str]:
    names = [*PARTS, *runs_page.WORKED, "fold"]
    return [name for name, value in zip(names, values, strict=False) if value != gr.skip()]


def test_a_second_look_at_an_unchanged_run_sends_nothing(ui: Ui) -> None:
    id_ = studio.run(ui.services.home, "Ink", "stopped", 20)
    first = runs_page._look(ui, id_, {})
    assert changed(first) == [*PARTS, *runs_page.WORKED, "fold"] and first[-2] == id_
    second = runs_page._look(ui, id_, first[-1])
    assert changed(second) == [] and second[-1] == gr.skip()


def test_another_state_changes_words_and_buttons_but_not_the_pictures(ui: Ui) -> None:
    id_ = studio.run(ui.services.home, "Ink", "stopped", 20)
    first = runs_page._look(ui, id_, {})
    ui.services.jobs.store.mark(id_, state="succeeded")
    second = runs_page._look(ui, id_, first[-1])
    assert changed(second) == ["head", "list", *runs_page.WORKED, "fold"]
    shown = {name: value["visible"] for name, value in zip(runs_page.WORKED, second[len(PARTS) :], strict=False)}
    assert [name for name, visible in shown.items() if visible] == ["delete"]


def test_without_a_run_the_page_says_how_to_start_one(ui: Ui) -> None:
    values = runs_page._look(ui, None, {})
    assert "/en/train" in values[0] and values[-2] is None
    assert not any(value["visible"] for value in values[len(PARTS) : len(PARTS) + len(runs_page.WORKED)])


def test_an_unknown_run_in_the_address_falls_back_to_the_one_at_work(ui: Ui) -> None:
    work = studio.run(ui.services.home, "Busy", "running", 20)
    studio.run(ui.services.home, "Newer", "stopped", 20)
    assert runs_page._look(ui, "gone", {})[-2] == work


def test_a_run_that_waits_can_be_moved_where_that_changes_something(ui: Ui) -> None:
    first, second, third = (studio.run(ui.services.home, name, "queued", 0) for name in ("A", "B", "C"))

    def offered(id_: str) -> set[str]:
        values = runs_page._look(ui, id_, {})[len(PARTS) :]
        return {name for name, value in zip(runs_page.WORKED, values, strict=False) if value["visible"]}

    assert offered(first) == {"down", "stop"} and offered(third) == {"first", "up", "stop"}
    assert offered(second) == {"first", "up", "down", "stop"}
    runs_page._ask(ui, "first", third)
    assert [row.id for row in ui.services.jobs.store.queue()] == [third, first, second]
    assert offered(third) == {"down", "stop"}


def test_what_a_person_saved_is_shown_with_its_file(ui: Ui) -> None:
    id_ = studio.run(ui.services.home, "Ink", "succeeded", 20)
    folder = RunDir(ui.services.home.runs / id_)
    for step, wanted in ((10, False), (13, True)):
        file = f"checkpoints/{step:06d}/lora.safetensors"
        events.EventLog(folder.events).write(events.Saved(step=step, file=file, wanted=wanted))
    notes = runs_page._look(ui, id_, {})[PARTS.index("notes")]
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
