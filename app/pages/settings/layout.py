"""What stands on the Settings page and where. No behaviour: handlers.py answers, page.py wires."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.ui.format import esc
from app.ui.html import markup, plain, title
from app.ui.services import Ui
from app.views import parts, settings


@dataclass(frozen=True, eq=False)
class SettingsParts:
    """Every part of the page that an event reads or answers."""

    health: gr.HTML
    webhook: gr.Textbox
    save_webhook: gr.Button
    try_webhook: gr.Button
    webhook_message: gr.HTML
    check: gr.Button
    timer: gr.Timer


def build(ui: Ui, seconds: float) -> SettingsParts:
    """Plain facts, one sheet each; its timer, off at first, ticks every `seconds`."""
    t = ui.t
    with gr.Column(elem_classes="a-page g-page"):
        title(ui, "settings")
        markup(settings.sheet(t("page.settings.language"), settings.languages(ui.lang)))
        health = markup(settings.health(None, t))
        webhook, save, trial, message = _webhook(ui)
        markup(settings.sheet(t("page.settings.places"), settings.places(ui.services.home, t)))
        markup(settings.sheet(t("page.settings.limits"), settings.limits(t)))
        markup(settings.sheet(t("page.settings.versions"), parts.facts(settings.versions())))
        with gr.Row(elem_classes="a-action"):
            markup(f"<p class='a-quiet'>{esc(t('page.settings.check_hint'))}</p>")
            check = gr.Button(t("page.settings.check"), variant="primary", elem_id="settings-check")
        timer = gr.Timer(seconds, active=False)
    return SettingsParts(health, webhook, save, trial, message, check, timer)


def _webhook(ui: Ui) -> tuple[gr.Textbox, gr.Button, gr.Button, gr.HTML]:
    """Where a message goes when a training ends (trainer/jobs/webhook.py). Not to be typed into before what is set is there."""
    t = ui.t
    with gr.Column(elem_classes="a-sheet g-sheet", elem_id="settings-hook"):
        markup(f"<h2>{esc(t('page.settings.hook'))}</h2><p class='a-note'>{esc(t('page.settings.hook_help'))}</p>")
        address = gr.Textbox(label=t("page.settings.hook_label"), max_lines=1, interactive=False, elem_id="hook-address")
        with gr.Row(elem_classes="g-hook"):
            save = gr.Button(t("page.settings.hook_save"), size="sm", elem_id="hook-save", elem_classes="a-small", scale=0)
            trial = gr.Button(t("page.settings.hook_try"), size="sm", elem_id="hook-try", elem_classes="a-small", scale=0)
        message = plain(elem_id="hook-said")
    return address, save, trial, message
