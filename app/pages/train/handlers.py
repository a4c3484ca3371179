"""What the Train page answers: a method for each event. Wired in page.py.

Values and rules are in app/forms/training.py, fields in app/forms/options.py, HTML in app/views/{train,sets}.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import gradio as gr

from app.forms import options, training
from app.forms.seen import Seen
from app.pages.address import asked, signal_data
from app.pages.answer import Answer, Values
from app.pages.train.layout import TrainParts
from app.ui.format import esc
from app.ui.html import leave
from app.ui.services import Ui
from app.views import sets
from app.views import train as view
from trainer.config import load
from trainer.config.load import ConfigProblems, Tree
from trainer.config.options import label, option
from trainer.config.plan import draws
from trainer.core.problem import Problem
from trainer.images.set.image_set import ImageSet

ELEMENTS = {"images.folder": "field-images", "save.name": "train-name"}
"""Where the mistakes of these options are shown; those of the others in the element of their own."""


class TrainHandlers:
    """Each method answers with parts that are among its event's outputs."""

    def __init__(self, ui: Ui, parts: TrainParts) -> None:
        self.ui, self.parts = ui, parts

    def opened(self, set_name: str, request: gr.Request) -> Answer:
        """The page as it is opened: with the set or the LoRA its address asks for, else with the set last worked on."""
        return {self.parts.request_key: uuid.uuid4().hex, **self._opened(set_name, request, Seen.new_tab().tab)}

    def _opened(self, set_name: str, request: gr.Request, tab: str) -> Answer:
        services, lora = self.ui.services, asked(request, "again")
        if lora is None:
            return self.show(asked(request, "set") or set_name, tab=tab)
        try:
            image_set, tree = training.again(services, lora)
        except Problem as problem:
            return self.show(set_name, problem.sentence(self.ui.lang), tab=tab)
        training.keep(services, image_set, tree)
        note = "" if image_set or draws(tree) else self.ui.t("page.train.again_without")
        return self.show(image_set.folder.name if image_set else "", note, tab=tab)

    def findings(self, set_name: str) -> Answer:
        """What in the set will hurt a training; it takes longer than the rest and comes after it."""
        image_set = self.ui.services.set(set_name)
        tree = training.opened(self.ui.services, image_set)
        return {self.parts.about["findings"]: self._report(image_set, tree)}

    def dropped(self, values: Values) -> Answer:
        """Pictures have arrived; where they are a set of their own, it takes over what the form holds."""
        services, parts = self.ui.services, self.parts
        upload, tab = signal_data(values[parts.dropped]), Seen.read(values[parts.seen]).tab
        before = services.set(values[parts.set_name])
        if not upload.get("set"):
            return self.show(values[parts.set_name], " ".join(upload.get("sentences", [])), tab=tab)
        image_set = services.set(upload["set"])
        if image_set and (before is None or before.folder != image_set.folder):
            tree = self._tree(values)
            if not load.get(tree, "captions.trigger"):
                load.put(tree, "captions.trigger", image_set.meta.trigger)
            training.keep(services, image_set, tree)
            services.drafts.drop(None)
        return self.show(upload["set"], view.upload_result(self.ui, upload), tab=tab)

    def set_chosen(self, signal: str, seen: str) -> Answer:
        """Another set, or none."""
        return self.show(signal_data(signal).get("set"), tab=Seen.read(seen).tab)

    def fixed(self, set_name: str, signal: str) -> Answer:
        """The button of a finding; the form stays as it is."""
        image_set = self.ui.services.set(set_name)
        note = training.mend(self.ui, image_set, signal_data(signal)) if image_set else ""
        return self.show(set_name, note, tab=None)

    def typed(self, values: Values) -> Answer:
        """Keep the draft while it is being typed, and put what is wrong beside its field."""
        services, image_set, tree = self.ui.services, self._set(values), self._tree(values)
        before = training.opened(services, image_set)
        tree, now, taken = training.keep(services, image_set, tree, Seen.read(values[self.parts.seen]))
        return {
            self.parts.problems: self._beside(training.problems(services, image_set, tree)),
            self.parts.seen: now.text(),
            **self._lines(image_set, tree),
            **self._turned(image_set, before, tree),
            **self._taken_over(tree, taken),
        }

    def choice_made(self, values: Values) -> Answer:
        """A choice after which other fields hold other values: the form is filled anew under what a person chose."""
        services, image_set, form = self.ui.services, self._set(values), self._tree(values)
        last = Seen.read(values[self.parts.seen])
        before = training.complete(services, last.tree) if last.tab else training.opened(services, image_set)
        tree, now, taken = training.keep(services, image_set, training.changed(services, before, form), last)
        message = {self.parts.about["message"]: self._other_tab(taken)} if taken else {}
        return {**self._filled(image_set, tree, now), **self._turned(image_set, before, tree), **message}

    def look(self, set_name: str, seen: str) -> Answer:
        """The version another tab has written since; nothing where there is none."""
        newer = training.newer(self.ui.services, self.ui.services.set(set_name), Seen.read(seen))
        return {self.parts.newer: newer[1].version} if newer else gr.skip()

    def follow(self, set_name: str, seen: str) -> Answer:
        """What another tab has written since, into this one that was idle."""
        newer = training.newer(self.ui.services, self.ui.services.set(set_name), Seen.read(seen))
        if newer is None:
            return gr.skip()
        tree, now, taken = newer
        return {self.parts.seen: now.text(), **self._taken_over(tree, taken)}

    def costs(self, set_name: str) -> Answer:
        """What the training will cost, as far as the trial has come."""
        costs = view.costs(self.ui, self.ui.services.set(set_name))
        return {self.parts.lines[name]: html for name, html in costs.items()}

    def toml_opened(self, set_name: str, signal: str, seen: str) -> Answer:
        """A settings file fills the form, or is answered: beside its fields, or beside the button where it cannot be read."""
        file = signal_data(signal)
        try:
            tree = load.dump(load.build(load.parse_toml(str(file.get("text", "")), str(file.get("name", "")))))
        except ConfigProblems as error:
            return {self.parts.problems: self._beside(error.problems, lead=True)}
        except Problem as error:
            unread = [("toml", error.sentence(self.ui.lang))]
            return {self.parts.problems: options.beside(self.ui, unread, where={"toml": "train-toml"})}
        return self._replaced(self.ui.services.set(set_name), tree, seen)

    def plan_taken(self, set_name: str, signal: str, seen: str) -> Answer:
        """The settings that fit the card, at a press."""
        image_set = self.ui.services.set(set_name)
        tree = training.opened(self.ui.services, image_set)
        for name, value in signal_data(signal).get("options", {}).items():
            if name in self.parts.fields:
                load.put(tree, name, value)
        return self._replaced(image_set, tree, seen)

    def started(self, values: Values) -> Answer:
        """Start: a run and the way to it, or what is missing. Where another tab has changed the draft, the form takes that
        over and nothing begins: it would not be what this tab showed when Start was pressed."""
        parts, image_set = self.parts, self._set(values)
        tree, now, taken = training.keep(self.ui.services, image_set, self._tree(values), Seen.read(values[parts.seen]))
        answer: Answer = {parts.problems: "", parts.leaving: "", parts.seen: now.text()}
        if taken:
            return {**answer, **self._taken_over(tree, taken)}
        mistakes = training.problems(self.ui.services, image_set, tree)
        wrong = [*training.missing(image_set, tree), *mistakes]
        if wrong:
            if any(problem.field not in ELEMENTS for problem in mistakes):
                answer[parts.more] = gr.update(open=True)
            return {**answer, parts.problems: self._beside(wrong, lead=True)}
        try:
            run = training.start(self.ui.services, image_set, tree, values[parts.request_key], now)
        except Problem as problem:
            return {**answer, parts.problems: self._beside([problem], lead=True)}
        return {**answer, parts.request_key: uuid.uuid4().hex, parts.leaving: leave(self.ui.href("runs", run=run))}

    def show(self, set_name: str | None, note: str = "", *, tab: str | None) -> Answer:
        """Everything about a set, and the form of `tab` filled from its draft; with None the form stays as it is."""
        image_set = self.ui.services.set(set_name)
        tree = training.opened(self.ui.services, image_set)
        answer: Answer = {
            self.parts.set_name: image_set.folder.name if image_set else "",
            **self._about(image_set, tree, note),
            **self._lines(image_set, tree),
        }
        if tab is not None:
            answer |= self._form(tree)
            answer[self.parts.seen] = training.seen_now(self.ui.services, image_set, tree, tab).text()
        return answer

    def _set(self, values: Values) -> ImageSet | None:
        return self.ui.services.set(values[self.parts.set_name])

    def _tree(self, values: Values) -> Tree:
        """What the form holds."""
        return options.values({name: values[field] for name, field in self.parts.fields.items()})

    def _form(self, tree: Tree) -> Answer:
        fields = self.parts.fields
        return {fields[name]: update for name, update in options.shown(fields, tree).items()}

    def _lines(self, image_set: ImageSet | None, tree: Tree) -> Answer:
        return {self.parts.lines[name]: html for name, html in view.lines(self.ui, image_set, tree).items()}

    def _about(self, image_set: ImageSet | None, tree: Tree, note: str) -> Answer:
        return {self.parts.about[name]: html for name, html in view.about(self.ui, image_set, tree, note).items()}

    def _report(self, image_set: ImageSet | None, tree: Tree) -> str:
        if image_set is None or draws(tree):
            return ""
        return sets.report(self.ui, image_set, training.report(self.ui.services, image_set))

    def _beside(self, problems: Iterable[Problem], *, lead: bool = False) -> str:
        return options.beside(self.ui, problems, lead=lead, where=ELEMENTS)

    def _filled(self, image_set: ImageSet | None, tree: Tree, now: Seen) -> Answer:
        """The whole form from `tree`, with the lines that follow it and no mistake beside it."""
        form = {**self._form(tree), **self._lines(image_set, tree)}
        return {**form, self.parts.problems: "", self.parts.seen: now.text()}

    def _replaced(self, image_set: ImageSet | None, tree: Tree, seen: str) -> Answer:
        """Keep a tree a person chose as a whole."""
        _, now, _ = training.keep(self.ui.services, image_set, tree, Seen.read(seen), whole=True)
        return self._filled(image_set, tree, now)

    def _turned(self, image_set: ImageSet | None, before: Tree, now: Tree) -> Answer:
        """The left side where it changes between pictures and a slider's words."""
        if draws(before) == draws(now):
            return {}
        findings = self._report(image_set, now)
        return {**self._about(image_set, now, ""), self.parts.about["findings"]: findings}

    def _taken_over(self, tree: Tree, taken: list[str]) -> Answer:
        """The fields whose values another tab changed, and all that depend on an optimizer or a schedule it chose; and in
        words, which they are."""
        if not taken:
            return {}
        sections = {name.partition(".")[0] for name in taken} & set(load.UNIONS)
        updates = options.shown(self.parts.fields, tree)
        names = [name for name in updates if name in taken or name.partition(".")[0] in sections]
        fields = {self.parts.fields[name]: updates[name] for name in names}
        return {**fields, self.parts.about["message"]: self._other_tab(taken)}

    def _other_tab(self, taken: list[str]) -> str:
        """What another tab changed, in words."""
        t = self.ui.t
        names = t("page.train.other_tab_between").join(label(option(name), self.ui.lang) for name in taken)
        return f"<p class='t-said' role='status'>{esc(t('page.train.other_tab', fields=names))}</p>"
