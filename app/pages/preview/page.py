"""Preview: draw with LoRAs at several strengths, then slide between the pictures. Wiring: one line an event.

The strip is app/static/strip.js with HTML from app/views/preview.py.
"""

from __future__ import annotations

from typing import Any

from app.pages.preview import layout
from app.pages.preview.handlers import SIZES, PreviewHandlers
from app.ui.html import EVENT_DEFAULTS, on_load
from app.ui.services import Ui

_DRAW: dict[str, Any] = {**EVENT_DEFAULTS, "concurrency_id": "draw", "concurrency_limit": 8, "trigger_mode": "once"}


def build(ui: Ui) -> PreviewHandlers:
    """The page, and what answers on it."""
    parts = layout.build(ui)
    handlers = PreviewHandlers(ui, parts)
    buttons = [parts.draw, parts.draw_one, parts.cancel]
    filled = [*parts.form, *parts.rows, *parts.results]
    drawn = [*parts.results, *buttons, *parts.errors.values(), parts.partial]
    form, at_strength = set(parts.form), {*parts.form, parts.strength}
    on_load(handlers.opened, [], [*filled, parts.library_empty, parts.hint])
    for event in (
        parts.draw.click(handlers.draw, form, drawn, **_DRAW),
        parts.prompt.submit(handlers.draw, form, drawn, **_DRAW),
        parts.draw_one.click(handlers.draw_one, at_strength, drawn, **_DRAW),
    ):
        event.then(handlers.free, None, buttons, **EVENT_DEFAULTS)  # whatever became of it, no button stays dead
    parts.cancel.click(handlers.cancel, **EVENT_DEFAULTS)
    parts.drawing.input(handlers.again, [parts.drawing], filled, **EVENT_DEFAULTS)
    for lora in parts.loras:
        lora.on.input(handlers.hints, form, [parts.hint, parts.keep], **EVENT_DEFAULTS)
        lora.name.input(handlers.lora_chosen, form, [parts.hint, parts.keep, parts.partial], **EVENT_DEFAULTS)
    parts.add.click(handlers.add_lora, [parts.lora_count], parts.rows, **EVENT_DEFAULTS)
    parts.settings.random_seed.click(handlers.random_seed, None, [parts.settings.seed], **EVENT_DEFAULTS)
    parts.keep.click(handlers.keep, at_strength, [parts.kept], **EVENT_DEFAULTS)
    sizes = [parts.fields[name] for name in SIZES]
    parts.settings.base.input(handlers.base_chosen, [parts.settings.base], sizes, **EVENT_DEFAULTS)
    return handlers
