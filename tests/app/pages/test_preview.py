"""What the Preview page answers, asked without a browser; the worker's events are those of a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.actions.previews import HALF_KNOWN
from app.pages.preview import page
from app.pages.preview.handlers import PreviewHandlers
from app.pages.preview.layout import PreviewParts
from app.ui.services import Services, Ui
from tests.helpers import studio
from tests.helpers.events import Events
from trainer.core.home import Home
from trainer.core.texts import t
from trainer.library.drawings import Drawings
from trainer.prompts.lora_tags import MAX_LORAS

REFUSED = {"name": "Ink_fox", "read": 1, "total": 9, "layers": "unet.elsewhere.1"}


class Worker:
    """Answers as the preview worker does; refuses half-known LoRAs with `code` unless the request allows them."""

    def __init__(self, code: str | None = None) -> None:
        self.code, self.requests, self.warmed = code, [], []

    def draw(self, base: str, request: dict[str, Any], out: Path) -> Iterator[dict[str, Any]]:
        self.requests.append(request)
        if self.code and not request.get("partial"):
            yield {"event": "failed", "code": self.code, "field": "loras", "params": REFUSED}
            return
        for strength in request["strengths"] or [None]:
            file = studio.picture(out / f"p0_s{strength or 0:.2f}.png", 90)
            yield {"event": "picture", "file": str(file), "strength": strength}
        yield {"event": "done", "seconds": 1}

    def warm(self, base: str) -> None:
        self.warmed.append(base)

    def close(self) -> None:
        pass


@pytest.fixture(params=["en", "ja"])
def events(request: pytest.FixtureRequest, tmp_path: Path) -> Events:
    services = Services(Home.find(tmp_path).create())
    studio.lora(services.home)
    services.__dict__["preview"] = Worker()
    return Events(page, Ui.of(services, request.param))


@pytest.fixture
def handlers(events: Events) -> PreviewHandlers:
    return events.handlers


@pytest.fixture
def parts(events: Events) -> PreviewParts:
    return events.parts


@pytest.fixture
def worker(handlers: PreviewHandlers) -> Any:
    return handlers.ui.services.preview


def chosen(parts: PreviewParts, **fields: Any) -> dict[Any, Any]:
    """A form with the LoRA in the first row."""
    values = {"base": "mini", "prompt": "a fox", "strip": "few", **fields}
    return {parts.loras[0].name: "Ink_fox", **{parts.fields[name]: value for name, value in values.items()}}


def test_the_page_opens_with_the_lora_of_its_address_and_loads_the_base(events, handlers, parts, worker) -> None:
    answer = events.ask(handlers.opened, {}, gr.Request(headers={}, query_params={"lora": "Ink_fox"}))
    assert answer[parts.loras[0].name]["value"] == "Ink_fox" and "inkfox" in answer[parts.prompt]
    assert answer[parts.partial] == gr.update(value=False, visible=False) and answer[parts.library_empty] == ""
    assert "Ink_fox" in answer[parts.hint] and answer[parts.lora_count] == 1 and worker.warmed == ["mini"]


def test_pictures_come_one_by_one_and_the_buttons_are_free_at_the_end(events, handlers, parts, worker) -> None:
    first, *middle, last = events.stream(handlers.draw, chosen(parts))
    assert first[parts.draw]["interactive"] is False and first[parts.cancel]["visible"] is True
    assert len([answer for answer in middle if parts.table in answer]) == 3
    assert last[parts.draw]["interactive"] is True and last[parts.cancel]["visible"] is False
    assert worker.requests[0]["strengths"] == [0.0, 0.5, 1.0] and "partial" not in worker.requests[0]
    again = events.stream(handlers.draw, chosen(parts))
    assert len(again) == 2 and len(worker.requests) == 1, "nothing is drawn twice"


def test_the_strength_of_the_slider_alone_is_drawn(events, handlers, parts, worker) -> None:
    events.ask(handlers.draw_one, chosen(parts) | {parts.strength: "0.35"})
    assert worker.requests[0]["strengths"] == [0.35]


def test_a_mistake_is_answered_beside_its_field_alone(events, handlers, parts, worker) -> None:
    (answer,) = events.stream(handlers.draw, chosen(parts, seed=-1))
    assert "a-problem" in answer[parts.settings_error] and answer[parts.lora_error] == answer[parts.prompt_error] == ""
    assert answer[parts.draw]["interactive"] is True and worker.requests == []


@pytest.mark.parametrize("code", HALF_KNOWN)
def test_a_lora_half_known_is_refused_with_a_box_and_drawn_once_it_is_ticked(events, handlers, parts, worker, code) -> None:
    worker.code = code
    assert parts.partial.visible is False
    *before, answer = events.stream(handlers.draw, chosen(parts))
    sentence = t(f"page.preview.{code}", language=handlers.ui.lang, **REFUSED)
    assert sentence in answer[parts.lora_error] and "--partial" not in sentence and answer[parts.progress] == ""
    assert answer[parts.partial] == gr.update(visible=True) and not any(parts.partial in one for one in before)
    assert answer[parts.draw]["interactive"] is True
    first, *_, last = events.stream(handlers.draw, chosen(parts, partial=True))
    assert first[parts.lora_error] == "" and worker.requests[-1]["partial"] is True and last[parts.draw]["interactive"]
    drawing, *_ = Drawings(handlers.ui.services.home.previews).latest()
    back = events.ask(handlers.opened, {}, gr.Request(headers={}, query_params={}))
    assert drawing.form["partial"] is True and back[parts.partial] == gr.update(value=True, visible=True)


def test_what_was_agreed_for_one_lora_does_not_hold_for_the_next(events, handlers, parts) -> None:
    answer = events.ask(handlers.lora_chosen, chosen(parts, partial=True))
    assert answer[parts.partial] == gr.update(value=False, visible=False) and answer[parts.keep]["visible"] is True


def test_an_earlier_drawing_brings_its_fields_back_and_an_unknown_one_changes_nothing(events, handlers, parts) -> None:
    events.ask(handlers.draw, chosen(parts, seed=5))
    drawing, *_ = Drawings(handlers.ui.services.home.previews).latest()
    answer = events.ask(handlers.again, {parts.drawing: f'{{"value": "{drawing.key}"}}'})
    assert answer[parts.settings.seed] == 5 and drawing.key in answer[parts.table]
    assert answer[parts.loras[0].name]["value"] == "Ink_fox" and answer[parts.loras[1].row]["visible"] is False
    assert events.ask(handlers.again, {parts.drawing: '{"value": "gone"}'}) == gr.skip()


def test_a_drawing_of_an_earlier_version_fills_as_many_rows_as_it_has(events, handlers, parts) -> None:
    home = handlers.ui.services.home
    form = {"base": "mini", "prompt": "a fox", "loras": [{"on": True, "name": "Ink_fox", "unet": 0.5, "te": None}]}
    drawing = Drawings(home.previews).begin("0123456789abcdef", form)
    answer = events.ask(handlers.again, {parts.drawing: f'{{"value": "{drawing.key}"}}'})
    assert [answer[row.unet] for row in parts.loras] == [0.5] + [1] * (MAX_LORAS - 1)
    assert answer[parts.settings.steps] and answer[parts.partial]["visible"] is False


def test_rows_are_added_up_to_the_most_that_can_be_drawn(events, handlers, parts) -> None:
    answer = events.ask(handlers.add_lora, {parts.lora_count: 1})
    assert [answer[row.row]["visible"] for row in parts.loras[:3]] == [True, True, False] and answer[parts.lora_count] == 2
    assert len(parts.loras) == MAX_LORAS
    assert events.ask(handlers.add_lora, {parts.lora_count: MAX_LORAS})[parts.lora_count] == MAX_LORAS


def test_another_base_brings_its_own_good_values(events, handlers, parts) -> None:
    base = next(base for base in handlers.ui.services.bases() if base.id == "mini")
    answer = events.ask(handlers.base_chosen, {parts.settings.base: "mini"})
    assert answer[parts.settings.width] == base.resolution and answer[parts.settings.steps] == base.steps


def test_the_strength_kept_counts_the_loras_own_in(events, handlers, parts) -> None:
    values = chosen(parts) | {parts.loras[0].unet: 0.8, parts.strength: "0.5"}
    assert "Ink_fox" in events.ask(handlers.keep, values)[parts.kept]
    assert handlers.ui.services.library.card("Ink_fox").recommended.best == 0.4
    assert events.ask(handlers.keep, values | {parts.loras[0].on: False}) == {parts.kept: ""}
