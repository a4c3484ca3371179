"""What the page's tests share: a real server on a free loopback port, a real browser that may go nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import LiveServer, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One real server for the whole session, in an empty temporary home; tests give their things names of their own."""
    yield from serve(tmp_path_factory.mktemp("home"))


@pytest.fixture
def page(chromium: Browser, live_server: LiveServer) -> Iterator[Page]:
    """A fresh page that records what must not happen: errors in the console, requests that leave this machine. What another
    test began on the Train page is gone."""
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    live_server.services.drafts.drop(None)
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    wrong: list[str] = []
    opened.on("console", lambda said: wrong.append(f"console: {said.text}") if said.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    opened.on("request", lambda sent: None if _own(sent.url, live_server.url) else wrong.append(f"left: {sent.url}"))
    yield opened
    context.close()
    assert wrong == []


def _own(address: str, server: str) -> bool:
    return address.startswith((f"{server}/", "data:", "blob:"))
