"""What stands on the Images page and where. No behaviour: handlers.py and job_handlers.py answer, page.py wires.

The set's own fields above, pictures in the middle, the chosen one beside them, below them what changes many at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from app.pages.images import job_panel
from app.pages.images.image_jobs import CaptionWriting, MaskMaking
from app.pages.images.job_panel import JobPanel
from app.ui.format import esc
from app.ui.html import Field, markup, remembered, signal
from app.ui.services import Ui

WAYS = ("add", "remove", "replace")
"""What can be done to many captions at once."""


@dataclass(frozen=True, eq=False)
class PictureParts:
    """The chosen picture."""

    pane: gr.Column
    large: gr.HTML
    caption: gr.Textbox
    tokens: gr.HTML
    """How long its caption is."""
    weight: gr.Number
    saved: gr.HTML
    previous: gr.Button
    next: gr.Button
    suggest: gr.Button
    """Asks a machine for a caption."""
    remove: gr.Button
    remove_mask: gr.Button


@dataclass(frozen=True, eq=False)
class BulkParts:
    """The fold that changes many captions at once."""

    fold: gr.Accordion
    way: gr.Radio
    text: gr.Textbox
    replacement: gr.Textbox
    in_front: gr.Checkbox
    preview: gr.HTML
    apply: gr.Button

    @property
    def fields(self) -> list[Field]:
        """What an edit reads."""
        return [self.way, self.text, self.replacement, self.in_front]


@dataclass(frozen=True, eq=False)
class ImagesParts:
    """Every part of the page that an event reads or answers."""

    head: gr.HTML
    about: gr.Row
    title: gr.Textbox
    trigger: gr.Textbox
    note: gr.HTML
    grid: gr.HTML
    drop: gr.HTML
    findings: gr.HTML
    picture: PictureParts
    captions: JobPanel
    masks: JobPanel
    bulk: BulkParts
    train: gr.Button
    leaving: gr.HTML
    """Takes the browser to the Train page."""
    set_name: gr.BrowserState
    """The set in work."""
    picture_id: gr.State
    """The id of the chosen picture."""
    page: gr.State
    """Which page of the set's pictures is shown, from 0."""
    pick: gr.Textbox
    """What a press on a picture sends."""
    turn: gr.Textbox
    """What a press on an earlier or a later page sends."""
    focus: gr.Textbox
    """What moving the cut sends."""
    choose: gr.Textbox
    """What a press on another set sends."""
    fix: gr.Textbox
    """What the button of a finding or of the note sends."""
    dropped: gr.Textbox
    """What an upload sends."""

    @property
    def caption(self) -> gr.Textbox:
        """The caption of the chosen picture."""
        return self.picture.caption

    @property
    def place(self) -> list[Block]:
        """What the page is at: the set, the chosen picture, the page of pictures."""
        return [self.set_name, self.picture_id, self.page]

    @property
    def chosen(self) -> list[Block]:
        """What changes with another picture."""
        p = self.picture
        return [self.picture_id, self.page, self.grid, p.large, p.caption, p.tokens, p.weight, p.saved, p.remove_mask]

    @property
    def shown(self) -> list[Block]:
        """Everything about a set and the picture chosen in it."""
        about = [self.set_name, self.head, self.about, self.title, self.trigger, self.note, self.drop, self.findings]
        panels = [part for panel in (self.captions, self.masks) for part in (panel.fold, panel.timer, panel.watched)]
        return [*about, *self.chosen, self.picture.pane, self.bulk.fold, *panels]


def build(ui: Ui) -> ImagesParts:
    """The page."""
    t = ui.t
    with gr.Column(elem_classes="a-page i-page"):
        head = markup(elem_id="images-head")
        with gr.Row(elem_classes="i-about", visible=False) as about:
            title = gr.Textbox(label=t("page.images.title_field"), max_lines=1, elem_id="images-title")
            trigger = gr.Textbox(label=t("page.images.trigger"), max_lines=1, elem_id="images-trigger")
        note = markup(elem_id="images-note")
        with gr.Row(elem_classes="i-table"):
            with gr.Column(scale=7, elem_classes="i-main"):
                grid = markup(elem_id="images-grid")
                with gr.Column(elem_id="field-images"):
                    drop = markup()
                findings = markup(elem_id="images-findings")
            picture = _picture(ui)
        captions = job_panel.build(ui, CaptionWriting(), picture.suggest)
        masks = job_panel.build(ui, MaskMaking())
        bulk = _bulk(ui)
        with gr.Row(elem_classes="a-action"):
            markup(f"<p class='a-quiet'>{esc(t('page.images.kept'))}</p>")
            train = gr.Button(t("page.images.train"), variant="primary", elem_id="images-train")
        return ImagesParts(
            head=head,
            about=about,
            title=title,
            trigger=trigger,
            note=note,
            grid=grid,
            drop=drop,
            findings=findings,
            picture=picture,
            captions=captions,
            masks=masks,
            bulk=bulk,
            train=train,
            leaving=markup(),
            set_name=remembered(),
            picture_id=gr.State(""),
            page=gr.State(0),
            pick=signal("picture"),
            turn=signal("leaf"),
            focus=signal("focus"),
            choose=signal("choose"),
            fix=signal("fix"),
            dropped=signal("dropped"),
        )


def _picture(ui: Ui) -> PictureParts:
    t = ui.t
    with gr.Column(scale=5, elem_classes="i-pane a-sheet", visible=False) as pane:
        large = markup(elem_id="images-large")
        caption = gr.Textbox(
            label=t("page.images.caption"),
            info=t("page.images.caption_hint"),
            lines=3,
            max_lines=8,
            elem_id="images-caption",
        )
        tokens = markup(elem_id="images-tokens")
        weight = gr.Number(label=t("page.images.weight"), info=t("page.images.weight_hint"), step=0.1, elem_id="images-weight")
        saved = markup(elem_id="images-saved")
        with gr.Row(elem_classes="i-ways"):
            previous = gr.Button(t("page.images.previous"), size="sm", elem_id="images-previous")
            following = gr.Button(t("page.images.next"), size="sm", elem_id="images-next")
            suggest = gr.Button(t("page.images.write.again"), size="sm", elem_id="images-again")
            remove = gr.Button(t("page.images.remove"), size="sm", elem_id="images-remove")
        remove_mask = gr.Button(t("page.images.mask.remove"), size="sm", visible=False, elem_id="images-unmask")
    return PictureParts(
        pane=pane,
        large=large,
        caption=caption,
        tokens=tokens,
        weight=weight,
        saved=saved,
        previous=previous,
        next=following,
        suggest=suggest,
        remove=remove,
        remove_mask=remove_mask,
    )


def _bulk(ui: Ui) -> BulkParts:
    t = ui.t
    with gr.Accordion(t("page.images.bulk.title"), open=False, visible=False, elem_classes="t-more") as fold:
        ways = [(t(f"page.images.bulk.{way}"), way) for way in WAYS]
        way = gr.Radio(ways, value=WAYS[0], show_label=False, elem_classes="a-segments", elem_id="bulk-way")
        with gr.Row(elem_classes="a-fields"):
            text = gr.Textbox(label=t("page.images.bulk.what"), max_lines=1, elem_id="bulk-what")
            replacement = gr.Textbox(label=t("page.images.bulk.by"), max_lines=1, visible=False, elem_id="bulk-by")
            in_front = gr.Checkbox(label=t("page.images.bulk.front"), elem_id="bulk-front")
        preview = markup(elem_id="bulk-would")
        apply = gr.Button(t("page.images.bulk.apply"), size="sm", elem_id="bulk-apply")
    return BulkParts(fold, way, text, replacement, in_front, preview, apply)
