"""A machine writes captions on the Images page: asked without a browser, then in one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import visit
from tests.helpers.events import Events, Values
from trainer.core.home import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from app.ui.services import Services
    from tests.helpers.browser import LiveServer


def _bare(folder: Path, kept: int) -> Path:
    """The mascot's pictures as a set of one's own, all but the last few without a caption."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PROJECT / "datasets" / "example-character", folder)
    for text in sorted(folder.glob("*.txt"))[:-kept]:
        text.unlink()
    return folder


def test_what_a_captioner_is_for_and_costs_is_said_before(images: Events) -> None:
    panel, handlers = images.parts.captions, images.handlers.captions

    def about(name: str) -> str:
        return images.ask(handlers.captioner_chosen, {panel.fields["captioner"]: name})[panel.about]

    assert "is often wrong" in about("judge") and "Ready to use." in about("judge")
    assert "about 1.9 GB, licence BSD-3-Clause" in about("blip")


def test_examples_and_full_sets_are_left_alone(images: Events) -> None:
    parts, panel, handlers = images.parts, images.parts.captions, images.handlers.captions
    assert "This is an example" in images.ask(handlers.started, {parts.set_name: "example-style"})[panel.progress]
    assert "Every picture has a caption" in images.ask(handlers.started, {parts.set_name: "mine"})[panel.progress]
    answer = images.ask(handlers.one_started, {parts.set_name: "mine"})
    assert "Every picture has a caption" in answer[panel.progress] and answer[panel.cancel]["visible"] is False
    assert answer[panel.timer]["active"] is False


class StandIn:
    """A job that is as far as a test says."""

    def __init__(self) -> None:
        self.state, self.looked, self.of, self.ended = "writing", 1, 2, False
        self.problem, self.written, self.skipped = None, {}, []  # type: ignore[var-annotated]


def test_the_page_looks_again_only_while_a_job_runs_and_tells_its_end_once(
    images: Events, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, panel, handlers, job = images.parts, images.parts.captions, images.handlers.captions, StandIn()
    monkeypatch.setattr(services.captions, "of", lambda image_set: job if image_set.folder.name == "mine" else None)
    assert panel.timer.active is False and images.parts.masks.timer.active is False

    opened = images.ask(images.handlers.set_chosen, {parts.choose: '{"set": "mine"}'})
    assert opened[panel.timer]["active"] is True and parts.masks.timer not in opened
    page: Values = {parts.set_name: "mine", parts.picture_id: "0002", panel.watched: opened[panel.watched]}
    job.written["0002"] = services.set("mine").find("0002").caption  # type: ignore[union-attr]
    looked = images.ask(handlers.look, page)
    assert looked[panel.cancel]["visible"] and not looked[panel.start]["interactive"] and looked[panel.timer]["active"]
    assert not looked[parts.picture.suggest]["interactive"]
    assert looked[parts.caption]["value"] == job.written["0002"] and parts.note not in looked

    gone = images.ask(handlers.look, {**page, parts.set_name: "example-style"})
    assert gone[panel.timer]["active"] is False and gone[panel.progress] == "" and gone[panel.start]["interactive"]

    job.ended, job.state = True, "done"
    ended = images.ask(handlers.look, page)
    assert "1 captions written" in ended[parts.note] and "undo" in ended[parts.note]
    assert ended[panel.timer]["active"] is False and ended[panel.watched] == 0
    assert parts.note not in images.ask(handlers.look, {**page, panel.watched: 0})
    assert panel.timer not in images.ask(images.handlers.set_chosen, {parts.choose: '{"set": "mine"}'})


def test_captions_appear_as_they_are_written_and_one_undo_takes_them_back(page: Page, live_server: LiveServer) -> None:
    from playwright.sync_api import expect

    folder = _bare(live_server.home / "datasets" / "machine", kept=4)
    visit(page, f"{live_server.url}/en/images?set=machine")
    page.get_by_text("Write captions by machine").click()
    expect(page.locator("#write-about")).to_contain_text("Ready to use.")
    page.locator("#write-go").click()
    expect(page.locator("#images-note")).to_contain_text("12 captions written", timeout=90_000)
    expect(page.locator("#images-grid")).to_contain_text("a zibbo mascot, yellow background")
    expect(page.locator("#images-caption textarea")).to_have_value("a zibbo mascot, white background")
    assert (folder / "0016.txt").read_text("utf-8") == "a zibbo mascot dancing, white background\n"
    expect(page.locator("#write-cancel")).to_be_hidden()
    page.locator("#images-note button").click()
    expect(page.locator("#images-grid")).not_to_contain_text("yellow background")
    assert (folder / "0002.txt").read_text("utf-8") == ""


def test_cancelling_is_told_in_the_pages_language(page: Page, live_server: LiveServer) -> None:
    from playwright.sync_api import expect

    folder = _bare(live_server.home / "datasets" / "stopped", kept=4)
    visit(page, f"{live_server.url}/ja/images?set=stopped")
    page.get_by_text("キャプションを自動で書く").click()
    page.locator("#write-go").click()
    page.locator("#write-cancel").click()
    expect(page.locator("#images-note")).to_contain_text("中止しました。")
    job = live_server.services.captions.of(live_server.services.set("stopped"))  # type: ignore[arg-type]
    assert job is not None and job.state == "cancelled"
    time.sleep(0.2)
    assert sum(text.stat().st_size > 0 for text in folder.glob("*.txt")) == 4 + len(job.written)
