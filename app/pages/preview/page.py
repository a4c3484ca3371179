"""Preview: draw with LoRAs at several strengths, then slide between the pictures. Layout and wiring.

Fields become a request in app/forms/preview.py; the strip is app/static/strip.js with HTML from app/views/preview.py; what
was drawn stands on disk (trainer/library/drawings.py), so a strength is never drawn twice and a reload loses nothing.
"""

from __future__ import annotations

import random
from typing import Any

import gradio as gr

from app.actions import drawing
from app.forms import preview
from app.forms.preview import ROWS
from app.pages.address import asked, told
from app.pages.preview import fields
from app.ui.format import esc
from app.ui.html import PRIVATE, on_load, plain, problem, signal, title
from app.ui.services import Ui
from app.views import preview as view
from trainer.core.problem import Problem
from trainer.library.drawings import Drawing, Drawings

SIZES = ("steps", "guidance", "width", "height")
"""Fields whose good values are facts of the base."""
_DRAW: dict[str, Any] = {**PRIVATE, "concurrency_id": "draw", "concurrency_limit": 8, "trigger_mode": "once"}


def build(ui: Ui) -> None:
    """The form on the left, the light table on the right, the button at the foot."""
    t, held = ui.t, {}
    with gr.Column(elem_classes="a-page v-page"):
        title(ui, "preview")
        with gr.Row(elem_classes="v-columns"):
            with gr.Column(elem_classes="v-form"):
                shelf = plain(elem_id="preview-shelf")
                rows = fields.lora_rows(ui, held)
                add = gr.Button(t("page.preview.add"), size="sm", elem_id="preview-add", elem_classes="a-small")
                hint = plain(elem_id="preview-hint")
                wrong_lora = plain(elem_id="preview-wrong-lora")
                held["prompt"] = gr.Textbox(
                    label=t("page.preview.prompt"),
                    placeholder=t("page.preview.prompt_hint"),
                    lines=2,
                    max_lines=8,
                    elem_id="preview-prompt",
                )
                wrong_prompt = plain(elem_id="preview-wrong-prompt")
                held["strip"] = gr.Dropdown(
                    [(t(f"page.preview.strip_{name}"), name) for name in view.STRIPS],
                    value="usual",
                    filterable=False,
                    label=t("page.preview.which_strip"),
                    elem_id="preview-strip",
                )
                with gr.Accordion(t("page.preview.more"), open=False, elem_classes="v-more"):
                    dice = fields.more_settings(ui, held)
                wrong_more = plain(elem_id="preview-wrong-more")
            with gr.Column(elem_classes="v-table"):
                strip = plain(view.strip(None, ui.file, t, empty=t("page.preview.empty")), elem_id="preview-table")
                with gr.Row(elem_classes="v-small"):
                    one = gr.Button(t("page.preview.draw_one"), size="sm", elem_id="preview-one", elem_classes="a-small")
                    keep = gr.Button(
                        t("page.preview.keep"), size="sm", elem_id="preview-keep", elem_classes="a-small", visible=False
                    )
                kept = plain(elem_id="preview-kept")
                saves = plain(elem_id="preview-saves")
        recent = plain(elem_id="preview-recent")
        with gr.Row(elem_classes="a-action"):
            progress = plain(elem_id="preview-progress")
            cancel = gr.Button(t("page.preview.cancel"), visible=False, elem_id="preview-cancel", elem_classes="v-cancel")
            go = gr.Button(t("page.preview.draw"), variant="primary", elem_id="preview-draw")
    strength, pick, count = signal("strength"), signal("drawing"), gr.State(1)

    every = list(held.values())
    table = [strip, saves, recent, progress, kept, keep]
    wrongs = [wrong_lora, wrong_prompt, wrong_more]

    def form_of(values: tuple[Any, ...]) -> dict[str, Any]:
        named = dict(zip(held, values, strict=True))
        loras = [{part: named[f"{part}{i}"] for part in ("on", "name", "unet", "te")} for i in range(ROWS)]
        return {name: named[name] for name in fields.FIELDS} | {"loras": loras}

    def start(values: tuple[Any, ...], strengths: tuple[float, ...] | None) -> Any:
        form = form_of(values)
        busy = [gr.update(interactive=False), gr.update(interactive=False), gr.update(visible=True)]
        try:
            for shown in drawing.draw(ui, form, strengths or view.STRIPS[form["strip"] or "usual"]):
                parts = [getattr(shown, name) for name in ("strip", "saves", "recent", "progress", "kept")]
                yield [
                    *(gr.skip() if part is None else part for part in parts),
                    gr.update(visible=bool(shown.names)),
                    *["" if shown.first else gr.skip()] * 3,
                    *(busy if shown.first else free if shown.last else [gr.skip()] * 3),
                ]
        except preview.FieldError as wrong:
            said = [problem(wrong.sentence) if wrong.field == field else "" for field in ("lora", "prompt", "more")]
            yield [*[gr.skip()] * 3, "", "", gr.skip(), *said, *free]

    def draw(*values: Any) -> Any:
        yield from start(values, None)

    def draw_one(said: str, *values: Any) -> Any:
        yield from start(values, (preview.strength_of(said),))

    shown = [*table, *wrongs, go, one, cancel]
    free = [gr.update(interactive=True), gr.update(interactive=True), gr.update(visible=False)]
    for act in (
        go.click(draw, every, shown, **_DRAW),
        held["prompt"].submit(draw, every, shown, **_DRAW),
        one.click(draw_one, [strength, *every], shown, **_DRAW),
    ):
        act.then(lambda: free, None, [go, one, cancel], **PRIVATE)  # whatever became of it, no button stays dead
    cancel.click(lambda: ui.services.preview.cancel(), **PRIVATE)  # noqa: PLW0108  (opened when first pressed)

    def opened(request: gr.Request) -> list[Any]:
        form, last = fields.first_form(ui, asked(request, "lora"))
        if form["base"]:
            ui.services.preview.warm(form["base"])
        return [
            *fields.fill(ui, held, form),
            *_shown(ui, form, last),
            _shelf(ui),
            *fields.rows_shown(fields.rows_used(form)),
            fields.rows_used(form),
            fields.hints(ui, form)[0],
        ]

    def again(said: str) -> list[Any]:
        last = Drawings(ui.services.home.previews).get(told(said))
        if last is None:
            return [gr.skip()] * (len(held) + len(table) + ROWS + 1)
        form = fields.defaults(ui) | last.form
        return [
            *fields.fill(ui, held, form),
            *_shown(ui, form, last),
            *fields.rows_shown(fields.rows_used(form)),
            fields.rows_used(form),
        ]

    on_load(opened, [], [*every, *table, shelf, *rows, count, hint])
    for i in range(ROWS):
        for part in ("on", "name"):
            held[f"{part}{i}"].input(lambda *values: fields.hints(ui, form_of(values)), every, [hint, keep], **PRIVATE)
    pick.input(again, [pick], [*every, *table, *rows, count], **PRIVATE)
    add.click(lambda n: [min(ROWS, n + 1), *fields.rows_shown(min(ROWS, n + 1))], [count], [count, *rows], **PRIVATE)
    dice.click(lambda: random.randint(0, preview.SEEDS), None, [held["seed"]], **PRIVATE)
    keep.click(lambda said, *values: _keep(ui, form_of(values), said), [strength, *every], [kept], **PRIVATE)
    sizes = [held[name] for name in SIZES]
    held["base"].input(lambda base: [fields.defaults(ui, base)[name] for name in SIZES], [held["base"]], sizes, **PRIVATE)


def _shown(ui: Ui, form: dict[str, Any], last: Drawing | None) -> list[Any]:
    """The light table for a drawing (or none) with what belongs to it."""
    named = any(row["on"] and row["name"] for row in form["loras"])
    return [*drawing.table(ui, form, last), "", "", gr.update(visible=named)]


def _shelf(ui: Ui) -> str:
    return "" if ui.services.library.cards() else view.no_lora(ui.href("train"), ui.t)


def _keep(ui: Ui, form: dict[str, Any], said: str) -> str:
    """Write the strength on the slider to the first LoRA's card, with its own strength counted in."""
    row = next((row for row in form["loras"] if row["on"] and row["name"]), None)
    if row is None:
        return ""
    best = round(preview.strength_of(said) * (1.0 if row["unet"] is None else row["unet"]), 2)
    try:
        ui.services.library.set(row["name"], recommended=best)
    except Problem as error:
        return problem(error.sentence(ui.lang))
    return f'<p class="a-note" role="status">{esc(ui.t("page.preview.kept", name=row["name"], strength=f"{best:g}"))}</p>'
