"""Train: drop pictures, give it a name, tick the rights, start. Everything else has a good value and stands folded.

Layout and wiring only: values and rules are in app/forms/training.py, fields in app/forms/options.py, HTML in app/views.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import gradio as gr

from app.forms import options, training
from app.forms.seen import Seen
from app.pages.address import asked
from app.ui.format import esc
from app.ui.html import EVENT_DEFAULTS, leave, markup, on_load, remembered, signal
from app.ui.services import Ui
from app.views import sets
from app.views import train as view
from trainer.config import load
from trainer.config.load import ConfigProblems
from trainer.config.options import help_text, label, option
from trainer.config.plan import draws
from trainer.config.sections.slider import NEEDED
from trainer.core.problem import Problem
from trainer.images.set.image_set import ImageSet

WHERE = {"images.folder": "field-images", "save.name": "train-name"}
REFILL = ("run.kind", "model.base", "optimizer.name", "schedule.name")
"""Choices after which other fields hold other values."""
SAID = 2
"""The place of what is said to a person among the parts of the left side."""
POLL = 3
"""Seconds between two looks at the forecast."""

SERIAL_EVENTS: dict[str, Any] = {**EVENT_DEFAULTS, "concurrency_id": "draft", "concurrency_limit": 1}
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
                kinds = [(options.choice_label(ui, option("run.kind"), name), name) for name in option("run.kind").choices]
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
                        elem_id=options.field_id(name), visible=False,
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
                    label=help_text(option("rights.pictures_ok"), ui.lang), elem_id=options.field_id("rights.pictures_ok"),
                    elem_classes="t-rights",
                )  # fmt: skip
        with gr.Accordion(t("page.train.more"), open=False, elem_classes="t-more") as more:
            markup(
                f"<p class='a-note'>{esc(t('page.train.more_lead'))}</p><p class='t-files'>"
                f"<atelier-file data-signal='toml' data-accept='.toml' data-words='{esc(t('page.train.toml.open'))}'>"
                f"</atelier-file></p>"
            )
            save_as = markup(elem_id="train-toml")
            rate = options.rate_line(ui)
            held |= options.folded(ui)
        fits = markup(elem_id="train-memory")
        with gr.Row(elem_classes="a-action"):
            cost = markup(elem_id="train-cost")
            go = gr.Button(t("page.train.start"), variant="primary", elem_id="train-start")
        beside, gone = markup(), markup()
        dropped, choose, fix, toml = signal("dropped"), signal("choose"), signal("fix"), signal("toml")
        smaller, draft, written = signal("smaller"), signal("draft"), signal("written")
        current, key = remembered(), gr.State("")
        timer = gr.Timer(POLL)

    names, fields = list(held), list(held.values())
    about = [head, drop, said, sheet, found]

    def show(name: str | None, note: str = "", *, tab: str | None) -> list[Any]:
        """Everything about a set, and the form of `tab` filled from its draft; with None the form stays as it is."""
        here = ui.services.set(name)
        tree = training.opened(ui.services, here)
        filling, seen = [gr.skip()] * len(names), gr.skip()
        if tab is not None:
            filling, seen = options.shown(names, tree), training.seen_now(ui.services, here, tree, tab).text()
        name = here.folder.name if here else ""
        return [name, seen, *view.about(ui, here, tree, note), *filling, *view.lines(ui, here, tree)]

    def taken_over(tree: dict[str, Any], taken: list[str]) -> list[Any]:
        """The fields whose values another tab changed, and all that depend on an optimiser or a schedule it chose."""
        sections = {name.partition(".")[0] for name in taken} & set(load.UNIONS)
        updates = dict(zip(names, options.shown(names, tree), strict=True))
        return [updates[name] if name in taken or name.partition(".")[0] in sections else gr.skip() for name in names]

    def elsewhere(taken: list[str]) -> str:
        """What another tab changed, in words."""
        fields = t("page.train.other_tab_between").join(label(option(name), ui.lang) for name in taken)
        return f"<p class='t-said' role='status'>{esc(t('page.train.other_tab', fields=fields))}</p>"

    lines = [licence, rate, save_as, cost, fits]
    shown = [current, draft, *about, *fields, *lines]

    def restore(name: str, request: gr.Request, tab: str) -> list[Any]:
        lora = asked(request, "again")
        if lora:
            try:
                here, tree = training.again(ui.services, lora)
            except Problem as problem:
                return show(name, problem.sentence(ui.lang), tab=tab)
            training.keep(ui.services, here, tree)
            note = "" if here or draws(tree) else t("page.train.again_without")
            return show(here.folder.name if here else "", note, tab=tab)
        return show(asked(request, "set") or name, tab=tab)

    def entered(name: str, request: gr.Request) -> list[Any]:
        return [uuid.uuid4().hex, *restore(name, request, Seen.new_tab().tab)]

    def look(name: str) -> str:
        here = ui.services.set(name)
        if here is None or draws(training.opened(ui.services, here)):
            return ""
        return sets.report(ui, here, training.report(ui.services, here))

    def arrived(name: str, heard: str, seen: str, *values: Any) -> list[Any]:
        said, tab = _heard(heard), Seen.read(seen).tab
        before = ui.services.set(name)
        if not said.get("set"):
            return show(name, " ".join(said.get("sentences", [])), tab=tab)
        here = ui.services.set(said["set"])
        if here and (before is None or before.folder != here.folder):
            tree = options.values(dict(zip(names, values, strict=True)))
            if not load.get(tree, "captions.trigger"):
                load.put(tree, "captions.trigger", here.meta.trigger)
            training.keep(ui.services, here, tree)
            ui.services.drafts.drop(None)
        return show(said["set"], view.told(ui, said), tab=tab)

    def chosen(heard: str, seen: str) -> list[Any]:
        return show(_heard(heard).get("set"), tab=Seen.read(seen).tab)

    def mend(name: str, heard: str) -> list[Any]:
        here = ui.services.set(name)
        return show(name, training.mend(ui, here, _heard(heard)) if here else "", tab=None)

    def kept(name: str, seen: str, *values: Any) -> list[Any]:
        here, tree = ui.services.set(name), options.values(dict(zip(names, values, strict=True)))
        before = training.opened(ui.services, here)
        tree, now, taken = training.keep(ui.services, here, tree, Seen.read(seen))
        wrong = training.problems(ui.services, here, tree)
        left = turned(here, before, tree)
        left[SAID] = elsewhere(taken) if taken else left[SAID]
        filling = taken_over(tree, taken)
        return [options.beside(ui, wrong, where=WHERE), *view.lines(ui, here, tree), *left, now.text(), *filling]

    def refilled(name: str, seen: str, *values: Any) -> list[Any]:
        here, last = ui.services.set(name), Seen.read(seen)
        now = options.values(dict(zip(names, values, strict=True)))
        before = training.complete(ui.services, last.tree) if last.tab else training.opened(ui.services, here)
        tree, kept_now, taken = training.keep(ui.services, here, training.changed(ui.services, before, now), last)
        left = turned(here, before, tree)
        left[SAID] = elsewhere(taken) if taken else left[SAID]
        return [*options.shown(names, tree), "", *view.lines(ui, here, tree), *left, kept_now.text()]

    def follows(name: str, seen: str) -> Any:
        """The version another tab has written since; one small answer where there is none."""
        found = training.newer(ui.services, ui.services.set(name), Seen.read(seen))
        return found[1].version if found else gr.skip()

    def follow(name: str, seen: str) -> list[Any]:
        """What another tab has written since, into this one that was idle."""
        here = ui.services.set(name)
        found = training.newer(ui.services, here, Seen.read(seen))
        if found is None:
            return [gr.skip()] * (2 + len(names))
        tree, now, taken = found
        return [now.text(), elsewhere(taken) if taken else gr.skip(), *taken_over(tree, taken)]

    def turned(here: ImageSet | None, before: dict[str, Any], now: dict[str, Any]) -> list[Any]:
        """The left side where it changes between pictures and a slider's words."""
        if draws(before) == draws(now):
            return [gr.skip()] * len(about)
        *shown, _ = view.about(ui, here, now, "")
        if here is None or draws(now):
            return [*shown, ""]
        return [*shown, sets.report(ui, here, training.report(ui.services, here))]

    def opened(name: str, heard: str, seen: str) -> list[Any]:
        here = ui.services.set(name)
        try:
            text, file = (str(_heard(heard).get(key, "")) for key in ("text", "name"))
            tree = load.dump(load.build(load.parse_toml(text, file)))
        except ConfigProblems as wrong:
            return [
                *[gr.skip()] * len(names),
                options.beside(ui, wrong.problems, lead=True, where=WHERE),
                *view.lines(ui, here, {}),
                gr.skip(),
            ]
        except Problem as error:
            sentence = error.sentence(ui.lang)
            return [
                *[gr.skip()] * len(names),
                options.beside(ui, [("toml", sentence)], where={"toml": "train-toml"}),
                *view.lines(ui, here, {}),
                gr.skip(),
            ]
        _, now, _ = training.keep(ui.services, here, tree, Seen.read(seen), whole=True)
        return [*options.shown(names, tree), "", *view.lines(ui, here, tree), now.text()]

    def shrunk(name: str, heard: str, seen: str) -> list[Any]:
        here = ui.services.set(name)
        tree = training.opened(ui.services, here)
        for wanted, value in _heard(heard).get("options", {}).items():
            if wanted in names:
                load.put(tree, wanted, value)
        _, now, _ = training.keep(ui.services, here, tree, Seen.read(seen), whole=True)
        return [*options.shown(names, tree), "", *view.lines(ui, here, tree), now.text()]

    def begin(name: str, once: str, seen: str, *values: Any) -> list[Any]:
        here, tree = ui.services.set(name), options.values(dict(zip(names, values, strict=True)))
        tree, now, taken = training.keep(ui.services, here, tree, Seen.read(seen))
        if taken:  # what would begin is not what this tab showed when Start was pressed
            return ["", gr.skip(), once, now.text(), elsewhere(taken), *taken_over(tree, taken), ""]
        *answer, leaving = _begin(here, tree, once, now)
        return [*answer, now.text(), gr.skip(), *[gr.skip()] * len(names), leaving]

    def _begin(here: ImageSet | None, tree: dict[str, Any], once: str, seen: Seen) -> list[Any]:
        problems = training.problems(ui.services, here, tree)
        wrong = [*training.missing(here, tree), *problems]
        if wrong:
            folded = any(problem.field not in WHERE for problem in problems)
            return [
                options.beside(ui, wrong, lead=True, where=WHERE),
                gr.update(open=True) if folded else gr.skip(),
                once,
                "",
            ]
        try:
            run = training.start(ui.services, here, tree, once, seen)
        except Problem as problem:
            return [options.beside(ui, [problem], lead=True, where=WHERE), gr.skip(), once, ""]
        return ["", gr.skip(), uuid.uuid4().hex, leave(ui.href("runs", run=run))]

    on_load(entered, [current], [key, *shown]).then(look, [current], [found], **EVENT_DEFAULTS)
    dropped.input(arrived, [current, dropped, draft, *fields], shown, **SERIAL_EVENTS).then(
        look, [current], [found], **EVENT_DEFAULTS
    )
    choose.input(chosen, [choose, draft], shown, **SERIAL_EVENTS).then(look, [current], [found], **EVENT_DEFAULTS)
    fix.input(mend, [current, fix], shown, **SERIAL_EVENTS).then(look, [current], [found], **EVENT_DEFAULTS)
    toml.input(opened, [current, toml, draft], [*fields, beside, *lines, draft], **SERIAL_EVENTS)
    smaller.input(shrunk, [current, smaller, draft], [*fields, beside, *lines, draft], **SERIAL_EVENTS)
    gr.on([held[name].input for name in names if name not in REFILL], kept, [current, draft, *fields],
          [beside, *lines, *about, draft, *fields], trigger_mode="always_last", **SERIAL_EVENTS)  # fmt: skip
    gr.on([held[name].input for name in REFILL], refilled, [current, draft, *fields],
          [*fields, beside, *lines, *about, draft], **SERIAL_EVENTS)  # fmt: skip
    go.click(begin, [current, key, draft, *fields], [beside, more, key, draft, said, *fields, gone], **SERIAL_EVENTS)
    timer.tick(follows, [current, draft], [written], **EVENT_DEFAULTS)
    written.change(follow, [current, draft], [draft, said, *fields], **SERIAL_EVENTS)
    timer.tick(lambda name: view.costs(ui, ui.services.set(name)), [current], [cost, fits], **EVENT_DEFAULTS)


def _heard(text: str) -> dict[str, Any]:
    """What a script said through a signal."""
    try:
        said = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
