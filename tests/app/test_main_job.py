"""The main job as a person does it, real browser and real engine: drop, name, tick, start; watch; slide; find."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.helpers.browser import serve, settled, visit
from trainer.core.home import PROJECT
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTES = 60_000


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A studio of its own: nobody else's runs stand in its queue."""
    yield from serve(tmp_path_factory.mktemp("main-job"))


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve example pictures with their captions, as a person's zip."""
    folder = tmp_path_factory.mktemp("pictures") / "stamps"
    folder.mkdir()
    for file in sorted((PROJECT / "datasets" / "example-style").glob("00*"))[:24]:
        shutil.copy(file, folder)
    return Path(shutil.make_archive(str(folder), "zip", folder))


def pixels(place: Locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB"), np.float32)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_from_pictures_to_a_slider_in_four_acts(studio: Any, chromium: Browser, zipped: Path, lang: str) -> None:
    page = chromium.new_context(viewport={"width": 1280, "height": 900}, locale=lang).new_page()
    page.set_default_timeout(30_000)
    name = f"Stamp {lang}"
    visit(page, f"{studio.url}/{lang}/train?set=-")
    page.locator("#train-start").wait_for()
    few_steps(page, studio)

    acts = 0
    page.locator(".d-large input.d-files").set_input_files(zipped)  # 1: drop
    acts += 1
    page.locator(".s-sheet img").first.wait_for(timeout=MINUTES)
    page.locator("#train-name :is(input, textarea)").fill(name)  # 2: name
    acts += 1
    page.locator("#field-rights-pictures-ok input").check()  # 3: tick
    acts += 1
    page.locator("#train-start").click()  # 4: start
    acts += 1
    assert acts <= 4

    page.wait_for_url("**/runs*", timeout=MINUTES)
    page.locator(".r-title h2", has_text=name).wait_for()
    page.locator(".r-title .p-mark.p-good").wait_for(timeout=10 * MINUTES)
    assert t("page.runs.state.succeeded", language=lang) in page.locator(".r-title").inner_text()
    assert page.locator(".r-row").count() >= 1 and page.locator("#run-loss svg").count() == 1
    assert page.locator(".r-head [role=progressbar]").get_attribute("aria-valuenow") == "12"

    page.locator(".r-title .p-go").click()
    page.wait_for_url("**/preview?lora=*")
    draw(page, lang)
    stage, slider = page.locator("atelier-strip .stage"), page.locator("atelier-strip .strength")
    shown = {}
    for strength in ("0", "0.5", "1"):
        slider.fill(strength)
        assert page.locator("atelier-strip").get_attribute("data-shown") == strength
        shown[strength] = pixels(stage)
    half, full = (float(np.abs(shown[s] - shown["0"]).mean()) for s in ("0.5", "1"))
    assert 0 < half < full

    visit(page, f"{studio.url}/{lang}/library")
    page.locator("#library-card h2", has_text=name.replace(" ", "_")).wait_for()
    assert "Apache-2.0" in page.locator("#library-card").inner_text()
    assert (studio.services.home.loras / f"{name.replace(' ', '_')}.safetensors").is_file()
    page.context.close()


def few_steps(page: Page, studio: Any) -> None:
    """Not an act of the main job: it only keeps the test short."""
    page.locator(".t-more > button").click()
    page.locator("#section-run > button").click()
    page.locator("#section-samples > button").click()
    for field, few in (("run", "12"), ("samples", "2")):
        page.locator(f"#field-{field}-steps input").fill(few)
        page.locator(f"#field-{field}-steps input").press("Tab")
    for _ in range(300):
        kept = studio.services.drafts.load(None)
        if (kept.get("run", {}).get("steps"), kept.get("samples", {}).get("steps")) == (12, 2):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never kept: {kept}")


def draw(page: Page, lang: str) -> None:
    """A strip of three, with few sampling steps."""
    settled(page)
    expect(page.locator("#preview-prompt textarea")).not_to_have_value("")
    page.locator(".v-more > button").click()
    page.locator("#preview-steps input").fill("4")
    page.locator("#preview-strip input").click()
    page.get_by_role("option", name=t("page.preview.strip_few", language=lang)).click()
    page.locator("#preview-draw").click()
    page.locator("#preview-progress .v-done").wait_for(timeout=5 * MINUTES)
    assert page.locator("atelier-strip .film img").count() == 3
