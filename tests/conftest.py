"""What all tests share: how threads wait, and one real browser."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before torch is first imported: several processes share the cores here, so threads that wait must not spin long, and where
# the tests themselves run side by side, each and what it starts takes one thread.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Started in the background by a script, Ctrl-C is ignored and stays so in everything the tests start; they ask for it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or a skip that says so; with CI=true a missing browser fails."""
    given = os.environ.get("CHROMIUM")
    path = given or shutil.which("chromium") or shutil.which("google-chrome") or "/usr/bin/chromium"
    if not Path(path).exists():
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium on this machine, and CI=true wants one")
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
