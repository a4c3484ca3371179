"""Train: drop pictures, give it a name, tick the rights, start. Everything else has a good value and stands folded.

Layout and wiring only: values and rules are in app/start.py, fields in app/form.py, HTML in app/views.
"""

from __future__ import annotations

import json
import tomllib
import uuid
from typing import Any

import gradio as gr

from app import form, start
from app.drafts import drawn
from app.pages.address import asked
from app.parts import PRIVATE, leave, markup, on_load, remembered, signal
from app.services import Ui
from app.views import sets
from app.views import train as view
from app.words import esc
from trainer.config import load
from trainer.config.load import ConfigProblems
from trainer.config.options import help_text, label, option
from trainer.config.slider import NEEDED
from trainer.images.image_set import ImageSet
from trainer.problem import Problem

WHERE = {"images.folder": "field-images", "save.name": "train-name"}
REFILL = ("run.kind", "model.base", "optimizer.name", "schedule.name")
"""Choices after which other fields hold other values."""
POLL = 3
"""Seconds between two looks at the forecast."""

IN_TURN: dict[str, Any] = {**PRIVATE, "concurrency_id": "draft", "concurrency_limit": 1}
"""For every event that writes the draft: one after another as they came. Gradio takes events of different functions in any
order and at once, and the older of two would overwrite the newer."""


def build(ui: Ui) -> None:
    """Pictures on the left, the few questions on the right, the rest folded, the button at the foot."""
    t, held = ui.t, {}
    with gr.Column(elem_classes="a-page t-page"):
        with gr.Row(elem_classes="t-table"):
            with gr.Column(elem_classes="t-light", scale=7):
                head = markup(elem_id="train-head")
                with gr.Column(elem_id="field-images", elem_classes="t-drop"):
                    drop = markup(sets.drop(ui, None))
                said = markup(elem_id="train-said")
                sheet = markup(elem_id="train-sheet")
                found = markup(elem_id="train-findings")
            with gr.Column(elem_classes="t-form a-sheet", scale=5):
                kinds = [(form.choice_label(ui, option("run.kind"), name), name) for name in option("run.kind").choices]
                held["run.kind"] = gr.Radio(
                    kinds,
                    value="style",
                    label=t("page.train.kind"),
                    elem_id="field-run-kind",
                    elem_classes="a-segments",
                )
                held["save.name"] = gr.Textbox(
                    label=t("page.train.name"), placeholder=t("page.train.name_hint"), elem_id="train-name", max_lines=1
                )
                for name in NEEDED:
                    held[name] = gr.Textbox(
                        label=label(option(name), ui.lang), info=t(f"page.train.slider.{name.partition('.')[2]}"), max_lines=1,
                        elem_id=form.field_id(name), visible=False,
                    )  # fmt: skip
                held["captions.trigger"] = gr.Textbox(
                    label=label(option("captions.trigger"), ui.lang), info=t("page.train.trigger_hint"), max_lines=1,
                    elem_id="field-captions-trigger",
                )  # fmt: skip
                known = [(facts.title_in(ui.lang), facts.id) for facts in ui.services.bases()]
                held["model.base"] = gr.Dropdown(
                    known, value="mini", label=label(option("model.base"), ui.lang), allow_custom_value=True,
                    elem_id="field-model-base", filterable=True,
                )  # fmt: skip
                licence = markup(elem_id="train-licence")
                held["rights.pictures_ok"] = gr.Checkbox(
                    label=help_text(option("rights.pictures_ok"), ui.lang), elem_id=form.field_id("rights.pictures_ok"),
                    elem_classes="t-rights",
                )  # fmt: skip
        with gr.Accordion(t("page.train.more"), open=False, elem_classes="t-more") as more:
            markup(
                f"<p class='a-note'>{esc(t('page.train.more_lead'))}</p><p class='t-files'>"
                f"<atelier-file data-signal='toml' data-accept='.toml' data-words='{esc(t('page.train.toml.open'))}'>"
                f"</atelier-file></p>"
            )
            save_as = markup(elem_id="train-toml")
            rate = form.rate_line(ui)
            held |= form.folded(ui)
        fits = markup(elem_id="train-memory")
        with gr.Row(elem_classes="a-action"):
            cost = markup(elem_id="train-cost")
            go = gr.Button(t("page.train.start"), variant="primary", elem_id="train-start")
        beside, gone = markup(), markup()
        dropped, choose, fix, toml = signal("dropped"), signal("choose"), signal("fix"), signal("toml")
        smaller = signal("smaller")
        current, key = remembered(), gr.State("")
        timer = gr.Timer(POLL)

    names, fields = list(held), list(held.values())
    about = [head, drop, said, sheet, found]

    def show(name: str | None, note: str = "", *, fill: bool = True) -> list[Any]:
        """Everything about a set, and the form filled from its draft."""
        here = ui.services.set(name)
        tree = start.opened(ui.services, here)
        filling = form.shown(names, tree) if fill else [gr.skip()] * len(names)
        name = here.folder.name if here else ""
        return [name, *view.about(ui, here, tree, note), *filling, *view.lines(ui, here, tree)]

    lines = [licence, rate, save_as, cost, fits]
    shown = [current, *about, *fields, *lines]

    def restore(name: str, request: gr.Request) -> list[Any]:
        lora = asked(request, "again")
        if lora:
            try:
                here, tree = start.again(ui.services, lora)
            except Problem as problem:
                return show(name, problem.sentence(ui.lang))
            start.keep(ui.services, here, tree)
            return show(here.folder.name if here else "", "" if here or drawn(tree) else t("page.train.again_without"))
        return show(asked(request, "set") or name)

    def entered(name: str, request: gr.Request) -> list[Any]:
        return [uuid.uuid4().hex, *restore(name, request)]

    def look(name: str) -> str:
        here = ui.services.set(name)
        if here is None or drawn(start.opened(ui.services, here)):
            return ""
        return sets.report(ui, here, start.report(ui.services, here))

    def arrived(name: str, heard: str, *values: Any) -> list[Any]:
        said = _heard(heard)
        before = ui.services.set(name)
        if not said.get("set"):
            return show(name, " ".join(said.get("sentences", [])))
        here = ui.services.set(said["set"])
        if here and (before is None or before.folder != here.folder):
            tree = form.values(dict(zip(names, values, strict=True)))
            if not load.get(tree, "captions.trigger"):
                load.put(tree, "captions.trigger", here.meta.trigger)
            start.keep(ui.services, here, tree)
            ui.services.drafts.drop(None)
        return show(said["set"], view.told(ui, said))

    def chosen(heard: str) -> list[Any]:
        return show(_heard(heard).get("set"))

    def mend(name: str, heard: str) -> list[Any]:
        here = ui.services.set(name)
        return show(name, start.mend(ui, here, _heard(heard)) if here else "", fill=False)

    def kept(name: str, *values: Any) -> list[Any]:
        here, tree = ui.services.set(name), form.values(dict(zip(names, values, strict=True)))
        before = start.opened(ui.services, here)
        start.keep(ui.services, here, tree)
        wrong = start.problems(ui.services, here, tree)
        return [form.beside(ui, wrong, where=WHERE), *view.lines(ui, here, tree), *turned(here, before, tree)]

    def refilled(name: str, *values: Any) -> list[Any]:
        here = ui.services.set(name)
        now = form.values(dict(zip(names, values, strict=True)))
        before = start.opened(ui.services, here)
        tree = start.changed(ui.services, before, now)
        start.keep(ui.services, here, tree)
        return [*form.shown(names, tree), "", *view.lines(ui, here, tree), *turned(here, before, tree)]

    def turned(here: ImageSet | None, before: dict[str, Any], now: dict[str, Any]) -> list[Any]:
        """The left side where it changes between pictures and a slider's words."""
        if drawn(before) == drawn(now):
            return [gr.skip()] * len(about)
        *shown, _ = view.about(ui, here, now, "")
        if here is None or drawn(now):
            return [*shown, ""]
        return [*shown, sets.report(ui, here, start.report(ui.services, here))]

    def opened(name: str, heard: str) -> list[Any]:
        here = ui.services.set(name)
        try:
            tree = load.dump(load.build(tomllib.loads(_heard(heard).get("text", ""))))
        except ConfigProblems as wrong:
            return [
                *[gr.skip()] * len(names),
                form.beside(ui, wrong.problems, lead=True, where=WHERE),
                *view.lines(ui, here, {}),
            ]
        except tomllib.TOMLDecodeError as error:
            sentence = Problem("toml_broken", file=_heard(heard).get("name", ""), detail=str(error)).sentence(ui.lang)
            return [
                *[gr.skip()] * len(names),
                form.beside(ui, [("toml", sentence)], where={"toml": "train-toml"}),
                *view.lines(ui, here, {}),
            ]
        start.keep(ui.services, here, tree)
        return [*form.shown(names, tree), "", *view.lines(ui, here, tree)]

    def shrunk(name: str, heard: str) -> list[Any]:
        here = ui.services.set(name)
        tree = start.opened(ui.services, here)
        for wanted, value in _heard(heard).get("options", {}).items():
            if wanted in names:
                load.put(tree, wanted, value)
        start.keep(ui.services, here, tree)
        return [*form.shown(names, tree), "", *view.lines(ui, here, tree)]

    def begin(name: str, once: str, *values: Any) -> list[Any]:
        here, tree = ui.services.set(name), form.values(dict(zip(names, values, strict=True)))
        lacks = [(at, t(why)) for at, why in start.missing(here, tree)]
        wrong = [*lacks, *start.problems(ui.services, here, tree)]
        if wrong:
            folded = any(isinstance(one, Problem) and one.field not in WHERE for one in wrong)
            return [
                form.beside(ui, wrong, lead=True, where=WHERE),
                gr.update(open=True) if folded else gr.skip(),
                once,
                "",
            ]
        try:
            run = start.start(ui.services, here, tree, once)
        except Problem as problem:
            return [form.beside(ui, [problem], lead=True, where=WHERE), gr.skip(), once, ""]
        return ["", gr.skip(), uuid.uuid4().hex, leave(ui.href("runs", run=run))]

    on_load(entered, [current], [key, *shown]).then(look, [current], [found], **PRIVATE)
    dropped.input(arrived, [current, dropped, *fields], shown, **IN_TURN).then(look, [current], [found], **PRIVATE)
    choose.input(chosen, [choose], shown, **IN_TURN).then(look, [current], [found], **PRIVATE)
    fix.input(mend, [current, fix], shown, **IN_TURN).then(look, [current], [found], **PRIVATE)
    toml.input(opened, [current, toml], [*fields, beside, *lines], **IN_TURN)
    smaller.input(shrunk, [current, smaller], [*fields, beside, *lines], **IN_TURN)
    gr.on([held[name].input for name in names if name not in REFILL], kept, [current, *fields], [beside, *lines, *about],
          trigger_mode="always_last", **IN_TURN)  # fmt: skip
    gr.on([held[name].input for name in REFILL], refilled, [current, *fields], [*fields, beside, *lines, *about],
          **IN_TURN)  # fmt: skip
    go.click(begin, [current, key, *fields], [beside, more, key, gone], **IN_TURN)
    timer.tick(lambda name: view.costs(ui, ui.services.set(name)), [current], [cost, fits], **PRIVATE)


def _heard(text: str) -> dict[str, Any]:
    """What a script said through a signal."""
    try:
        said = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
