"""What stands on the Preview page and where: the prompt field and all others. handlers.py answers, page.py wires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from app.forms.preview import MAX_LORAS
from app.ui.html import plain, signal, title
from app.ui.services import Ui
from app.views import preview as view
from trainer.config.strategies.samplers import SAMPLERS, TITLES


@dataclass(frozen=True, eq=False)
class LoraRow:
    """One LoRA: on or off, which, and how strongly."""

    row: gr.Row
    on: gr.Checkbox
    name: gr.Dropdown
    unet: gr.Number
    te: gr.Number

    @property
    def fields(self) -> dict[str, Component]:
        """Its fields, named as in the form."""
        return {"on": self.on, "name": self.name, "unet": self.unet, "te": self.te}


@dataclass(frozen=True, eq=False)
class Settings:
    """What rarely needs changing."""

    base: gr.Dropdown
    negative: gr.Textbox
    weights: gr.Checkbox
    seed: gr.Number
    random_seed: gr.Button
    steps: gr.Number
    guidance: gr.Number
    sampler: gr.Dropdown
    width: gr.Number
    height: gr.Number

    @property
    def fields(self) -> dict[str, Component]:
        """Its fields, named as in the form."""
        names = ("base", "negative", "weights", "seed", "steps", "guidance", "sampler", "width", "height")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class PreviewParts:
    """Every part of the page that an event reads or answers."""

    library_empty: gr.HTML
    loras: tuple[LoraRow, ...]
    add: gr.Button
    hint: gr.HTML
    lora_error: gr.HTML
    partial: gr.Checkbox
    prompt: gr.Textbox
    prompt_error: gr.HTML
    strip: gr.Dropdown
    settings: Settings
    settings_error: gr.HTML
    table: gr.HTML
    draw_one: gr.Button
    keep: gr.Button
    kept: gr.HTML
    saves: gr.HTML
    recent: gr.HTML
    progress: gr.HTML
    cancel: gr.Button
    draw: gr.Button
    strength: gr.Textbox
    """What the strip's slider sends."""
    drawing: gr.Textbox
    """What a press on an earlier drawing sends."""
    lora_count: gr.State

    @property
    def fields(self) -> dict[str, Component]:
        """The fields with one value each, named as in the form."""
        return {"prompt": self.prompt, "strip": self.strip, "partial": self.partial, **self.settings.fields}

    @property
    def form(self) -> list[Block]:
        """All fields: what an event that reads the form takes in."""
        return [*self.fields.values(), *(field for lora in self.loras for field in lora.fields.values())]

    @property
    def errors(self) -> dict[str, gr.HTML]:
        """Where a `FieldError` is shown, by its field."""
        return {"lora": self.lora_error, "prompt": self.prompt_error, "more": self.settings_error}

    @property
    def results(self) -> list[Block]:
        """The light table and what belongs to it."""
        return [self.table, self.saves, self.recent, self.progress, self.kept, self.keep]

    @property
    def rows(self) -> list[Block]:
        """The LoRAs' rows and how many of them are shown."""
        return [*(lora.row for lora in self.loras), self.lora_count]


def build(ui: Ui) -> PreviewParts:
    """The form on the left, the light table on the right, the button at the foot."""
    t = ui.t
    with gr.Column(elem_classes="a-page v-page"):
        title(ui, "preview")
        with gr.Row(elem_classes="v-columns"):
            with gr.Column(elem_classes="v-form"):
                library_empty = plain(elem_id="preview-shelf")
                loras = tuple(_lora_row(ui, i) for i in range(MAX_LORAS))
                add = gr.Button(t("page.preview.add"), size="sm", elem_id="preview-add", elem_classes="a-small")
                hint = plain(elem_id="preview-hint")
                lora_error = plain(elem_id="preview-wrong-lora")
                partial = gr.Checkbox(False, label=t("page.preview.partial"), visible=False, elem_id="preview-partial")
                prompt = gr.Textbox(
                    label=t("page.preview.prompt"),
                    placeholder=t("page.preview.prompt_hint"),
                    lines=2,
                    max_lines=8,
                    elem_id="preview-prompt",
                )
                prompt_error = plain(elem_id="preview-wrong-prompt")
                strip = gr.Dropdown(
                    [(t(f"page.preview.strip_{name}"), name) for name in view.STRIPS],
                    value="usual",
                    filterable=False,
                    label=t("page.preview.which_strip"),
                    elem_id="preview-strip",
                )
                with gr.Accordion(t("page.preview.more"), open=False, elem_classes="v-more"):
                    settings = _settings(ui)
                settings_error = plain(elem_id="preview-wrong-more")
            with gr.Column(elem_classes="v-table"):
                table = plain(view.strip(None, ui.file, t, empty=t("page.preview.empty")), elem_id="preview-table")
                with gr.Row(elem_classes="v-small"):
                    draw_one = gr.Button(t("page.preview.draw_one"), size="sm", elem_id="preview-one", elem_classes="a-small")
                    keep = gr.Button(
                        t("page.preview.keep"), size="sm", elem_id="preview-keep", elem_classes="a-small", visible=False
                    )
                kept = plain(elem_id="preview-kept")
                saves = plain(elem_id="preview-saves")
        recent = plain(elem_id="preview-recent")
        with gr.Row(elem_classes="a-action"):
            progress = plain(elem_id="preview-progress")
            cancel = gr.Button(t("page.preview.cancel"), visible=False, elem_id="preview-cancel", elem_classes="v-cancel")
            draw = gr.Button(t("page.preview.draw"), variant="primary", elem_id="preview-draw")
    return PreviewParts(
        library_empty=library_empty,
        loras=loras,
        add=add,
        hint=hint,
        lora_error=lora_error,
        partial=partial,
        prompt=prompt,
        prompt_error=prompt_error,
        strip=strip,
        settings=settings,
        settings_error=settings_error,
        table=table,
        draw_one=draw_one,
        keep=keep,
        kept=kept,
        saves=saves,
        recent=recent,
        progress=progress,
        cancel=cancel,
        draw=draw,
        strength=signal("strength"),
        drawing=signal("drawing"),
        lora_count=gr.State(1),
    )


def _lora_row(ui: Ui, index: int) -> LoraRow:
    """The row of one LoRA; only the first is shown at first."""
    t = ui.t
    with gr.Row(visible=index == 0, elem_classes="v-lora") as row:
        on = gr.Checkbox(
            True, label=t("page.preview.on"), show_label=False, scale=0, min_width=30, elem_id=f"preview-on{index}"
        )
        name = gr.Dropdown(
            [(t("page.preview.none"), "")],
            value="",
            label=t("page.preview.lora", n=index + 1),
            scale=5,
            min_width=120,
            elem_id=f"preview-lora{index}",
        )
        unet = gr.Number(
            1,
            label=t("page.preview.unet"),
            minimum=-10,
            maximum=10,
            step=0.05,
            scale=2,
            min_width=72,
            elem_id=f"preview-unet{index}",
        )
        te = gr.Number(
            None,
            label=t("page.preview.text_encoder"),
            placeholder=t("page.preview.same"),
            minimum=-10,
            maximum=10,
            step=0.05,
            scale=2,
            min_width=72,
            elem_id=f"preview-te{index}",
        )
    return LoraRow(row, on, name, unet, te)


def _settings(ui: Ui) -> Settings:
    t = ui.t
    bases = [(facts.title_in(ui.lang), facts.id) for facts in ui.services.bases()]
    base = gr.Dropdown(bases, label=t("page.preview.base"), elem_id="preview-base", filterable=False)
    negative = gr.Textbox(label=t("page.preview.negative"), lines=1, elem_id="preview-negative")
    weights = gr.Checkbox(
        False, label=t("page.preview.weights"), info=t("page.preview.weights_help"), elem_id="preview-weights"
    )
    with gr.Row(elem_classes="v-two"):
        seed = _number(ui, "seed", 7, info=t("page.preview.seed_help"), precision=0)
        random_seed = gr.Button(t("page.preview.dice"), size="sm", elem_id="preview-dice", elem_classes="a-small", scale=0)
    with gr.Row(elem_classes="v-two"):
        steps = _number(ui, "steps", 20, info=t("page.preview.steps_help"), precision=0)
        guidance = _number(ui, "guidance", 7.0, info=t("page.preview.guidance_help"), step=0.5)
    sampler = gr.Dropdown(
        [(TITLES.get(name) or t("page.preview.sampler_own"), name) for name in SAMPLERS],
        value="base",
        filterable=False,
        label=t("page.preview.sampler"),
        info=t("page.preview.sampler_help"),
        elem_id="preview-sampler",
    )
    with gr.Row(elem_classes="v-two"):
        width, height = (_number(ui, side, 512, precision=0, step=8) for side in ("width", "height"))
    return Settings(base, negative, weights, seed, random_seed, steps, guidance, sampler, width, height)


def _number(ui: Ui, name: str, value: float, **options: Any) -> gr.Number:
    return gr.Number(value, label=ui.t(f"page.preview.{name}"), elem_id=f"preview-{name}", min_width=120, **options)
