"""A home made by an earlier version on today's pages: drafts, sets, runs and LoRAs are there, and nothing begins by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.forms import training
from app.ui.services import Services
from tests.helpers.browser import serve, settled
from tests.homes.archive import unpack
from trainer.config import load
from trainer.core.home import PROJECT, Home
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ARCHIVES = sorted((PROJECT / "tests" / "homes").glob("*.tar.xz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpack(request.param, tmp_path)


def test_drafts_fill_the_form_as_they_were_left(old: Path) -> None:
    services = Services(Home(old))
    found = next(found for found in services.sets() if found.meta.trigger)
    for tree, name in ((training.opened(services, found), "下書き"), (training.opened(services, None), "Not begun")):
        assert (load.get(tree, "save.name"), load.get(tree, "lora.rank"), load.get(tree, "run.kind")) == (name, 5, "character")
    assert training.problems(services, found, training.opened(services, found)) == []


@pytest.mark.slow
@pytest.mark.browser
def test_its_pages_open_and_show_what_was_made(old: Path, chromium: Browser) -> None:
    ids = json.loads((old.parent / "expected" / "facts.json").read_text("utf-8"))["ids"]
    page = chromium.new_context(locale="ja-JP", viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    for server in serve(old):
        address = f"{server.url}/ja"
        found = next(one for one in server.services.sets() if one.meta.trigger)
        page.goto(f"{address}/train?set={found.folder.name}")
        settled(page)
        assert page.locator("#train-name :is(input, textarea)").input_value() == "下書き"
        page.goto(f"{address}/runs?run={ids['interrupted']}")
        settled(page)
        page.get_by_role("button", name=t("page.runs.resume", language="ja"), exact=True).wait_for()
        page.locator(".r-why").wait_for()
        assert page.locator(".r-list li").count() == 3
        page.goto(f"{address}/runs?run={ids['done']}")
        page.locator('.r-head .p-bar[aria-valuenow="12"]').wait_for()
        page.goto(f"{address}/library")
        settled(page)
        page.locator(".l-grid .l-name", has_text="Fox_狐").wait_for()
        page.goto(f"{address}/images?set={found.folder.name}")
        page.locator(".i-grid li").first.wait_for()
        assert page.locator(".i-grid li").count() == 5
        states = {row.id: row.state for row in server.services.jobs.rows()}
        assert states[ids["interrupted"]] == "interrupted"
        page.context.close()
    assert wrong == []
