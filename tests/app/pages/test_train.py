"""What the Train page answers, asked without a browser."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import pytest

from app.forms.seen import Seen
from app.ui.services import Services
from tests.helpers.events import Events

NOBODY = gr.Request(headers={}, query_params={})
NEW_TAB = Seen.new_tab().text()
TABS = (NEW_TAB, Seen.new_tab().text())


def sent(**data: Any) -> str:
    """What a script of the page sends."""
    return json.dumps(data)


def form(train: Events, **options: Any) -> dict[Any, Any]:
    """The set in work and what its fields hold, by the option's name with `__` for its dot."""
    fields = {train.parts.fields[name.replace("__", ".")]: value for name, value in options.items()}
    return {train.parts.set_name: "mine", **fields}


def test_a_drop_fills_the_page_and_becomes_the_set_in_work(train: Events, services: Services) -> None:
    parts, upload = train.parts, sent(set="mine", accepted=16, sentences=["x.gif: <b>"])
    answer = train.ask(train.handlers.dropped, {parts.dropped: upload, parts.seen: NEW_TAB})
    assert answer[parts.set_name] == "mine"
    assert answer[parts.about["sheet"]].count("<img") == 16
    assert "16 pictures are in. x.gif: &lt;b&gt;" in answer[parts.about["message"]]
    assert answer[parts.fields["captions.trigger"]]["value"] == "inkstamp style"
    assert services.drafts.load("mine")["run"]["kind"] == "style"


def test_nothing_taken_leaves_the_page_as_it_was(train: Events) -> None:
    parts, upload = train.parts, sent(set="", accepted=0, sentences=["Nothing in it."])
    answer = train.ask(train.handlers.dropped, {parts.dropped: upload})
    assert answer[parts.set_name] == "" and "Nothing in it." in answer[parts.about["message"]]
    assert answer[parts.lines["cost"]] == "<p class='a-quiet'>Pictures first, then a name, then the tick.</p>"


def test_start_without_anything_names_all_three_and_keeps_its_key(train: Events, services: Services) -> None:
    answer = train.ask(train.handlers.started)
    for place in ("field-images", "train-name", "field-rights-pictures-ok"):
        assert place in answer[train.parts.problems]
    assert train.parts.request_key not in answer and services.jobs.rows() == []


def test_start_with_everything_queues_one_run_and_leads_to_it(train: Events, services: Services) -> None:
    values = form(train, save__name="Ink", rights__pictures_ok=True, run__steps=2)
    answer = train.ask(train.handlers.started, values)
    (row,) = services.jobs.rows()
    assert f'data-to="/en/runs?run={row.id}"' in answer[train.parts.leaving] and answer[train.parts.request_key]
    assert row.state == "queued"


def test_the_same_press_twice_is_one_run(train: Events, services: Services) -> None:
    values = form(train, save__name="Ink", rights__pictures_ok=True, run__steps=2) | {train.parts.request_key: "once"}
    first, second = (train.ask(train.handlers.started, values) for _ in range(2))
    assert len(services.jobs.rows()) == 1 and first[train.parts.leaving] == second[train.parts.leaving]


def test_a_mistake_below_the_fold_opens_it(train: Events) -> None:
    values = form(train, save__name="Ink", rights__pictures_ok=True, lora__rank=0)
    answer = train.ask(train.handlers.started, values)
    assert answer[train.parts.more]["open"] and "field-lora-rank" in answer[train.parts.problems]
    assert train.parts.more not in train.ask(train.handlers.started, form(train, rights__pictures_ok=True))


def test_typing_keeps_the_draft_and_answers_beside_the_field(train: Events, services: Services) -> None:
    answer = train.ask(train.handlers.typed, form(train, save__name="墨", lora__rank=0))
    assert "field-lora-rank" in answer[train.parts.problems]
    assert services.drafts.load("mine")["save"]["name"] == "墨"
    answer = train.ask(train.handlers.typed, form(train, lora__rank=24))
    assert answer[train.parts.problems] == ""
    assert not set(answer) & {*train.parts.fields.values(), *train.parts.about.values()}, "nothing that is typed in moves"


def test_another_kind_refills_the_form_and_tells_the_set(train: Events, services: Services) -> None:
    answer = train.ask(train.handlers.choice_made, form(train, run__kind="character", save__name="Ink"))
    assert answer[train.parts.fields["save.name"]]["value"] == "Ink"
    assert answer[train.parts.fields["images.flip_augment"]]["value"] is False
    assert services.set("mine").meta.kind == "character"  # type: ignore[union-attr]


def test_a_slider_changes_the_left_side_and_pictures_bring_it_back(train: Events) -> None:
    about, fields = train.parts.about, train.parts.fields
    answer = train.ask(train.handlers.choice_made, form(train, run__kind="slider"))
    assert "t-slider" in answer[about["sheet"]] and answer[about["findings"]] == ""
    assert fields["slider.target"] in answer and answer[fields["slider.target"]]["visible"] is True
    answer = train.ask(train.handlers.choice_made, form(train, run__kind="style"))
    assert answer[about["sheet"]].count("<img") == 16 and "s-" in answer[about["findings"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[lora]\nrank = 0", "field-lora-rank"), ("not toml [", "train-toml"), ("[lora]\nrnak = 3", "field-lora-rnak")],
)
def test_a_bad_settings_file_is_answered_and_changes_nothing_else(train: Events, text: str, expected: str) -> None:
    values = {train.parts.set_name: "mine", train.parts.toml: sent(name="run.toml", text=text)}
    answer = train.ask(train.handlers.toml_opened, values)
    assert expected in answer.pop(train.parts.problems) and answer == {}


def test_a_settings_file_fills_the_form(train: Events) -> None:
    text = '[optimizer]\nname = "prodigy"\n[lora]\nrank = 4'
    values = {train.parts.set_name: "mine", train.parts.toml: sent(name="run.toml", text=text)}
    answer, fields = train.ask(train.handlers.toml_opened, values), train.parts.fields
    assert answer[fields["lora.rank"]]["value"] == 4
    assert answer[fields["optimizer.d_coef"]]["visible"] is True
    assert answer[fields["optimizer.text_encoder_lr"]]["visible"] is False


def test_an_idle_tab_takes_over_what_another_wrote_and_a_start_waits_for_a_look(train: Events, services: Services) -> None:
    parts, handlers = train.parts, train.handlers
    one, two = (train.ask(handlers.set_chosen, {parts.choose: sent(set="mine"), parts.seen: tab}) for tab in TABS)
    idle = {parts.set_name: "mine", parts.seen: two[parts.seen]}
    assert train.ask(handlers.look, idle) == gr.skip() == train.ask(handlers.follow, idle)
    filled = {field: one[field]["value"] for field in parts.fields.values()}
    train.ask(handlers.typed, {**filled, **form(train, save__name="Fox"), parts.seen: one[parts.seen]})
    assert set(train.ask(handlers.look, idle)) == {parts.newer}
    answer = train.ask(handlers.follow, idle)
    assert set(answer) == {parts.seen, parts.about["message"], parts.fields["save.name"]}
    assert answer[parts.fields["save.name"]]["value"] == "Fox"

    filled = {field: two[field]["value"] for field in parts.fields.values()}
    values = {**filled, **form(train, rights__pictures_ok=True), parts.seen: two[parts.seen]}
    answer = train.ask(handlers.started, values)
    assert answer[parts.leaving] == "" and answer[parts.fields["save.name"]]["value"] == "Fox"
    assert parts.about["message"] in answer and services.jobs.rows() == []


def test_a_set_named_in_the_address_is_opened_before_the_one_last_worked_on(train: Events) -> None:
    request = gr.Request(headers={}, query_params={"set": "mine"})
    answer = train.ask(train.handlers.opened, {train.parts.set_name: "example-character"}, request)
    assert answer[train.parts.set_name] == "mine" and answer[train.parts.request_key]
    answer = train.ask(train.handlers.opened, {train.parts.set_name: "gone"}, NOBODY)
    assert answer[train.parts.set_name] == ""
