"""What a person acts on next is on the screen, however many pictures a set has: the primary button, the opened editor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.helpers.browser import visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
SIZES = ((1280, 850), (390, 844))


def image_set(datasets: Path, count: int) -> str:
    """A set of `count` small pictures of different colours; its name."""
    folder = datasets / f"many-{count}"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        colour = (number * 37 % 256, number * 91 % 256, number % 256)
        Image.new("RGB", (80, 64), colour).save(folder / f"{number:04d}.png")
        (folder / f"{number:04d}.txt").write_text(f"fox {number}")
    return folder.name


def inside(page: Page, selector: str) -> bool:
    """Whether an element stands whole inside the window."""
    return page.locator(selector).evaluate(
        "e => { const r = e.getBoundingClientRect();"
        " return r.height > 0 && r.top >= 0 && r.bottom <= innerHeight && r.left >= 0 && r.right <= innerWidth }"
    )


@pytest.mark.parametrize("count", [30, 300])
@pytest.mark.parametrize("size", SIZES, ids=["desk", "phone"])
def test_start_and_the_opened_editor_are_on_the_screen(page: Page, live_server: Any, count: int, size: Any) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    name = image_set(live_server.services.home.datasets, count)
    visit(page, f"{live_server.url}/en/train?set={name}")
    page.locator(".s-sheet img").first.wait_for()
    assert inside(page, "#train-start")

    visit(page, f"{live_server.url}/en/images?set={name}")
    last = page.locator(".i-grid li").last
    last.scroll_into_view_if_needed()
    last.locator("button").click()
    page.locator(".i-grid li:last-child button[aria-current]").wait_for()
    page.locator("#images-caption textarea").wait_for()
    page.wait_for_timeout(300)
    assert inside(page, "#images-caption textarea")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
