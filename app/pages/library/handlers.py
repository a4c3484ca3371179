"""What the Library page answers: a method for each event. Wired in page.py.

Files are touched by trainer/library/library.py alone. Which card is open stands in the address.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.actions import imports
from app.actions.lora_tools import make
from app.pages.address import asked, signal_value
from app.pages.answer import Answer, Values
from app.pages.library.layout import LibraryParts, note
from app.ui.html import problem
from app.ui.services import Ui
from app.views import library as view
from app.views import parts as pieces
from trainer.adapters.compat.inspect import inspect
from trainer.core.problem import Problem
from trainer.library import model_card


class LibraryHandlers:
    """Each method answers with parts that are among its event's outputs."""

    def __init__(self, ui: Ui, parts: LibraryParts) -> None:
        self.ui, self.parts = ui, parts

    def opened(self, values: Values, request: gr.Request) -> Answer:
        """The page as it is opened, with the card its address asks for."""
        return self.show(asked(request, "lora"), values)

    def picked(self, values: Values) -> Answer:
        """Another card."""
        return {**self.show(signal_value(values[self.parts.pick]), values), self.parts.message: ""}

    def filtered(self, values: Values) -> Answer:
        """The pictures alone: the open card stays, with what is being typed on it."""
        cards = self.ui.services.library.cards()
        grid = self._grid(cards, self._matching(cards, values), values[self.parts.open])
        return {self.parts.grid: grid} if cards else gr.skip()

    def saved(self, values: Values) -> Answer:
        """Keep what was changed on the open card."""
        fields = {name: values[field] for name, field in self.parts.edit.fields.items()}
        try:
            name = self._save(values[self.parts.open], fields)
        except Problem as error:
            return {self.parts.message: problem(error.sentence(self.ui.lang))}
        return {**self.show(name, values), self.parts.message: note(self.ui.t("page.library.saved"))}

    def gone(self, values: Values) -> Answer:
        """Put the open card's LoRA into the trash."""
        services, name = self.ui.services, values[self.parts.open]
        try:
            services.refuse_if_used(services.library.card(name).file)
            token = services.library.trash(name)
        except Problem as error:
            return {self.parts.message: problem(error.sentence(self.ui.lang))}
        return {
            **self.show(None, values),
            self.parts.message: note(self.ui.t("page.library.trashed", name=name)),
            self.parts.undo: gr.update(visible=True),
            self.parts.trashed: token,
        }

    def back(self, values: Values) -> Answer:
        """Take it out of the trash again."""
        try:
            name = self.ui.services.library.undo(values[self.parts.trashed])
            message = note(self.ui.t("page.library.restored", name=name))
        except Problem as error:
            name, message = None, problem(error.sentence(self.ui.lang))
        return {
            **self.show(name, values),
            self.parts.message: message,
            self.parts.undo: gr.update(visible=False),
            self.parts.trashed: None,
        }

    def taken(self, values: Values) -> Answer:
        """Take a file that was sent into the library."""
        services = self.ui.services
        try:
            name = imports.take_in(services.home, services.library, signal_value(values[self.parts.added]))
        except Problem as error:
            return {self.parts.message: problem(error.sentence(self.ui.lang))}
        return {**self.show(name, values), self.parts.message: note(self.ui.t("page.library.imported", name=name))}

    def made(self, values: Values) -> Answer:
        """Make one LoRA of several, or a smaller one of one."""
        fold, t, notes = self.parts.make, self.ui.t, []
        try:
            name = make(
                self.ui.services.home,
                values[fold.loras] or [],
                values[fold.strengths] or "",
                values[fold.rank] or "",
                values[fold.name] or "",
                lambda code, params: notes.append(t(f"notes.{code}", **params)),
            )
        except Problem as error:
            return {self.parts.message: "", fold.message: problem(error.sentence(self.ui.lang))}
        message = note(" ".join([t("page.library.imported", name=name), *notes]))
        return {**self.show(name, values), self.parts.message: message, fold.message: ""}

    def offered(self) -> Answer:
        """The LoRAs to choose from as they are now."""
        names = [card.name for card in self.ui.services.library.cards() if not card.broken]
        return {self.parts.make.loras: gr.update(choices=names)}

    def show(self, name: str | None, values: Values) -> Answer:
        """The cards that match the filters with `name` opened, or the first, from the files as they are now."""
        parts, t, cards = self.parts, self.ui.t, self.ui.services.library.cards()
        if not cards:
            link, label = self.ui.href("train"), t("page.runs.start_one")
            return self._none_open(pieces.empty(t("page.library.empty"), t("page.library.empty_text"), link, label), False)
        matching = self._matching(cards, values)
        card = next((card for card in cards if card.name == name), None) or (matching[0] if matching else None)
        grid = self._grid(cards, matching, card.name if card else None)
        if card is None:
            return self._none_open(grid, True)
        fields = (card.name, card.purpose, card.trigger, card.notes, card.recommended.best, card.state)
        return {
            parts.grid: grid,
            parts.filters: gr.update(visible=True),
            parts.card: self._card(card),
            parts.edit.fold: gr.update(visible=True),
            **dict(zip(parts.edit.fields.values(), fields, strict=True)),
            parts.readers: gr.update(visible=not card.broken),
            parts.programs: "" if card.broken else self._programs(card),
            parts.open: card.name,
        }

    def _none_open(self, grid: str, filters: bool) -> Answer:
        parts = self.parts
        return {
            parts.grid: grid,
            parts.filters: gr.update(visible=filters),
            parts.card: "",
            parts.edit.fold: gr.update(visible=False),
            parts.readers: gr.update(visible=False),
            parts.programs: "",
            parts.open: None,
        }

    def _matching(self, cards: list[Any], values: Values) -> list[Any]:
        """What the filters leave, what cannot be read last."""
        search, kind, state = (values[part] or "" for part in (self.parts.search, self.parts.kind, self.parts.state))
        matching = [card for card in cards if view.matches(card, search, kind, state)]
        return sorted(matching, key=lambda card: card.broken is not None)

    def _grid(self, cards: list[Any], matching: list[Any], name: str | None) -> str:
        """The table of pictures, with the open card marked."""
        newest = cards[0].name if len(cards) > 1 else None
        if not matching:
            return note(self.ui.t("page.library.none_found"))
        return view.grid(matching, name, newest, self.ui.file, self.ui.t, self.ui.href)

    def _card(self, card: Any) -> str:
        ui = self.ui
        preview, again = ui.href("preview", lora=card.name), ui.href("train", again=card.name)
        readme = "" if card.broken else model_card.text(card, ui.lang)
        return view.card(card, ui.file, ui.t, ui.lang, preview=preview, again=again, readme=readme)

    def _programs(self, card: Any) -> str:
        try:
            inspection = inspect(card.file)
            return view.programs(inspection.programs, self.ui.t, inspection.notes)
        except Problem as error:
            return problem(error.sentence(self.ui.lang))

    def _save(self, name: str, fields: dict[str, Any]) -> str:
        """Write what changed; the name, which may be new."""
        library = self.ui.services.library
        card = library.card(name)
        texts = {field: fields[field] or "" for field in ("purpose", "trigger", "notes")}
        changes: dict[str, Any] = {field: text for field, text in texts.items() if text != getattr(card, field)}
        if fields["state"] and fields["state"] != card.state:
            changes["state"] = fields["state"]
        if fields["recommended"] is not None and fields["recommended"] != card.recommended.best:
            changes["recommended"] = fields["recommended"]
        if changes:
            library.set(name, **changes)
        new_name = (fields["name"] or "").strip()
        if not new_name or new_name == name:
            return name
        self.ui.services.refuse_if_used(card.file)
        return library.rename(name, new_name)
