"""Train: drop pictures, give it a name, tick the rights, start. Everything else has a good value and stands folded.

Wiring: one line an event.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages.train import layout
from app.pages.train.handlers import TrainHandlers
from app.ui.html import EVENT_DEFAULTS, on_load
from app.ui.services import Ui

CHOICES = ("run.kind", "model.base", "optimizer.name", "schedule.name")
"""Options after whose choice other fields hold other values."""
SECONDS = 3
"""Between two looks at the forecast, and at what other tabs have written."""

SERIAL_EVENTS: dict[str, Any] = {**EVENT_DEFAULTS, "concurrency_id": "draft", "concurrency_limit": 1}
"""For every event that writes the draft: one after another as they came. Gradio takes events of different functions in any
order and at once, and the older of two would overwrite the newer."""
_TYPING: dict[str, Any] = {**SERIAL_EVENTS, "trigger_mode": "always_last"}


def build(ui: Ui) -> TrainHandlers:
    """The page, and what answers on it."""
    parts = layout.build(ui, SECONDS)
    handlers = TrainHandlers(ui, parts)
    name, seen, fields, message = parts.set_name, parts.seen, parts.fields, parts.about["message"]
    form, filled = {name, seen, *fields.values()}, [*fields.values(), *parts.lines.values(), parts.problems, seen]
    inputs: dict[str, Any] = fields  # Gradio gives a component its events at run time
    typed = [inputs[option].input for option in inputs if option not in CHOICES]
    chosen = [inputs[option].input for option in CHOICES]
    starts = [parts.problems, parts.more, parts.request_key, parts.leaving, seen, message, *fields.values()]
    for event in (
        on_load(handlers.opened, [name], [parts.request_key, *parts.shown]),
        parts.dropped.input(handlers.dropped, {*form, parts.dropped}, parts.shown, **SERIAL_EVENTS),
        parts.choose.input(handlers.set_chosen, [parts.choose, seen], parts.shown, **SERIAL_EVENTS),
        parts.fix.input(handlers.fixed, [name, parts.fix], parts.shown, **SERIAL_EVENTS),
    ):
        event.then(handlers.findings, [name], [parts.about["findings"]], **EVENT_DEFAULTS)
    parts.toml.input(handlers.toml_opened, [name, parts.toml, seen], filled, **SERIAL_EVENTS)
    parts.smaller.input(handlers.plan_taken, [name, parts.smaller, seen], filled, **SERIAL_EVENTS)
    gr.on(typed, handlers.typed, form, [*filled, *parts.about.values()], **_TYPING)
    gr.on(chosen, handlers.choice_made, form, [*filled, *parts.about.values()], **SERIAL_EVENTS)
    parts.start.click(handlers.started, {*form, parts.request_key}, starts, **SERIAL_EVENTS)
    parts.timer.tick(handlers.look, [name, seen], [parts.newer], **EVENT_DEFAULTS)
    parts.newer.change(handlers.follow, [name, seen], [seen, message, *fields.values()], **SERIAL_EVENTS)
    parts.timer.tick(handlers.costs, [name], [parts.lines["cost"], parts.lines["memory"]], **EVENT_DEFAULTS)
    return handlers
