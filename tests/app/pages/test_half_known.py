"""A LoRA of which less than half is known, on the Preview page with the real worker: refused, then drawn with what is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.app.actions.test_lora_tools import mini_lora
from tests.helpers.browser import serve, visit
from tests.helpers.lora_files import raw
from trainer.adapters import file as lora_file
from trainer.core.home import Home
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
MINUTE = 60_000


def half_lora(home: Home) -> str:
    """A LoRA for the embedded base whose UNet layers have names that nobody knows."""
    whole = home.loras / f"{mini_lora(home, 'Whole')}.safetensors"
    tensors = {key.replace("lora_unet_", "unet.elsewhere."): array for key, array in lora_file.read_tensors(whole).items()}
    whole.unlink()
    return raw(home.loras / "Half.safetensors", tensors).stem


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_lora_half_known_is_drawn_once_a_person_says_so(chromium: Browser, tmp_path: Path, lang: str) -> None:
    name = half_lora(Home(tmp_path).create())
    for live in serve(tmp_path):
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.set_default_timeout(MINUTE / 2)
        visit(page, f"{live.url}/{lang}/preview?lora={name}")
        expect(page.locator("#preview-partial")).to_have_count(0)
        page.locator("#preview-prompt textarea").fill("a fox")
        page.locator(".v-more > button").click()
        page.locator("#preview-steps input").fill("2")
        page.locator("#preview-strip input").click()
        page.get_by_role("option", name=t("page.preview.strip_few", language=lang)).click()
        page.locator("#preview-draw").click()
        box = page.get_by_label(t("page.preview.partial", language=lang), exact=True)
        box.wait_for(timeout=2 * MINUTE)
        expect(page.locator("#preview-wrong-lora")).to_contain_text("unet.elsewhere.")
        box.check()
        page.locator("#preview-draw").click()
        page.locator("#preview-progress .v-done").wait_for(timeout=5 * MINUTE)
        expect(page.locator("#preview-wrong-lora .a-problem")).to_have_count(0)
        expect(page.locator("#preview-progress")).to_contain_text("unet.elsewhere.")
        visit(page, f"{live.url}/{lang}/preview")
        expect(box).to_be_checked()
        context.close()
