"""The tab and the browser say that a run has ended, whichever page is open; only what is new, and once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from app.server import news
from tests.helpers import studio
from tests.helpers.browser import visit
from trainer.core.home import Home
from trainer.core.texts import t
from trainer.jobs.ledger.run_store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

RECORD = """
  window.told = [];
  class Note { constructor(title, more) { window.told.push([title, more.tag]); } static permission = "default";
    static async requestPermission() { Note.permission = window.answer ?? "granted"; return Note.permission; } close() {} }
  window.Notification = Note;
"""
"""Headless Chromium shows no notifications and grants none: what the page would show is written down instead."""


@pytest.mark.parametrize(
    ("state", "columns", "said"),
    [
        ("succeeded", {}, "Ink is finished"),
        ("failed", {"why": "job_memory"}, "Ink failed"),
        ("interrupted", {"why": "killed"}, "Ink was cut off"),
        ("paused", {"why": "disk"}, "Ink: the disk is full"),
        ("running", {"silent": "no_step"}, "Ink does not answer"),
        ("paused", {}, None),
        ("stopped", {}, None),
        ("running", {}, None),
        ("queued", {}, None),
    ],
)
def test_what_is_news_of_a_run(tmp_path, state, columns, said) -> None:
    home = Home(tmp_path).create()
    store = Store(home.database)
    row = store.get(studio.run(home, "Ink", state, 20, **columns))
    told = news.of(row, partial(t, language="en"), "en")
    store.close()
    assert (told and told["title"]) == said


@pytest.mark.browser
def test_the_tab_and_a_notification_say_that_a_run_ended(page: Page, live_server) -> None:
    from tests.app.test_browser import until

    id_ = studio.run(live_server.services.home, "Night run", "running", 20)
    page.add_init_script(RECORD)
    visit(page, f"{live_server.url}/en/runs?run={id_}")
    box = page.get_by_label(t("page.runs.bell", language="en"))
    box.check()
    assert t("page.runs.bell_on", language="en") in page.locator("#run-bell").inner_text()
    visit(page, f"{live_server.url}/en/settings")  # another page of the same tab
    until(page, "sessionStorage.getItem('lora-atelier.news') !== null")
    page.evaluate("Notification.permission = 'granted'")
    live_server.services.jobs.store.mark(id_, state="succeeded", ended=1.7e9)
    until(page, "document.title.startsWith('Night run is finished · Settings')")
    assert page.evaluate("window.told.map(one => one[0])") == ["Night run is finished"]
    page.locator("h1").click()
    until(page, "document.title.startsWith('Settings')")
    page.reload()
    page.wait_for_timeout(1500)
    assert page.title().startswith("Settings") and page.evaluate("window.told") == []


@pytest.mark.browser
def test_a_browser_that_refuses_is_said_so(page: Page, live_server) -> None:
    page.add_init_script(RECORD + "window.answer = 'denied';")
    visit(page, f"{live_server.url}/ja/runs")
    page.get_by_label(t("page.runs.bell", language="ja")).click()
    page.get_by_text(t("page.runs.bell_refused", language="ja")).wait_for()
    assert not page.get_by_label(t("page.runs.bell", language="ja")).is_checked()


@pytest.mark.browser
def test_the_settings_keep_a_webhook_and_refuse_what_is_none(page: Page, live_server) -> None:
    visit(page, f"{live_server.url}/en/settings")
    field = page.locator("#hook-address :is(input, textarea)")
    field.fill("file:///etc/passwd")
    page.locator("#hook-save").click()
    page.locator("#hook-said .a-problem").wait_for()
    field.fill("https://hooks.example/abc")
    page.locator("#hook-save").click()
    page.get_by_text(t("page.settings.hook_kept", language="en"), exact=True).wait_for()
    assert live_server.services.jobs.store.setting("webhook") == "https://hooks.example/abc"
    page.locator("#hook-address :is(input, textarea)").fill("")
    page.locator("#hook-save").click()
    page.get_by_text(t("page.settings.hook_off", language="en"), exact=True).wait_for()
    assert live_server.services.jobs.store.setting("webhook") == ""
