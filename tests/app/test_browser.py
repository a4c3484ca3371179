"""The first half of the main job in a real browser: drop, findings, form, start, captions; both languages; reload."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.forms import training
from tests.helpers.browser import eventually, settled, visit
from trainer.core.home import PROJECT
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example pictures with their captions as a person's zip."""
    folder = tmp_path_factory.mktemp("zip")
    return Path(shutil.make_archive(str(folder / "Ink stamps"), "zip", PROJECT / "datasets" / "example-style"))


def until(page: Page, true: str) -> None:
    """Wait until an expression holds; our content security policy forbids Playwright's own way, which uses eval."""
    eventually(page, lambda: bool(page.evaluate(true)))


def drop(page: Page, live_server, lang: str, zipped: Path) -> None:
    visit(page, f"{live_server.url}/{lang}/train?set=-")
    page.locator(".d-large input.d-files").set_input_files(zipped)
    page.locator(".s-sheet img").first.wait_for()


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_dropped_zip_is_shown_with_its_findings(page: Page, live_server, zipped: Path, lang: str) -> None:
    drop(page, live_server, lang, zipped)
    assert page.locator(".s-sheet li").count() == 16
    page.locator(".s-findings li, .s-fine").first.wait_for()
    drawn = "[...document.querySelectorAll('.s-sheet img')].every(i => i.complete && i.naturalWidth > 50)"
    eventually(page, lambda: page.evaluate(drawn))  # not wait_for_function: it evaluates a string, which the page forbids
    assert page.locator("html").get_attribute("lang") == lang
    assert page.title() == f"{t('nav.train', language=lang)} · LoRA Atelier"


def test_a_page_takes_nothing_typed_before_its_fields_are_filled(page: Page, live_server) -> None:
    held: list[Route] = []

    def late(route: Route) -> None:
        held.append(route)

    page.route("**/queue/join*", late)  # the server's first answers are a long time coming
    page.goto(f"{live_server.url}/en/train?set=-")
    page.locator("#train-start").wait_for()
    until(page, "document.querySelector('.a-page').inert")
    page.locator("#train-name input, #train-name textarea").evaluate("field => field.focus()")
    page.keyboard.type("lost")
    assert page.evaluate("document.querySelector('#train-name input, #train-name textarea').value") == ""
    page.route("**/queue/join*", lambda route: route.continue_())
    while held:
        held.pop().continue_()
    until(page, "!document.querySelector('.a-page').inert")
    page.locator("#train-name :is(input, textarea)").click()
    page.keyboard.type("kept")
    eventually(page, lambda: live_server.services.drafts.load(None).get("save") == {"name": "kept"})
    assert page.locator("#train-name :is(input, textarea)").input_value() == "kept"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_page_that_gets_no_answer_says_so_and_can_be_opened_again(page: Page, live_server, lang: str) -> None:
    page.add_init_script("let l = setTimeout; window.setTimeout = (f, ms, ...a) => l(f, ms === 20_000 ? 50 : ms, ...a)")
    page.route("**/queue/join*", lambda route: None)  # lost on its way
    address = f"{live_server.url}/{lang}/library?lora=none"
    page.goto(address)
    page.locator(".a-page[aria-busy=true]").wait_for(state="attached")
    line = page.locator(".a-late")
    line.wait_for()
    assert t("app.late", language=lang) in line.inner_text()
    assert page.evaluate("document.querySelector('.a-page').inert")
    page.unroute("**/queue/join*")
    line.get_by_role("link", name=t("app.again", language=lang)).click()
    settled(page)
    assert line.is_hidden() and page.url == address


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_start_with_something_missing_answers_beside_the_field(page: Page, live_server, lang: str) -> None:
    visit(page, f"{live_server.url}/{lang}/train?set=-")
    page.locator("#train-start").click()
    lacks = {
        "field-images": "job_no_pictures",
        "train-name": "job_name_missing",
        "field-rights-pictures-ok": "job_rights_missing",
    }
    for place, code in lacks.items():
        line = page.locator(f"#{place} .a-problem")
        line.wait_for()
        assert line.inner_text() == t(f"problems.{code}", language=lang)
    assert page.locator("#train-name :is(input, textarea)").get_attribute("aria-invalid") == "true"


def test_a_bad_value_is_answered_beside_its_field_while_typing(page: Page, live_server, zipped: Path) -> None:
    drop(page, live_server, "en", zipped)
    page.locator(".t-more > button").click()
    page.locator("#section-lora > button").click()
    page.locator("#field-lora-rank input").fill("0")
    line = page.locator("#field-lora-rank .a-problem")
    line.wait_for()
    assert line.inner_text() == t("problems.greater_than_equal", language="en", given="0", limit="1")
    page.locator("#field-lora-rank input").fill("8")
    line.wait_for(state="detached")
    assert "8" in page.locator("#effective-rate").inner_text()


def test_a_reload_keeps_the_set_and_what_was_typed(page: Page, live_server, zipped: Path) -> None:
    drop(page, live_server, "ja", zipped)
    visit(page, f"{live_server.url}/ja/train")
    page.locator(".s-sheet img").first.wait_for()
    name = page.locator("#train-name :is(input, textarea)")
    name.fill("墨のスタンプ")
    page.get_by_label(t("choices.run.kind.character", language="ja")).check(force=True)
    drafts = live_server.home / "outputs" / "drafts"
    for _ in range(300):
        kept = [json.loads(file.read_text(encoding="utf-8")) for file in drafts.glob("*.json")]
        if any(d.get("save") == {"name": "墨のスタンプ"} and d["run"]["kind"] == "character" for d in kept):
            break
        page.wait_for_timeout(100)
    else:
        raise AssertionError(f"never kept: {kept}")
    page.reload()
    page.locator(".s-sheet img").first.wait_for()
    assert page.locator(".s-sheet li").count() == 16
    until(page, "document.querySelector('#train-name input, #train-name textarea').value === '墨のスタンプ'")
    assert page.get_by_label(t("choices.run.kind.character", language="ja")).is_checked()


def test_the_newer_of_two_changes_is_kept_when_the_older_is_slow(page: Page, live_server, monkeypatch) -> None:
    begun: list[str] = []
    kept: list[tuple[str, str]] = []

    def slow(services, found, tree, *more):
        begun.append(tree["run"]["kind"])
        time.sleep(1.5 if len(begun) == 1 else 0)
        answer = keep(services, found, tree, *more)
        kept.append((tree["save"]["name"], tree["run"]["kind"]))
        return answer

    keep = training.keep
    visit(page, f"{live_server.url}/en/train?set=-")
    monkeypatch.setattr(training, "keep", slow)
    page.locator("#train-name :is(input, textarea)").fill("Owl")
    eventually(page, lambda: bool(begun))
    page.get_by_label(t("choices.run.kind.character", language="en")).check(force=True)
    eventually(page, lambda: len(kept) > 1)
    assert kept[0] == ("Owl", "style") and kept[-1] == ("Owl", "character")


def test_gradios_own_words_follow_the_page_not_the_browser(chromium, live_server) -> None:
    for locale, lang in (("ja-JP", "en"), ("en-US", "ja")):
        context = chromium.new_context(locale=locale)
        page = context.new_page()
        page.goto(f"{live_server.url}/{lang}/train")
        page.locator(".a-page").wait_for()
        assert page.evaluate("navigator.language") == lang
        text = page.locator("body").inner_text()
        japanese = re.findall(r"[\u3040-\u30ff]", text.replace(t("nav.own_name", language="ja"), ""))
        assert bool(japanese) == (lang == "ja")
        assert not re.search(r"Built with Gradio|Use via API|Click to Upload|Drop File Here", text)
        context.close()


def test_a_caption_is_saved_as_it_is_typed(page: Page, live_server, zipped: Path) -> None:
    drop(page, live_server, "en", zipped)
    page.locator(".s-ways a").first.click()
    page.wait_for_url("**/en/images?set=*")
    page.locator(".i-grid button").nth(2).click()
    page.locator(".i-grid li:nth-child(3) button[aria-current]").wait_for()
    page.locator("#images-caption textarea").fill("a fox <b>in</b> ${snow} {{x}} ")
    page.locator("#images-saved .i-saved").wait_for()
    name = page.url.partition("set=")[2].partition("&")[0]
    found = live_server.services.set(name)
    assert found.pictures()[2].caption == "a fox <b>in</b> ${snow} {{x}}"
    page.reload()
    page.locator(".i-grid button").nth(2).click()
    assert "<b>in</b> ${snow} {{x}}" in page.locator(".i-words").nth(2).inner_text()
    page.locator("#images-remove").click()
    page.locator(".t-told button").wait_for()
    assert page.locator(".i-grid li").count() == 15
    page.locator(".t-told button").click()
    page.locator(".i-grid li:nth-child(16)").wait_for()


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(page: Page, live_server, lang: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    for name in ("train", "images", "settings", "help"):
        page.goto(f"{live_server.url}/{lang}/{name}")
        page.locator(".a-page").wait_for()
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
