"""A machine writes captions on the Images page: asked without a browser, then in one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.app.pages.test_pages import Asked, ask, asked, services  # noqa: F401
from tests.helpers.browser import visit
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


def test_what_a_captioner_is_for_and_costs_is_said_before(asked: tuple[Services, Asked]) -> None:  # noqa: F811
    def about(name: str) -> str:
        return asked[1]("images", "<lambda>", **{"write-which": name})

    assert "is often wrong" in about("judge") and "Ready to use." in about("judge")
    assert "about 1.9 GB, licence BSD-3-Clause" in about("blip")


def test_examples_and_full_sets_are_left_alone(ask, services: Services) -> None:  # noqa: F811
    assert "This is an example" in ask("images", "write", current="example-style")["write-line"]
    assert "Every picture has a caption" in ask("images", "write", current="mine")["write-line"]
    answer = ask("images", "suggest", current="mine")
    assert "Every picture has a caption" in answer["write-line"] and answer["write-cancel"]["visible"] is False


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
