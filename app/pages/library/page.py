"""Library: every LoRA as a picture, the chosen one in full, with what can be changed. Wiring: one line an event.

HTML from app/views/library.py.
"""

from __future__ import annotations

from typing import Any

from app.pages.library import layout
from app.pages.library.base_making import BaseHandlers
from app.pages.library.handlers import LibraryHandlers
from app.ui.html import EVENT_DEFAULTS, TYPING_EVENTS, on_load
from app.ui.services import Ui

_ONCE: dict[str, Any] = {**EVENT_DEFAULTS, "trigger_mode": "once"}


def build(ui: Ui) -> LibraryHandlers:
    """The page, and what answers on it."""
    parts = layout.build(ui)
    handlers = LibraryHandlers(ui, parts)
    edit, make, filtering = parts.edit, parts.make, parts.filtering
    answered = [*parts.shown, parts.message]
    on_load(handlers.opened, set(filtering), parts.shown)
    parts.pick.input(handlers.picked, {*filtering, parts.pick}, answered, **EVENT_DEFAULTS)
    filtered = handlers.filtered
    for part in (parts.search, parts.kind, parts.state):
        part.change(filtered, {*filtering, parts.open}, parts.grid, **TYPING_EVENTS)
    edit.save.click(handlers.saved, {*filtering, parts.open, *edit.fields.values()}, answered, **EVENT_DEFAULTS)
    edit.trash.click(handlers.gone, {*filtering, parts.open}, [*answered, parts.undo, parts.trashed], **_ONCE)
    parts.undo.click(handlers.back, {*filtering, parts.trashed}, [*answered, parts.undo, parts.trashed], **_ONCE)
    make.loras.focus(handlers.offered, [], [make.loras], **EVENT_DEFAULTS)
    make.go.click(handlers.made, {*filtering, *make.fields}, [*answered, make.message], **_ONCE)
    parts.added.input(handlers.taken, {*filtering, parts.added}, answered, **EVENT_DEFAULTS)
    _wire_bases(BaseHandlers(ui, parts.bases, handlers), parts)
    return handlers


def _wire_bases(handlers: BaseHandlers, parts: layout.LibraryParts) -> None:
    """The fold that works on whole bases."""
    fold, offered = parts.bases, handlers.offered
    fold.way.change(
        handlers.turned, fold.way, [fold.about, fold.tuned, fold.rank, fold.loras, fold.strengths], **EVENT_DEFAULTS
    )
    for choice in (fold.base, fold.tuned, fold.loras):
        choice.focus(offered, [], [fold.base, fold.tuned, fold.loras], **EVENT_DEFAULTS)
    fold.go.click(handlers.made, {*parts.filtering, *fold.fields}, [*parts.shown, fold.line, fold.go], **_ONCE)
