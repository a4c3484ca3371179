"""The web server is killed and started again under an open Runs page: the page goes on by itself."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import studio
from trainer.core.home import PROJECT, Home
from trainer.jobs.ledger.run_store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SERVER = """
import sys, uvicorn
from pathlib import Path
from app.server.main import create_app
uvicorn.run(create_app(Path(sys.argv[1])), port=int(sys.argv[2]), ws="none", log_level="error", timeout_graceful_shutdown=2)
"""


def start(home: Path, port: int) -> subprocess.Popen[bytes]:
    """A server process that answers."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(home), str(port)], cwd=PROJECT)
    limit = time.monotonic() + 120
    while True:
        assert server.poll() is None and time.monotonic() < limit, "the server did not start"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
            return server
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)


@pytest.mark.slow
def test_an_open_page_catches_up_after_the_server_was_killed(chromium: Browser, tmp_path: Path) -> None:
    home = Home.find(tmp_path).create()
    id_ = studio.run(home, "Survivor", "stopped", 20, 40)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start(tmp_path, port)
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/en/runs?run={id_}")
        page.locator(".p-facts", has_text="20 of 40").wait_for()
        server.kill()
        server.wait()
        assert page.locator(".r-title h2").inner_text() == "Survivor"
        server = start(tmp_path, port)
        store = Store(home.database)
        store.mark(id_, step=33)
        store.close()
        page.locator(".p-facts", has_text="33 of 40").wait_for(timeout=30_000)
    finally:
        context.close()
        server.terminate()
        server.wait(20)
