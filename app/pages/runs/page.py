"""Runs: what is training, how far, how long, with the pictures on the way. Wiring: one line an event.

HTML: app/views/runs.py. A timer asks the ledger every two seconds and sends the browser what changed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from app.pages.runs import layout
from app.pages.runs.handlers import RunsHandlers
from app.ui.html import EVENT_DEFAULTS, on_load
from app.ui.services import Ui

SECONDS = 2
_READ: dict[str, Any] = {**EVENT_DEFAULTS, "concurrency_id": "look", "concurrency_limit": 8}
_ONCE: dict[str, Any] = {**EVENT_DEFAULTS, "trigger_mode": "once"}


def build(ui: Ui) -> RunsHandlers:
    """The page, and what answers on it."""
    parts = layout.build(ui, SECONDS)
    handlers = RunsHandlers(ui, parts)
    inputs, acted = [parts.run, parts.digests], [*parts.shown, parts.message, parts.undo, parts.trashed]
    parts.timer.tick(handlers.look, inputs, parts.shown, trigger_mode="once", **_READ)
    on_load(handlers.look, inputs, parts.shown)
    parts.pick.input(
        handlers.picked, [parts.pick, parts.digests], [*parts.shown, parts.message, parts.question], **EVENT_DEFAULTS
    )
    for action, button in {**parts.buttons, "set_as_it_is": parts.set_as_it_is}.items():
        button.click(partial(handlers.pressed, action), inputs, [*acted, parts.question], **_ONCE)
    parts.leave.click(handlers.left, None, [parts.message, parts.question], **EVENT_DEFAULTS)
    parts.undo.click(handlers.put_back, [parts.trashed, parts.digests], acted, **_ONCE)
    return handlers
