"""Pictures of every page in both languages, light and dark, wide and narrow: `python -m tools.screenshots --out DIR`.

Runs a real server on a temporary home with the example sets in it, drives the system's Chromium, and writes one PNG
each named `<page>-<language>-<light|dark>-<width>.png`. Says what must not be: sideways scroll, errors, requests that
leave this machine.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.core.home import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGES = {
    "empty": "/train?set=-", "train": "/train?set=example-style",
    "images": "/images?set=example-character&picture=0003",
    "runs": "/runs", "preview": "/preview", "library": "/library", "settings": "/settings", "help": "/help",
}  # fmt: skip
WIDTHS = {390: 844, 1280: 900}


@contextmanager
def server(home: Path) -> Iterator[str]:
    """The page for `home` on a free port of this machine."""
    import uvicorn

    from app.server.main import create_app

    sock = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(create_app(home), log_level="warning", ws="none", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    running.should_exit = True
    thread.join(20)


def shoot(url: str, out: Path, only: str = "") -> list[str]:
    """All pictures; returns what was wrong."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for lang, scheme, width in itertools.product(("en", "ja"), ("light", "dark"), WIDTHS):
            size: Any = {"width": width, "height": WIDTHS[width]}
            context = browser.new_context(viewport=size, color_scheme=scheme, locale="de-DE", reduced_motion="reduce")
            page = context.new_page()
            heard = _listen(page, url)
            for name, address in PAGES.items():
                here = f"{name}-{lang}-{scheme}-{width}"
                if only and only not in here:
                    continue
                heard.clear()
                page.goto(f"{url}/{lang}{address}")
                page.wait_for_selector(".a-page")
                page.wait_for_timeout(1200)
                over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if over > 0:
                    wrong.append(f"{here}: {over} px of sideways scroll")
                page.screenshot(path=out / f"{here}.png", full_page=name in ("help", "settings", "train", "images"))
                wrong += [f"{here}: {line}" for line in heard]
            context.close()
        browser.close()
    return wrong


def _listen(page: Page, url: str) -> list[str]:
    """Everything on a page that must not be, as it happens."""
    heard: list[str] = []
    page.on("console", lambda said: heard.append(said.text[:300]) if said.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    own = (f"{url}/", "data:", "blob:")
    page.on("request", lambda sent: None if sent.url.startswith(own) else heard.append(f"left for {sent.url}"))
    return heard


def main() -> int:
    """Parse, serve, shoot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--home", type=Path, help="a home with runs and LoRAs to show; default: a fresh one")
    parser.add_argument("--only", default="", help="only pictures whose name contains this")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="atelier-shots-") as folder:
        home = given.home or Path(folder)
        if not given.home:
            for example in (PROJECT / "datasets").glob("example-*"):
                shutil.copytree(example, home / "datasets" / example.name)
        with server(home) as url:
            wrong = shoot(url, given.out, given.only)
    for line in dict.fromkeys(wrong):
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
