"""Masks made on the Images page: asked without a browser, then in one, with the film over the pictures."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import visit
from tests.helpers.events import Events
from trainer.core.home import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from app.ui.services import Services
    from tests.helpers.browser import LiveServer


def test_examples_are_left_alone_and_a_way_that_is_not_there_is_said(images: Events, services: Services) -> None:
    parts, panel, handlers = images.parts, images.parts.masks, images.handlers.masks
    assert "This is an example" in images.ask(handlers.started, {parts.set_name: "example-style"})[panel.progress]
    answer = images.ask(handlers.started, {parts.set_name: "mine", panel.fields["masker"]: "no-such-model"})
    assert "no way of making masks called “no-such-model”" in answer[panel.progress]
    assert answer[panel.cancel]["visible"] is False and not list((services.home.datasets / "mine").glob("*.mask.png"))


@pytest.mark.browser
def test_masks_lie_as_a_red_film_over_the_pictures_and_one_undo_takes_them_back(page: Page, live_server: LiveServer) -> None:
    from playwright.sync_api import expect

    folder = live_server.home / "datasets" / "masked"
    shutil.copytree(PROJECT / "datasets" / "example-character", folder)
    for file in sorted(folder.glob("00*.*"))[8:]:
        file.unlink()  # four pictures are enough
    visit(page, f"{live_server.url}/en/images?set=masked")
    expect(page.locator("#images-unmask")).to_be_hidden()
    page.get_by_text("Make masks", exact=True).first.click()
    page.locator("#mask-go").click()
    expect(page.locator("#images-note")).to_contain_text("4 masks made", timeout=90_000)
    films = page.locator(".i-grid img.i-film")
    expect(films).to_have_count(4)
    assert films.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 320
    expect(page.locator("#images-large")).to_contain_text("Red: what the mask leaves out.")
    page.locator("#mask-film input").uncheck()
    expect(films.first).to_be_hidden()
    page.locator("#mask-film input").check()
    page.locator("#images-unmask").click()
    expect(page.locator("#images-note")).to_contain_text("The mask was taken away.")
    expect(films).to_have_count(3)
    assert not (folder / "0001.mask.png").exists() and (folder / "0002.mask.png").is_file()
    page.locator("#images-note button").click()
    expect(films).to_have_count(4)
