"""What the page's tests share: a real server on a free loopback port, a real browser that may go nowhere else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from playwright.sync_api import Browser, Page
    from starlette.types import ASGIApp

    from app.services import Services


@dataclass(frozen=True)
class LiveServer:
    """A studio that answers: its address, its home, and the services its pages use."""

    url: str
    home: Path
    services: Services
    app: FastAPI


def visit(page: Page, address: str) -> None:
    """Open one of our pages and wait until its fields are filled: before that it takes no input (app/static/wait.js)."""
    page.goto(address)
    settled(page)


def settled(page: Page) -> None:
    """Wait until the page that was just opened has its answers and takes input."""
    from playwright.sync_api import expect

    page.locator(".a-page[aria-busy=false]").wait_for()
    expect(page.locator("atelier-wait")).to_have_count(0)


def eventually(page: Page, true: Callable[[], bool]) -> None:
    """Wait until `true()` holds, for as long as a browser test may wait for anything; the page goes on meanwhile."""
    for _ in range(300):
        if true():
            return
        page.wait_for_timeout(100)
    assert true()


def serve(home: Path, lang: str | None = None, network: Callable[[ASGIApp], ASGIApp] | None = None) -> Iterator[LiveServer]:
    """Run the page for `home` in a thread on a free port until the generator is closed. `network` stands between the page
    and the browser."""
    import uvicorn

    from app.main import create_app

    app = create_app(home, lang)
    sock = socket.create_server(("127.0.0.1", 0))
    seen = network(app) if network else app
    server = uvicorn.Server(uvicorn.Config(seen, log_level="warning", ws="none", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    yield LiveServer(f"http://127.0.0.1:{sock.getsockname()[1]}", home, app.state.services, app)
    server.should_exit = True
    thread.join(20)
    sock.close()
    assert not thread.is_alive(), "the server did not stop"


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
