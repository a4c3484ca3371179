"""Makes the README's pictures: `python -m tools.readme_pictures HOME [--prompt WORDS] [--strength S]`.

Trains the example style by the command where HOME holds no LoRA yet, draws a film strip in the page, and writes
`train`, `runs` and `preview` in both languages into `docs/images`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.screenshots import server
from trainer.core.home import PROJECT, Home

if TYPE_CHECKING:
    from playwright.sync_api import Page

OUT = PROJECT / "docs" / "images"
NAME = "Ink stamp"


def trained(home: Path) -> None:
    """A home with the example style as a set and as a LoRA."""
    images = home / "datasets" / "example-style"
    if not images.is_dir():
        shutil.copytree(PROJECT / "datasets" / "example-style", images)
    if not list(Home.find(home).loras.glob("*.safetensors")):
        said = ["train", "--images", str(images), "--name", NAME, "--preset", "style", "--base", "mini", "--rights"]
        subprocess.run([sys.executable, "launch.py", *said, "--home", str(home)], cwd=PROJECT, check=True)


def shoot(page: Page, url: str, lang: str, prompt: str, strength: str) -> None:
    """The three pages in one language."""
    page.goto(f"{url}/{lang}/train?set=example-style")
    page.locator(".s-sheet img").first.wait_for()
    page.wait_for_timeout(3000)
    page.screenshot(path=OUT / f"train-{lang}.png")
    page.goto(f"{url}/{lang}/runs")
    page.locator(".r-title h2").wait_for()
    page.wait_for_timeout(2000)
    page.screenshot(path=OUT / f"runs-{lang}.png")
    page.goto(f"{url}/{lang}/preview?lora={NAME.replace(' ', '_')}")
    page.locator(".a-page[aria-busy=false]").wait_for()
    page.locator("#preview-prompt textarea").fill(prompt)
    page.locator("#preview-draw").click()
    page.locator("#preview-progress .v-done").wait_for(timeout=300_000)
    page.locator("atelier-strip .strength").fill(strength)
    page.set_viewport_size({"width": 1280, "height": 940})
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(1000)
    page.screenshot(path=OUT / f"preview-{lang}.png")


def main() -> None:
    """Parse, train, serve, shoot."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--prompt", default="a frog, inkstamp style, white background")
    parser.add_argument("--strength", default="1")
    given = parser.parse_args()
    trained(given.home)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with server(given.home) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for lang in ("en", "ja"):
            size: Any = {"width": 1280, "height": 900}
            context = browser.new_context(viewport=size, color_scheme="light", locale=lang, reduced_motion="reduce")
            shoot(context.new_page(), url, lang, given.prompt, given.strength)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
