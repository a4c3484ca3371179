"""What holds whatever a person does with the page: reload, sleep, another device, things in use, strangers, many requests."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.server.security import RequestGuardMiddleware
from tests.helpers import studio
from tests.helpers.browser import visit
from trainer.config import load
from trainer.core import files
from trainer.core.home import PROJECT
from trainer.core.texts import t
from trainer.jobs.ledger.run_store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def limit() -> float:
    """Three seconds on a machine with a core to spare, longer where many share it."""
    return 3.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) * 1.5)


def shown(page: Page, step: int) -> float:
    """Seconds until the run's bar stands at `step`."""
    begun = time.monotonic()
    page.locator(f'.r-head .p-bar[aria-valuenow="{step}"]').wait_for()
    return time.monotonic() - begun


@pytest.mark.browser
def test_after_a_reload_a_sleep_and_on_a_phone_it_is_the_same_run(chromium: Browser, live_server: Any) -> None:
    store = Store(live_server.services.home.database)
    id_ = studio.run(live_server.services.home, "Long night", "running", 20)
    before = [(row.id, row.state, row.attempt) for row in store.list()]
    desk = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    address = f"{live_server.url}/en/runs?run={id_}"
    desk.goto(address)
    shown(desk, 20)

    desk.reload(wait_until="commit")
    assert shown(desk, 20) < limit()

    desk.context.set_offline(True)
    desk.wait_for_timeout(2500)
    store.mark(id_, step=30)
    desk.wait_for_timeout(500)
    desk.context.set_offline(False)
    assert shown(desk, 30) < limit()

    phone = chromium.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True).new_page()
    phone.goto(address.replace("/en/", "/ja/"), wait_until="commit")
    assert shown(phone, 30) < limit()
    phone.get_by_role("button", name=t("page.runs.pause", language="ja")).wait_for()
    assert [(row.id, row.state, row.attempt) for row in store.list()] == before
    store.mark(id_, state="stopped")
    for page in (desk, phone):
        page.context.close()
    store.close()


@pytest.mark.browser
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_set_goes_to_the_trash_and_comes_back_but_not_while_a_training_needs_it(
    page: Page, live_server: Any, lang: str
) -> None:
    home = live_server.services.home
    folder = home.datasets / f"foxes-{lang}"
    shutil.copytree(PROJECT / "datasets" / "example-style", folder)
    store = live_server.services.jobs.store
    id_ = studio.run(home, "Fox run", "paused", 20)
    tree = load.dump(load.build({"images": {"folder": str(folder)}, "save": {"name": "Fox run"}}))
    files.write_json(store.run_dir(id_).config, tree)
    visit(page, f"{live_server.url}/{lang}/images?set={folder.name}")
    away = page.get_by_role("button", name=t("page.images.trash", language=lang), exact=True)
    away.click()
    page.get_by_text(t("problems.in_use_run", language=lang, run="Fox run")).wait_for()
    assert folder.is_dir()

    store.mark(id_, state="stopped")
    away.click()
    page.locator(".t-told").get_by_role("button", name=t("page.runs.undo", language=lang)).wait_for()
    assert not folder.exists() and len(list((home.trash / "sets").glob("foxes*/*.png"))) == 16
    page.locator(".t-told").get_by_role("button").click()
    page.locator(".i-grid li").first.wait_for()
    assert len(list(folder.glob("*.png"))) == 16 and not (home.trash / "sets" / folder.name).exists()


@pytest.mark.browser
def test_a_lora_a_training_begins_from_is_neither_trashed_nor_renamed(page: Page, live_server: Any) -> None:
    home = live_server.services.home
    path = studio.lora(home, "Needed fox")
    store = live_server.services.jobs.store
    id_ = studio.run(home, "Second lesson", "paused", 0)
    config = store.run_dir(id_).config
    config.write_text(config.read_text("utf-8").replace('"continue_from": ""', f'"continue_from": "{path.stem}"'))
    visit(page, f"{live_server.url}/en/library?lora={path.stem}")
    page.locator("#library-edit > button").click()
    page.locator("#library-trash").click()
    page.get_by_text(t("problems.in_use_run", language="en", run="Second lesson")).wait_for()
    page.locator("#library-name :is(input, textarea)").fill("Another fox")
    page.locator("#library-save").click()
    page.wait_for_timeout(800)
    assert path.exists()
    store.mark(id_, state="stopped")
    page.locator("#library-trash").click()
    page.locator("#library-undo").click()
    page.get_by_text(t("page.library.restored", language="en", name=path.stem)).wait_for()
    assert path.exists()


STRANGERS = [
    ("POST", "/uploads/new", {"origin": "http://evil.example"}, 403),
    ("POST", "/en/gradio_api/queue/join", {"sec-fetch-site": "cross-site"}, 403),
    ("GET", "/en/train", {"host": "evil.example"}, 400),
    ("GET", "/news/en", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    ("GET", "/files/runs/x/a.png", {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
    ("GET", "/news/en", {"origin": "http://evil.example"}, 403),
]


def test_strangers_are_refused_from_the_head_of_their_request_a_thousand_times(live_server: Any) -> None:
    answered: list[int] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(f"reached the page: {scope}")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.append(message["status"])

    async def ask() -> None:
        guard = RequestGuardMiddleware(inside)
        for turn in range(1000):
            method, path, headers, _ = STRANGERS[turn % len(STRANGERS)]
            head = [(name.encode(), value.encode()) for name, value in ({"host": "127.0.0.1:7860"} | headers).items()]
            await guard({"type": "http", "method": method, "path": path, "headers": head}, None, send)  # type: ignore[arg-type]

    with ThreadPoolExecutor(1) as pool:  # Playwright keeps a loop running in this thread
        pool.submit(lambda: asyncio.run(ask())).result()
    assert answered == [STRANGERS[turn % len(STRANGERS)][3] for turn in range(1000)]
    with httpx.Client(base_url=live_server.url, timeout=30) as client:
        for method, path, headers, status in STRANGERS:
            content = b"{}" if method == "POST" else None
            assert client.request(method, path, headers=headers, content=content).status_code == status
        assert {client.get("/healthz").status_code for _ in range(100)} == {200}  # no limit for what is our own


def test_a_link_from_elsewhere_still_opens_the_page(live_server: Any) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert httpx.get(f"{live_server.url}/en/help", headers=headers).status_code == 200
