"""What the Preview page answers: a method for each event. Wired in page.py.

Fields become a request in app/forms/preview.py; what was drawn stands on disk (trainer/library/drawings.py), so a strength
is never drawn twice and a reload loses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from app.actions import previews
from app.forms import preview
from app.pages.address import asked, signal_value
from app.pages.answer import Answer, Values
from app.pages.preview.initial_form import EMPTY_LORA, defaults, initial_form
from app.pages.preview.layout import PreviewParts
from app.ui.format import esc
from app.ui.html import problem
from app.ui.services import Ui
from app.views import preview as view
from trainer.core.problem import Problem
from trainer.library.drawings import Drawing, Drawings

SIZES = ("steps", "guidance", "width", "height")
"""Fields whose good values are facts of the base."""


class PreviewHandlers:
    """Each method answers with parts that are among its event's outputs."""

    def __init__(self, ui: Ui, parts: PreviewParts) -> None:
        self.ui, self.parts = ui, parts

    def opened(self, request: gr.Request) -> Answer:
        """The page as it is opened, with the LoRA its address asks for; the base is loaded ahead."""
        form, last = initial_form(self.ui, asked(request, "lora"))
        if form["base"]:
            self.ui.services.preview.warm(form["base"])
        empty = "" if self.ui.services.library.cards() else view.no_lora(self.ui.href("train"), self.ui.t)
        return {**self._filled(form, last), self.parts.library_empty: empty, self.parts.hint: self._hint(form)}

    def again(self, signal: str) -> Answer:
        """An earlier drawing with its settings and pictures."""
        drawing = Drawings(self.ui.services.home.previews).get(signal_value(signal))
        return gr.skip() if drawing is None else self._filled(defaults(self.ui) | drawing.form, drawing)

    def draw(self, values: Values) -> Iterator[Answer]:
        """Draw the whole strip."""
        form = self.form(values)
        yield from self._draw(form, view.STRIPS[form["strip"] or "usual"])

    def draw_one(self, values: Values) -> Iterator[Answer]:
        """Draw at the strength of the slider alone."""
        yield from self._draw(self.form(values), (preview.strength_of(values[self.parts.strength]),))

    def free(self) -> Answer:
        """The buttons as they are while nothing is drawn."""
        return self._buttons(busy=False)

    def cancel(self) -> None:
        """End the drawing that is on."""
        self.ui.services.preview.cancel()

    def hints(self, values: Values) -> Answer:
        """How the LoRAs switched on want to be used, and whether there is one whose strength could be kept."""
        form = self.form(values)
        return {self.parts.hint: self._hint(form), self.parts.keep: gr.update(visible=bool(_names(form)))}

    def lora_chosen(self, values: Values) -> Answer:
        """Another LoRA: its hints; what was agreed for the one before does not hold for it."""
        return {**self.hints(values), self.parts.partial: gr.update(value=False, visible=False)}

    def add_lora(self, count: int) -> Answer:
        """One row more."""
        return self._rows(min(len(self.parts.loras), count + 1))

    def random_seed(self) -> Answer:
        """Any seed."""
        return {self.parts.settings.seed: random.randint(0, preview.SEEDS)}

    def base_chosen(self, base_id: str) -> Answer:
        """What is good for this base."""
        form = defaults(self.ui, base_id)
        return {self.parts.fields[name]: form[name] for name in SIZES}

    def keep(self, values: Values) -> Answer:
        """Write the strength on the slider to the first LoRA's card, with its own strength counted in."""
        lora = next((lora for lora in self.form(values)["loras"] if lora["on"] and lora["name"]), None)
        if lora is None:
            return {self.parts.kept: ""}
        strength = preview.strength_of(values[self.parts.strength])
        best = round(strength * (1.0 if lora["unet"] is None else lora["unet"]), 2)
        try:
            self.ui.services.library.set(lora["name"], recommended=best)
        except Problem as error:
            return {self.parts.kept: problem(error.sentence(self.ui.lang))}
        sentence = self.ui.t("page.preview.kept", name=lora["name"], strength=f"{best:g}")
        return {self.parts.kept: f'<p class="a-note" role="status">{esc(sentence)}</p>'}

    def form(self, values: Values) -> dict[str, Any]:
        """The form as plain values by name."""
        form = {name: values[field] for name, field in self.parts.fields.items()}
        loras = [{name: values[field] for name, field in lora.fields.items()} for lora in self.parts.loras]
        return form | {"loras": loras}

    def _draw(self, form: dict[str, Any], strengths: Sequence[float]) -> Iterator[Answer]:
        parts = self.parts
        try:
            for update in previews.draw(self.ui, form, strengths):
                html = {
                    parts.table: update.strip,
                    parts.saves: update.saves,
                    parts.recent: update.recent,
                    parts.progress: update.progress,
                    parts.kept: update.kept,
                }
                answer: Answer = {part: value for part, value in html.items() if value is not None}
                answer[parts.keep] = gr.update(visible=bool(update.names))
                if update.first:
                    answer |= dict.fromkeys(parts.errors.values(), "") | self._buttons(busy=True)
                elif update.last:
                    answer |= self._buttons(busy=False)
                if update.half_known:
                    answer |= {parts.lora_error: problem(update.half_known), parts.partial: gr.update(visible=True)}
                yield answer
        except preview.FieldError as error:
            sentences = {part: problem(error.sentence) if field == error.field else "" for field, part in parts.errors.items()}
            yield {parts.progress: "", parts.kept: "", **sentences, **self._buttons(busy=False)}

    def _buttons(self, *, busy: bool) -> Answer:
        parts, ready = self.parts, gr.update(interactive=not busy)
        return {parts.draw: ready, parts.draw_one: ready, parts.cancel: gr.update(visible=busy)}

    def _filled(self, form: dict[str, Any], drawing: Drawing | None) -> Answer:
        """The fields with the values of a form, and the light table with a drawing or none."""
        parts, table = self.parts, previews.light_table(self.ui, form, drawing)
        cards = [card for card in self.ui.services.library.cards() if not card.broken]
        names = ["", *(card.name for card in cards)]
        choices = [(self.ui.t("page.preview.none"), ""), *((card.name, card.name) for card in cards)]
        answer: Answer = {field: form.get(name) for name, field in parts.fields.items()}
        answer[parts.partial] = gr.update(value=bool(form.get("partial")), visible=bool(form.get("partial")))
        loras = form["loras"]
        for row, lora in zip(parts.loras, [*loras, *[EMPTY_LORA] * len(parts.loras)], strict=False):
            answer |= {field: lora[name] for name, field in row.fields.items()}
            answer[row.name] = gr.update(choices=choices, value=lora["name"] if lora["name"] in names else "")
        used = max((i + 1 for i, lora in enumerate(loras) if lora["name"]), default=1)
        results = {
            parts.table: table.strip,
            parts.saves: table.saves,
            parts.recent: table.recent,
            parts.progress: "",
            parts.kept: "",
            parts.keep: gr.update(visible=bool(_names(form))),
        }
        return answer | results | self._rows(min(used, len(parts.loras)))

    def _rows(self, count: int) -> Answer:
        """The first `count` rows shown."""
        shown = {lora.row: gr.update(visible=i < count) for i, lora in enumerate(self.parts.loras)}
        return {**shown, self.parts.lora_count: count}

    def _hint(self, form: dict[str, Any]) -> str:
        cards = {card.name: card for card in self.ui.services.library.cards() if not card.broken}
        return view.hints([cards[name] for name in _names(form) if name in cards], self.ui.t)


def _names(form: dict[str, Any]) -> list[str]:
    """The LoRAs switched on."""
    return [lora["name"] for lora in form["loras"] if lora["on"] and lora["name"]]
