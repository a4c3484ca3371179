"""What stands on the Train page and where. No behaviour: handlers.py answers, page.py wires.

Pictures on the left, the few questions on the right, the rest folded, the button at the foot.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from app.forms import options
from app.ui.format import esc
from app.ui.html import Field, markup, remembered, signal
from app.ui.services import Ui
from app.views import sets
from trainer.config.options import help_text, label, option
from trainer.config.sections.slider import NEEDED


@dataclass(frozen=True, eq=False)
class TrainParts:
    """Every part of the page that an event reads or answers."""

    about: dict[str, gr.HTML]
    """The left side, by the names `views.train.about` gives: head, drop, message, sheet, findings."""
    lines: dict[str, gr.HTML]
    """What follows the form, by the names `views.train.lines` gives: licence, rate, save_as, cost, memory."""
    fields: dict[str, Field]
    """The field of each option, by the option's name."""
    more: gr.Accordion
    """The fold around most of the fields."""
    start: gr.Button
    problems: gr.HTML
    """Puts mistakes beside their fields; nothing of it is seen."""
    leaving: gr.HTML
    """Takes the browser to the run that was started."""
    dropped: gr.Textbox
    """What an upload sends."""
    choose: gr.Textbox
    """What a press on another set sends."""
    fix: gr.Textbox
    """What the button of a finding sends."""
    toml: gr.Textbox
    """What a settings file that was opened sends."""
    smaller: gr.Textbox
    """What the button of the proposed memory plan sends."""
    seen: gr.Textbox
    """What this tab has last seen of the draft: `forms.seen.Seen.text()`."""
    newer: gr.Textbox
    """The version of the draft that another tab has written."""
    set_name: gr.BrowserState
    """The set in work."""
    request_key: gr.State
    """Tells one press of Start from the next, so that two clicks make one run."""
    timer: gr.Timer

    @property
    def shown(self) -> list[Block]:
        """Everything about a set, and the form filled from its draft."""
        return [self.set_name, self.seen, *self.about.values(), *self.fields.values(), *self.lines.values()]


def build(ui: Ui, seconds: float) -> TrainParts:
    """The page; its timer ticks every `seconds`."""
    t, about, lines = ui.t, {}, {}
    with gr.Column(elem_classes="a-page t-page"):
        with gr.Row(elem_classes="t-table"):
            with gr.Column(elem_classes="t-light", scale=7):
                about["head"] = markup(elem_id="train-head")
                with gr.Column(elem_id="field-images", elem_classes="t-drop"):
                    about["drop"] = markup(sets.drop(ui, None))
                about["message"] = markup(elem_id="train-said")
                about["sheet"] = markup(elem_id="train-sheet")
                about["findings"] = markup(elem_id="train-findings")
            with gr.Column(elem_classes="t-form a-sheet", scale=5):
                fields = _questions(ui)
                lines["licence"] = markup(elem_id="train-licence")
                fields["rights.pictures_ok"] = gr.Checkbox(
                    label=help_text(option("rights.pictures_ok"), ui.lang),
                    elem_id=options.field_id("rights.pictures_ok"),
                    elem_classes="t-rights",
                )
        with gr.Accordion(t("page.train.more"), open=False, elem_classes="t-more") as more:
            markup(
                f"<p class='a-note'>{esc(t('page.train.more_lead'))}</p><p class='t-files'>"
                f"<atelier-file data-signal='toml' data-accept='.toml' data-words='{esc(t('page.train.toml.open'))}'>"
                f"</atelier-file></p>"
            )
            lines["save_as"] = markup(elem_id="train-toml")
            lines["rate"] = options.rate_line(ui)
            fields |= options.folded(ui)
        lines["memory"] = markup(elem_id="train-memory")
        with gr.Row(elem_classes="a-action"):
            lines["cost"] = markup(elem_id="train-cost")
            start = gr.Button(t("page.train.start"), variant="primary", elem_id="train-start")
        return TrainParts(
            about=about,
            lines=lines,
            fields=fields,
            more=more,
            start=start,
            problems=markup(),
            leaving=markup(),
            dropped=signal("dropped"),
            choose=signal("choose"),
            fix=signal("fix"),
            toml=signal("toml"),
            smaller=signal("smaller"),
            seen=signal("draft"),
            newer=signal("written"),
            set_name=remembered(),
            request_key=gr.State(""),
            timer=gr.Timer(seconds),
        )


def _questions(ui: Ui) -> dict[str, Field]:
    """The fields that stand in the open above the licence, by option."""
    t, fields, kind = ui.t, {}, option("run.kind")
    fields["run.kind"] = gr.Radio(
        [(options.choice_label(ui, kind, name), name) for name in kind.choices],
        value="style",
        label=t("page.train.kind"),
        elem_id="field-run-kind",
        elem_classes="a-segments",
    )
    fields["save.name"] = gr.Textbox(
        label=t("page.train.name"), placeholder=t("page.train.name_hint"), elem_id="train-name", max_lines=1
    )
    for name in NEEDED:
        fields[name] = gr.Textbox(
            label=label(option(name), ui.lang),
            info=t(f"page.train.slider.{name.partition('.')[2]}"),
            max_lines=1,
            elem_id=options.field_id(name),
            visible=False,
        )
    fields["captions.trigger"] = gr.Textbox(
        label=label(option("captions.trigger"), ui.lang),
        info=t("page.train.trigger_hint"),
        max_lines=1,
        elem_id="field-captions-trigger",
    )
    fields["model.base"] = gr.Dropdown(
        [(facts.title_in(ui.lang), facts.id) for facts in ui.services.bases()],
        value="mini",
        label=label(option("model.base"), ui.lang),
        allow_custom_value=True,
        elem_id="field-model-base",
        filterable=True,
    )
    return fields
