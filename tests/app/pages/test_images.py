"""What the Images page answers, asked without a browser; and one press in one."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import gradio as gr
import pytest

from app.forms import training
from app.ui.services import Services, Ui
from tests.helpers.browser import visit
from tests.helpers.events import Events, Values
from trainer.config import load
from trainer.core.home import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.helpers.browser import LiveServer


def sent(**data: Any) -> str:
    """What a script of the page sends."""
    return json.dumps(data)


def at(images: Events, picture_id: str = "0003") -> Values:
    """The page at a picture of the set."""
    return {images.parts.set_name: "mine", images.parts.picture_id: picture_id}


def pick(images: Events, picture_id: str) -> Values:
    parts = images.parts
    return images.ask(images.handlers.picked, {parts.set_name: "mine", parts.pick: sent(id=picture_id)})


def test_captions_change_in_bulk_with_a_count_before_and_an_undo_after(images: Events, services: Services) -> None:
    parts, handlers = images.parts, images.handlers
    values = {parts.set_name: "mine", parts.bulk.way: "add", parts.bulk.text: "on paper"}
    assert "16 captions would change" in images.ask(handlers.edit_typed, values)[parts.bulk.preview]
    answer = images.ask(handlers.edited, values)
    assert "16 captions changed" in answer[parts.note] and "undo" in answer[parts.note]
    image_set = services.set("mine")
    assert image_set is not None
    assert all(p.caption.endswith("on paper") for p in image_set.pictures())
    images.ask(handlers.fixed, {parts.set_name: "mine", parts.fix: sent(action="undo")})
    assert not any(p.caption.endswith("on paper") for p in image_set.pictures())


def test_the_fields_of_an_edit_follow_the_way_and_nothing_is_changed_by_nothing(images: Events) -> None:
    parts, handlers = images.parts, images.handlers
    answer = images.ask(handlers.edit_typed, {parts.set_name: "mine", parts.bulk.way: "replace"})
    assert answer[parts.bulk.replacement]["visible"] and not answer[parts.bulk.in_front]["visible"]
    answer = images.ask(handlers.edited, {parts.set_name: "mine"})
    assert "a-problem" in answer[parts.bulk.preview] and answer[parts.note] == ""


def test_the_words_of_a_caption_are_on_disk_at_once(images: Events, services: Services) -> None:
    parts = images.parts
    assert pick(images, "0003")[parts.picture_id] == "0003"
    answer = images.ask(images.handlers.caption_typed, {**at(images), parts.caption: "猫 & <b>"})
    assert "Saved" in answer[parts.picture.saved] and "猫 &amp; &lt;b&gt;" in answer[parts.grid]
    assert (services.home.datasets / "mine" / "0003.txt").read_text("utf-8") == "猫 & <b>\n"


def test_how_long_a_caption_is_is_said_with_the_trigger_word_and_where_it_is_cut(images: Events, services: Services) -> None:
    parts = images.parts
    caption = pick(images, "0003")[parts.caption]["value"]
    long = ", ".join(["a red fox"] * 40)

    def count(text: str) -> str:
        return images.ask(images.handlers.caption_typed, {**at(images), parts.caption: text})[parts.picture.tokens]

    assert pick(images, "0003")[parts.picture.tokens] == count(caption) and "of 75 tokens" in count(caption)
    assert "About 3 of 75" in count("") and "About 6 of 75" in count("a cat"), "inkstamp style, a cat"
    assert "a-warned" in count(long) and "after 75 is not read" in count(long)
    services.drafts.save("mine", {"captions": {"max_token_length": 225}})
    assert "of 225 tokens" in count(long)


def test_a_picture_counts_as_much_as_the_light_table_says(images: Events, services: Services) -> None:
    parts = images.parts
    assert pick(images, "0003")[parts.picture.weight]["value"] == 1

    def weigh(weight: float | None) -> str:
        return images.ask(images.handlers.weight_typed, {**at(images), parts.picture.weight: weight})[parts.picture.saved]

    assert "Saved" in weigh(0.5) and weigh(None) == ""
    assert all("at most 10" in weigh(wrong) for wrong in (0, -1, 11))
    weights = {p.id: p.weight for p in services.set("mine").pictures()}  # type: ignore[union-attr]
    assert weights.pop("0003") == 0.5 and set(weights.values()) == {1.0}


def test_the_pictures_go_round_in_both_directions(images: Events) -> None:
    handlers, id_ = images.handlers, images.parts.picture_id
    assert images.ask(handlers.next, at(images, "0001"))[id_] == "0002"
    assert images.ask(handlers.next, at(images, "0016"))[id_] == "0001"
    assert images.ask(handlers.previous, at(images, "0001"))[id_] == "0016"


def test_another_cut_is_kept_and_a_signal_that_makes_no_sense_changes_nothing(images: Events, services: Services) -> None:
    parts = images.parts

    def move(**data: Any) -> Values:
        return images.ask(images.handlers.cut_moved, {parts.set_name: "mine", parts.focus: sent(**data)})

    assert 'data-x="0.250"' in move(id="0002", x=0.25, y=0.5)[parts.picture.large]
    assert services.set("mine").find("0002").focus == (0.25, 0.5)  # type: ignore[union-attr]
    assert move(id="gone", x=0.25) == gr.skip()


def test_a_picture_taken_out_comes_back_and_the_next_one_is_chosen(images: Events, services: Services) -> None:
    parts, handlers = images.parts, images.handlers
    answer = images.ask(handlers.removed, at(images, "0003"))
    assert answer[parts.picture_id] == "0004" and "1 taken out." in answer[parts.note] and "undo" in answer[parts.note]
    images.ask(handlers.fixed, {**at(images, "0004"), parts.fix: sent(action="undo")})
    assert len(services.set("mine").pictures()) == 16  # type: ignore[union-attr]
    assert images.ask(handlers.removed, at(images, "0016"))[parts.picture_id] == "0015"


def test_a_set_in_the_trash_is_brought_back_by_the_button_of_the_note(images: Events, services: Services) -> None:
    parts, handlers = images.parts, images.handlers
    answer = images.ask(handlers.fixed, {**at(images), parts.fix: sent(action="discard")})
    assert answer[parts.set_name] == "" and "is in the trash" in answer[parts.note] and "restore" in answer[parts.note]
    assert not any(answer[fold]["visible"] for fold in (parts.bulk.fold, parts.captions.fold, parts.masks.fold))
    (place,) = (services.home.trash / "sets").iterdir()
    back = images.ask(handlers.fixed, {parts.fix: sent(action="restore", place=place.name)})
    assert back[parts.set_name] == "mine" and "It is back." in back[parts.note]
    assert "no longer" in images.ask(handlers.fixed, {parts.fix: sent(action="restore", place="../mine")})[parts.note]


def test_an_example_is_shown_and_nothing_in_it_can_be_changed(images: Events, services: Services) -> None:
    shutil.copytree(PROJECT / "datasets" / "example-style", services.home.datasets / "example-style")
    parts, handlers = images.parts, images.handlers
    answer = images.ask(handlers.set_chosen, {parts.choose: sent(set="example-style")})
    assert answer[parts.caption]["interactive"] is False and "This is an example" in answer[parts.picture.saved]
    assert answer[parts.drop] == "" and not answer[parts.bulk.fold]["visible"]
    place = {parts.set_name: "example-style", parts.picture_id: "0001"}
    assert images.ask(handlers.caption_typed, {**place, parts.caption: "x"}) == {parts.picture.saved: ""}
    assert "This is an example" in images.ask(handlers.removed, place)[parts.note]


def test_a_set_is_renamed_and_its_folder_stays(images: Events, services: Services) -> None:
    images.handlers.named("mine", "新しい名前", "zib")
    meta = services.set("mine").meta  # type: ignore[union-attr]
    assert (meta.name, meta.title, meta.trigger) == ("mine", "新しい名前", "zib")


def test_no_picture_is_taken_out_of_a_set_that_a_training_uses(services: Services) -> None:
    folder = services.home.datasets / "mine"
    config = load.build({"images": {"folder": str(folder)}, "save": {"name": "Ink"}, "run": {"steps": 2}})
    id_ = services.jobs.store.create(config, "in-use", state="queued")
    services.jobs.store.mark(id_, state="paused")
    found = services.set("mine")
    assert found is not None

    def remove() -> str:
        return training.mend(Ui.of(services, "en"), found, {"action": "remove", "targets": ["0001"]})

    assert "“Ink” needs this" in remove() and len(found.pictures()) == 16
    services.jobs.store.mark(id_, state="stopped")
    assert remove() == "1 taken out." and len(found.pictures()) == 15


@pytest.mark.browser
def test_the_button_says_which_training_needs_the_picture(page: Page, live_server: LiveServer) -> None:
    from playwright.sync_api import expect

    folder = live_server.home / "datasets" / "needed"
    shutil.copytree(PROJECT / "datasets" / "example-style", folder)
    config = load.build({"images": {"folder": str(folder)}, "save": {"name": "Ink"}, "run": {"steps": 2}})
    store = live_server.services.jobs.store
    id_ = store.create(config, "needed", state="queued")
    store.mark(id_, state="paused")
    visit(page, f"{live_server.url}/en/images?set=needed")
    page.locator("#images-remove").click()
    expect(page.locator("#images-note")).to_contain_text("“Ink” needs this")
    store.mark(id_, state="stopped")
    assert (folder / "0001.png").is_file()
