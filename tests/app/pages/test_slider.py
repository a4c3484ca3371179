"""A slider on the Train page as a person makes one: no pictures, three sayings, a name, Start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from app.forms import training
from tests.helpers.browser import serve, visit
from trainer.config.plan import is_slider
from trainer.core.home import Home
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
WORDS = {"target": "a fox", "positive": "a huge fox", "negative": "a tiny fox"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = Home(tmp_path_factory.mktemp("slider")).create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.jobs.workers.forecaster.Forecaster.get", lambda self, config: None)
        yield from serve(home.root)


@pytest.mark.parametrize(("lang", "width"), [("en", 1280), ("ja", 390)])
def test_a_slider_is_started_from_words_without_a_picture(
    chromium: Browser, studio: Any, monkeypatch: pytest.MonkeyPatch, lang: str, width: int
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(studio.services.jobs.store, "create", lambda config, key, runner=None: asked.append(config) or "r1")
    studio.services.drafts.drop(None)
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    visit(page, f"{studio.url}/{lang}/train")
    page.locator("#train-base").wait_for()
    page.get_by_label(t("choices.run.kind.slider", language=lang), exact=True).check(force=True)
    page.locator(".t-slider").wait_for()
    for gone in ("atelier-drop", "#field-captions-trigger", "#field-rights-pictures-ok"):
        expect(page.locator(gone)).to_have_count(0)
    expect(page.get_by_text(t("page.train.cost.none_slider", language=lang))).to_be_visible()
    page.locator("#train-name input, #train-name textarea").fill("Size")
    page.locator("#train-start").click()
    expect(page.locator("#field-slider-target")).to_contain_text(t("problems.slider_words", language=lang))
    for name, said in WORDS.items():
        page.locator(f"#field-slider-{name} input, #field-slider-{name} textarea").fill(said)
    expect(page.locator("#field-slider-target [role=alert]")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.locator("#train-start").click()
    page.wait_for_url("**/runs?run=r1")
    (config,) = asked
    assert config.run.kind == "slider" and config.slider.model_dump(include=set(WORDS)) == WORDS
    assert (config.images.folder, config.captions.trigger, config.loss.weighting) == ("", "", "none")
    assert (config.run.batch_size, config.lora.rank, config.lora.train_text_encoder) == (4, 8, False)
    visit(page, f"{studio.url}/{lang}/train")
    page.locator(".t-slider").wait_for()
    page.get_by_label(t("choices.run.kind.style", language=lang), exact=True).check(force=True)
    page.locator("atelier-drop").wait_for()
    expect(page.locator("#field-slider-target")).to_have_count(0)
    page.locator(".t-more > button").click()
    expect(page.locator("#section-slider")).to_be_hidden()
    assert not is_slider(training.opened(studio.services, None))
    context.close()
