"""Runs, Preview and Library in a real browser, on real files: what a person sees, presses and finds again."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.helpers import studio
from tests.helpers.browser import visit
from trainer.adapters import file as lora_file
from trainer.core.texts import t
from trainer.jobs.ledger.run_store import Store
from trainer.library import drawings
from trainer.library.cards import MAX_SHOWN
from trainer.library.drawings import Drawings

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser


def colour(place: Locator) -> tuple[int, int, int]:
    """The colour in the upper quarter of what is shown."""
    image = Image.open(io.BytesIO(place.screenshot())).convert("RGB")
    return image.getpixel((image.width // 4, image.height // 4))  # type: ignore[return-value]


def near(one: tuple[int, int, int], shade: int) -> bool:
    return abs(one[0] - shade) <= 3


@pytest.fixture(scope="module")
def ink(live_server: Any) -> Path:
    return studio.lora(live_server.services.home, "Table fox")


@pytest.fixture(scope="module")
def drawn(live_server: Any, ink: Path) -> drawings.Drawing:
    """A strip as the worker leaves it: the shade of red is 40 at strength 0 and 200 at strength 1."""
    form = {
        "base": "mini",
        "prompt": "a table fox",
        "negative": "",
        "seed": 3,
        "steps": 4,
        "guidance": 3.0,
        "width": 128,
        "height": 128,
        "strip": "usual",
    }
    form["loras"] = [{"on": True, "name": ink.stem, "unet": 0.8, "te": None}]
    store = Drawings(live_server.services.home.previews)
    drawing = store.begin("feedfacecafebeef", form)
    for strength, shade in ((0.0, 40), (0.5, 120), (1.0, 200)):
        drawing = store.add(drawing, strength, studio.picture(drawing.folder / f"p0_s{strength:.2f}.png", shade))
    return drawing


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_moving_the_slider_changes_the_picture_at_once_without_asking_the_server(
    page: Page, live_server: Any, drawn: drawings.Drawing, lang: str
) -> None:
    visit(page, f"{live_server.url}/{lang}/preview")
    stage, slider = page.locator("atelier-strip .stage"), page.locator("atelier-strip .strength")
    page.locator("atelier-strip[data-shown='1']").wait_for()
    assert page.locator("#preview-prompt textarea").input_value() == "a table fox"
    assert page.locator("#preview-unet0 input").input_value() == "0.8"
    table = "document.querySelector('atelier-strip').shadowRoot"
    loaded = f"[...{table}.querySelectorAll('.stage img')].filter(picture => picture.naturalWidth).length"
    while page.evaluate(loaded) < 3:
        page.wait_for_timeout(50)
    asked: list[str] = []
    page.on(
        "request", lambda sent: None if "/news/" in sent.url else asked.append(sent.url)
    )  # every page asks for news now and then
    for strength, shade, words in (
        ("0", 40, "drawn"),
        ("0.6", 120, "nearest"),
        ("1", 200, "drawn"),
        ("2", 200, "nearest"),
    ):
        slider.fill(strength)
        assert near(colour(stage), shade), (strength, colour(stage))
        shown = {40: "0", 120: "0.5", 200: "1"}[shade]
        said = t(f"page.preview.strip.{words}", language=lang, s=shown, wanted=strength)
        assert page.locator("atelier-strip [role=status]").inner_text() == said
    assert asked == []
    slider.fill("0")
    slider.press("ArrowRight")
    assert page.locator("atelier-strip .number").input_value() == "0.05"
    page.locator("atelier-strip .number").fill("3.5")
    beyond = t("page.preview.strip.nearest", language=lang, s="1", wanted="3.5")
    assert page.locator("atelier-strip [role=status]").inner_text() == beyond
    page.locator("atelier-strip .film button").nth(1).click()
    assert page.locator("atelier-strip .number").input_value() == "0.5" and near(colour(stage), 120)


def test_the_base_lies_beside_the_lora_under_a_slider(page: Page, live_server: Any, drawn: drawings.Drawing) -> None:
    visit(page, f"{live_server.url}/en/preview")
    page.locator("atelier-strip[data-shown='1']").wait_for()
    page.locator("atelier-strip .toggle").click()
    stage = page.locator("atelier-strip .stage")
    assert near(colour(stage), 40)
    page.locator("atelier-strip .wipe").fill("0")
    assert near(colour(stage), 200)


def test_the_strength_found_is_kept_on_the_card(page: Page, live_server: Any, drawn: drawings.Drawing, ink: Path) -> None:
    visit(page, f"{live_server.url}/en/preview")
    page.locator("atelier-strip[data-shown='1']").wait_for()
    page.locator("atelier-strip .strength").fill("0.5")
    page.wait_for_timeout(300)
    page.locator("#preview-keep").click()
    page.locator("#preview-kept", has_text="recommended strength is now 0.4").wait_for()
    assert live_server.services.library.card(ink.stem).recommended.best == 0.4


def test_an_unknown_name_in_the_prompt_is_answered_beside_it(page: Page, live_server: Any, ink: Path) -> None:
    visit(page, f"{live_server.url}/en/preview?lora={ink.stem}")
    prompt = page.locator("#preview-prompt textarea")
    expect(prompt).to_have_value(re.compile("inkfox"))
    prompt.fill("a fox <lora:Tabel_fox:1>")
    page.locator("#preview-draw").click()
    said = page.locator("#preview-wrong-prompt .a-problem")
    said.wait_for()
    assert said.inner_text() == "There is no LoRA called “Tabel_fox”. Did you mean “Table_fox”?"


def test_an_earlier_drawing_comes_back_with_its_settings(page: Page, live_server: Any, drawn: drawings.Drawing) -> None:
    visit(page, f"{live_server.url}/en/preview?lora=Table_fox")
    expect(page.locator("#preview-prompt textarea")).to_have_value(re.compile("inkfox"))
    assert "Table_fox works best at strength" in page.locator("#preview-hint").inner_text()
    page.locator(".v-recent button", has_text="a table fox").click()
    page.locator("atelier-strip[data-shown='1']").wait_for()
    assert page.locator("#preview-prompt textarea").input_value() == "a table fox"
    page.locator(".v-more > button").click()
    expect(page.locator("#preview-seed input")).to_have_value("3")
    page.locator("#preview-add").click()
    page.locator("#preview-lora1").wait_for()
    assert page.locator("#preview-lora2").count() == 0


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_run_is_shown_chosen_and_found_again_after_a_reload(page: Page, live_server: Any, lang: str) -> None:
    home = live_server.services.home
    id_ = studio.run(home, f"Watched {lang}", "stopped", 20, 40, lora=str(home.loras / "Table_fox.safetensors"))
    studio.run(home, f"Other {lang}", "stopped", 20, 40)
    visit(page, f"{live_server.url}/{lang}/runs")
    page.locator(".r-list button", has_text=f"Watched {lang}").click()
    page.locator(".r-title h2", has_text=f"Watched {lang}").wait_for()
    assert page.url.endswith(f"run={id_}")
    page.reload()
    page.locator(".r-title h2", has_text=f"Watched {lang}").wait_for()
    assert page.locator(".r-now").inner_text() == t("page.runs.stopped", language=lang)
    assert page.locator(".r-head [role=progressbar]").get_attribute("aria-valuenow") == "20"
    assert page.locator(".r-row").count() == 2 and page.locator(".r-row figure").count() == 4
    assert page.locator("#run-loss svg").get_attribute("data-points") == "20"
    shown = [button.inner_text() for button in page.locator(".r-buttons button:visible").all()]
    assert shown == [t("page.runs.resume", language=lang), t("page.runs.delete", language=lang)]
    assert page.locator(".r-title .p-go").get_attribute("href") == f"/{lang}/preview?lora=Table_fox"
    page.locator(".r-row figure a").first.click()
    large = page.locator("dialog.p-large")
    large.wait_for()
    before = large.locator("img").get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert large.locator("img").get_attribute("src") != before
    page.keyboard.press("Escape")
    assert not large.is_visible()


def test_what_changes_in_the_ledger_shows_by_itself_and_the_fold_stays_open(page: Page, live_server: Any) -> None:
    home = live_server.services.home
    id_ = studio.run(home, "Changing", "stopped", 20, 40)
    visit(page, f"{live_server.url}/en/runs?run={id_}")
    page.locator(".r-title h2", has_text="Changing").wait_for()
    page.locator(".r-fold > button").click()
    page.locator("#run-log", has_text="<script>alert(1)</script>").wait_for()
    store = Store(home.database)
    store.mark(id_, state="failed", why="nan_stop", params='{"step": 20}')
    store.close()
    page.locator(".r-why", has_text="NaN or infinite").wait_for()
    assert page.locator("#run-log pre").is_visible()


def test_a_run_goes_to_the_trash_and_comes_back(page: Page, live_server: Any) -> None:
    id_ = studio.run(live_server.services.home, "Unwanted", "stopped", 20, 40)
    visit(page, f"{live_server.url}/en/runs?run={id_}")
    page.locator(".r-title h2", has_text="Unwanted").wait_for()
    page.locator("#run-delete").click()
    page.locator("#run-message", has_text="“Unwanted” is in the trash.").wait_for()
    assert page.locator(".r-list button", has_text="Unwanted").count() == 0
    page.locator("#run-undo").click()
    page.locator(".r-title h2", has_text="Unwanted").wait_for()
    assert (live_server.services.home.runs / id_ / "config.json").exists()


def test_a_card_is_found_edited_renamed_trashed_and_brought_back(page: Page, live_server: Any) -> None:
    home = live_server.services.home
    studio.lora(home, "Shelf wolf", rights={"purpose": "Wolves on shelves"})
    visit(page, f"{live_server.url}/en/library")
    page.locator("#library-search :is(input, textarea)").fill("shelves")
    expect(page.locator(".l-grid li")).to_have_count(1)
    page.locator("#library-card h2", has_text="Shelf_wolf").wait_for()
    page.locator("#library-edit > button").click()
    expect(page.locator("#library-name :is(input, textarea)")).to_have_value("Shelf_wolf")
    expect(page.locator("#library-strength input")).to_be_visible()
    page.wait_for_timeout(300)  # the fields are put in as the fold opens
    page.locator("#library-notes textarea").fill("soft at 0.6")
    page.locator("#library-strength input").fill("0.6")
    page.locator("#library-name :is(input, textarea)").fill("Shelf wolf two")
    page.locator("#library-save").click()
    page.locator("#library-card h2", has_text="Shelf_wolf_two").wait_for()
    card = live_server.services.library.card("Shelf_wolf_two")
    assert (card.notes, card.recommended.best) == ("soft at 0.6", 0.6)
    page.locator("#library-trash").click()
    page.locator("#library-message", has_text="is in the trash").wait_for()
    assert not (home.loras / "Shelf_wolf_two.safetensors").exists()
    page.locator("#library-undo").click()
    page.locator("#library-card h2", has_text="Shelf_wolf_two").wait_for()
    assert (home.loras / "Shelf_wolf_two.safetensors").exists()
    page.locator("#library-readers > button").click()
    expect(page.locator(".l-programs tr")).to_have_count(5)


def test_a_file_from_elsewhere_is_added(page: Page, live_server: Any, tmp_path: Path) -> None:
    home = live_server.services.home
    outside = studio.lora(home, "Guest").rename(tmp_path / "Guest.safetensors")
    visit(page, f"{live_server.url}/ja/library")
    page.locator("atelier-add input").set_input_files(outside)
    page.locator("#library-message", has_text=t("page.library.imported", language="ja", name="Guest")).wait_for()
    assert (home.loras / "Guest.safetensors").read_bytes() == outside.read_bytes()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing")
    page.locator("atelier-add input").set_input_files(bad)
    page.locator("#library-message .a-problem").wait_for()
    assert not (home.loras / "bad.safetensors").exists()


def test_what_a_strange_file_says_is_shown_as_cut_text_and_runs_nothing(page: Page, live_server: Any, ink: Path) -> None:
    evil = "<script>window.__x=1</script><img src=x onerror='window.__x=2'>"
    said = {"modelspec.title": evil, "modelspec.description": evil * 500, "modelspec.trigger_phrase": evil}
    said |= {"modelspec.license": evil, "ss_sd_model_name": evil} | {f"key {index}": "v" for index in range(10_000)}
    lora_file.rewrite(ink, live_server.services.home.loras / "Strange.safetensors", said)
    visit(page, f"{live_server.url}/en/library?lora=Strange")
    page.locator("#library-card h2", has_text="Strange").wait_for()
    expect(page.locator("#library-card .l-say")).to_contain_text("<script>window.__x=1</script>")
    assert len(page.locator("#library-card .l-say").inner_text()) <= MAX_SHOWN
    assert page.evaluate("window.__x === undefined") and page.locator("#library-card img[src=x]").count() == 0
    live_server.services.library.trash("Strange")


@pytest.mark.parametrize("name", ["runs", "preview", "library"])
def test_nothing_scrolls_sideways_on_a_phone(page: Page, live_server: Any, drawn: drawings.Drawing, name: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, f"{live_server.url}/ja/{name}")
    page.locator("#preview-recent li, .r-title, .l-card, .a-empty").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
