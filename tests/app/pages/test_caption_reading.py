"""Captions in a foreign encoding on the Images page: what was read, the next-best reading at a click, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import visit
from tests.helpers.pictures import saved, scene

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.helpers.browser import LiveServer

CHINESE = ("一位老人在公园里喂鸽子", "窗台上的一盆仙人掌", "穿着雨衣的小女孩")


@pytest.mark.browser
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_captions_are_read_otherwise_taken_back_and_called_right(page: Page, live_server: LiveServer, lang: str) -> None:
    from playwright.sync_api import expect

    folder = live_server.home / "datasets" / f"letters-{lang}"
    folder.mkdir()
    for number, text in enumerate(CHINESE):
        (folder / f"{number}.png").write_bytes(saved(scene(number, (64, 64))))
        (folder / f"{number}.txt").write_bytes(text.encode("gbk"))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    visit(page, f"{live_server.url}/{lang}/images?set={folder.name}")
    note, grid, reading = page.locator("#images-note"), page.locator("#images-grid"), page.locator("#images-note .i-reading")
    expect(reading).to_contain_text("GBK")
    expect(reading).to_contain_text(CHINESE[0])
    expect(grid).to_contain_text(CHINESE[1])
    reading.get_by_role("button").first.click()
    expect(grid).not_to_contain_text(CHINESE[1])
    expect(reading.get_by_role("button").first).to_contain_text(CHINESE[0])
    note.locator(".t-told:not(.i-reading) button").click()
    expect(grid).to_contain_text(CHINESE[1])
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.name in before} == before
    reading.get_by_role("button").last.click()
    expect(reading).to_have_count(0)
    assert (folder / "1.txt").read_text("utf-8").strip() == CHINESE[1]
