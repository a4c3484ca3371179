"""The fold below the Library that works on whole bases, pressed as a person does, on the embedded base."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.app.actions.test_lora_tools import mini_lora
from tests.helpers.browser import serve, visit
from trainer.core.home import Home
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = Home(tmp_path_factory.mktemp("bases")).create()
    mini_lora(home)
    yield from serve(home.root)


@pytest.mark.parametrize(("lang", "width"), [("en", 1280), ("ja", 390)])
def test_a_base_is_made_with_a_lora_inside_and_a_lora_comes_out_of_two_bases(
    chromium: Browser, studio: Any, lang: str, width: int
) -> None:
    def say(key: str, **facts: str) -> str:
        return t(f"page.library.bases.{key}", language=lang, **facts)

    def choose(field: str, option: str) -> None:
        box = page.locator(f"#library-bases-{field} input")
        box.click()
        page.get_by_role("option", name=option, exact=True).click()
        box.press("Escape")

    name = f"Inked-{lang}"
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    visit(page, f"{studio.url}/{lang}/library")
    page.locator("#library-bases > button").click()
    page.get_by_label(say("bake"), exact=True).check(force=True)
    expect(page.locator("#library-bases-tuned")).to_have_count(0)
    page.locator("#library-bases-go").click()
    line = page.locator("#library-bases-line")
    expect(line).to_contain_text(t("problems.loras_unchosen", language=lang))
    mini = next(base for base in studio.services.bases() if base.id == "mini").title_in(lang)
    choose("base", mini)
    choose("loras", "Ink")
    page.locator("#library-bases-strengths input, #library-bases-strengths textarea").fill("0.5")
    field = page.locator("#library-bases-name input, #library-bases-name textarea")
    field.fill(name)
    page.locator("#library-bases-go").click()
    expect(line).to_contain_text(say("bake_done", name=name))
    page.get_by_label(say("extract"), exact=True).check(force=True)
    choose("tuned", name)
    field.fill(f"Out-{lang}")
    page.locator("#library-bases-go").click()
    expect(line).to_contain_text(say("extract_done", name=f"Out-{lang}"), timeout=60_000)
    expect(page.locator("#library-card")).to_contain_text(f"Out-{lang}")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert (studio.services.home.loras / f"Out-{lang}.safetensors").is_file()
    context.close()
