"""A studio that answers, and a browser's page that waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI
    from playwright.sync_api import Page
    from starlette.types import ASGIApp

    from app.ui.services import Services


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

    from app.server.main import create_app

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
