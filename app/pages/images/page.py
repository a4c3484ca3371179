"""Images: one set on the light table. Captions are saved as typed, the cut is shown, many captions change at once.

Wiring: one line an event.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages.images import layout
from app.pages.images.handlers import ImagesHandlers
from app.pages.images.job_handlers import JobHandlers
from app.ui.html import EVENT_DEFAULTS, TYPING_EVENTS, on_load
from app.ui.services import Ui


def build(ui: Ui) -> ImagesHandlers:
    """The page, and what answers on it."""
    parts = layout.build(ui)
    handlers = ImagesHandlers(ui, parts)
    picture, bulk, name, shown = parts.picture, parts.bulk, parts.set_name, parts.shown
    chosen, place, edit = parts.chosen, parts.place, {*parts.place, *bulk.fields}
    typed = [picture.saved, picture.tokens, parts.grid]
    on_load(handlers.opened, [name], shown)
    parts.choose.input(handlers.set_chosen, [parts.choose], shown, **EVENT_DEFAULTS)
    parts.dropped.input(handlers.dropped, [name, parts.dropped], shown, **EVENT_DEFAULTS)
    parts.turn.input(handlers.page_turned, [name, parts.turn], shown, **EVENT_DEFAULTS)
    parts.fix.input(handlers.fixed, [*place, parts.fix], shown, **EVENT_DEFAULTS)
    gr.on([parts.title.input, parts.trigger.input], handlers.named, [name, parts.title, parts.trigger], None, **TYPING_EVENTS)
    parts.pick.input(handlers.picked, [name, parts.page, parts.pick], chosen, **EVENT_DEFAULTS)
    parts.focus.input(handlers.cut_moved, [name, parts.page, parts.focus], chosen, **EVENT_DEFAULTS)
    picture.previous.click(handlers.previous, place, chosen, **EVENT_DEFAULTS)
    picture.next.click(handlers.next, place, chosen, **EVENT_DEFAULTS)
    picture.caption.input(handlers.caption_typed, [name, parts.picture_id, picture.caption, parts.page], typed, **TYPING_EVENTS)
    picture.weight.input(handlers.weight_typed, [name, parts.picture_id, picture.weight], [picture.saved], **TYPING_EVENTS)
    picture.remove.click(handlers.removed, place, shown, **EVENT_DEFAULTS)
    picture.remove_mask.click(handlers.mask_removed, place, shown, **EVENT_DEFAULTS)
    previewed = [bulk.preview, bulk.replacement, bulk.in_front]
    gr.on([field.input for field in bulk.fields], handlers.edit_typed, edit, previewed, **TYPING_EVENTS)
    bulk.apply.click(handlers.edited, edit, [*shown, bulk.preview], **EVENT_DEFAULTS)
    parts.train.click(handlers.train_pressed, [name], [parts.leaving], **EVENT_DEFAULTS)
    _wire_jobs(parts, handlers.captions)
    _wire_jobs(parts, handlers.masks)
    captioner: Any = parts.captions.fields["captioner"]
    asking = {*place, *parts.captions.fields.values()}
    captioner.change(handlers.captions.captioner_chosen, [captioner], [parts.captions.about], **EVENT_DEFAULTS)
    picture.suggest.click(handlers.captions.one_started, asking, parts.captions.running, **EVENT_DEFAULTS)
    return handlers


def _wire_jobs(parts: layout.ImagesParts, handlers: JobHandlers) -> None:
    """The fold in which a machine works on the set."""
    panel = handlers.panel
    looked = list(dict.fromkeys([*panel.running, *parts.shown]))  # both name its timer
    panel.start.click(handlers.started, {*parts.place, *panel.fields.values()}, panel.running, **EVENT_DEFAULTS)
    panel.cancel.click(handlers.cancelled, [parts.set_name], None, **EVENT_DEFAULTS)
    panel.timer.tick(handlers.look, [*parts.place, panel.watched], looked, **EVENT_DEFAULTS)
