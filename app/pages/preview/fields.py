"""The Preview page's fields: how they are laid out, what they hold at first, and how a form is put back into them.

Used by app/pages/preview/page.py; what the fields come to is app/forms/preview.py.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.forms.preview import ROWS
from app.ui.services import Ui
from app.views import preview as view
from trainer.config.strategies.samplers import SAMPLERS, TITLES
from trainer.images.captions.captions import to_try
from trainer.library.drawings import Drawing, Drawings

FIELDS = ("base", "prompt", "negative", "seed", "steps", "guidance", "sampler", "width", "height", "strip", "weights")
"""Fields with one value each; besides, `on name unet te` for each of the rows 0 to 4."""


def lora_rows(ui: Ui, held: dict[str, Any]) -> list[gr.Row]:
    """Up to five LoRAs: on or off, which, and how strongly each for itself."""
    t, rows = ui.t, []
    for i in range(ROWS):
        with gr.Row(visible=i == 0, elem_classes="v-lora") as row:
            held[f"on{i}"] = gr.Checkbox(
                True, label=t("page.preview.on"), show_label=False, scale=0, min_width=30, elem_id=f"preview-on{i}"
            )
            held[f"name{i}"] = gr.Dropdown(
                [(t("page.preview.none"), "")],
                value="",
                label=t("page.preview.lora", n=i + 1),
                scale=5,
                min_width=120,
                elem_id=f"preview-lora{i}",
            )
            held[f"unet{i}"] = gr.Number(
                1,
                label=t("page.preview.unet"),
                minimum=-10,
                maximum=10,
                step=0.05,
                scale=2,
                min_width=72,
                elem_id=f"preview-unet{i}",
            )
            held[f"te{i}"] = gr.Number(
                None,
                label=t("page.preview.text_encoder"),
                placeholder=t("page.preview.same"),
                minimum=-10,
                maximum=10,
                step=0.05,
                scale=2,
                min_width=72,
                elem_id=f"preview-te{i}",
            )
        rows.append(row)
    return rows


def more_settings(ui: Ui, held: dict[str, Any]) -> gr.Button:
    """What rarely needs changing."""
    t = ui.t
    known = [(facts.title_in(ui.lang), facts.id) for facts in ui.services.bases()]
    held["base"] = gr.Dropdown(known, label=t("page.preview.base"), elem_id="preview-base", filterable=False)
    held["negative"] = gr.Textbox(label=t("page.preview.negative"), lines=1, elem_id="preview-negative")
    held["weights"] = gr.Checkbox(
        False, label=t("page.preview.weights"), info=t("page.preview.weights_help"), elem_id="preview-weights"
    )
    with gr.Row(elem_classes="v-two"):
        held["seed"] = gr.Number(
            7,
            precision=0,
            label=t("page.preview.seed"),
            info=t("page.preview.seed_help"),
            elem_id="preview-seed",
            min_width=120,
        )
        dice = gr.Button(t("page.preview.dice"), size="sm", elem_id="preview-dice", elem_classes="a-small", scale=0)
    with gr.Row(elem_classes="v-two"):
        held["steps"] = gr.Number(
            20,
            precision=0,
            label=t("page.preview.steps"),
            info=t("page.preview.steps_help"),
            elem_id="preview-steps",
            min_width=120,
        )
        held["guidance"] = gr.Number(
            7.0,
            label=t("page.preview.guidance"),
            info=t("page.preview.guidance_help"),
            step=0.5,
            elem_id="preview-guidance",
            min_width=120,
        )
    held["sampler"] = gr.Dropdown(
        [(TITLES.get(name) or t("page.preview.sampler_own"), name) for name in SAMPLERS],
        value="base",
        filterable=False,
        label=t("page.preview.sampler"),
        info=t("page.preview.sampler_help"),
        elem_id="preview-sampler",
    )
    with gr.Row(elem_classes="v-two"):
        for side in ("width", "height"):
            held[side] = gr.Number(
                512, precision=0, label=t(f"page.preview.{side}"), step=8, elem_id=f"preview-{side}", min_width=120
            )
    return dice


def defaults(ui: Ui, base_id: str | None = None) -> dict[str, Any]:
    """The form before anything is chosen, from the base's own facts."""
    known = ui.services.bases()
    facts = next((base for base in known if base.id == base_id), known[0] if known else None)
    empty = [{"on": True, "name": "", "unet": 1, "te": None} for _ in range(ROWS)]
    form: dict[str, Any] = {
        "base": facts.id if facts else None,
        "prompt": "",
        "negative": "",
        "seed": 7,
        "sampler": "base",
        "strip": "usual",
        "weights": False,
        "loras": empty,
    }
    if facts is None:
        return form | {"steps": 20, "guidance": 7.0, "width": 512, "height": 512}
    prompt = facts.sample_prompts[0] if facts.sample_prompts else ""
    return form | {
        "prompt": prompt,
        "steps": facts.steps,
        "guidance": facts.guidance,
        "width": facts.resolution,
        "height": facts.resolution,
    }


def first_form(ui: Ui, lora: str | None) -> tuple[dict[str, Any], Drawing | None]:
    """The form when the page opens: for the LoRA in the address, else the last drawing, else the newest LoRA."""
    cards = [card for card in ui.services.library.cards() if not card.broken]
    chosen = next((card for card in cards if card.name == lora), None)
    if chosen is None:
        last = next(iter(Drawings(ui.services.home.previews).latest(1)), None)
        if last is not None:
            return defaults(ui) | last.form, last
        chosen = cards[0] if cards else None
    form = defaults(ui, chosen.base if chosen else None)
    if chosen is not None:
        form["loras"][0]["name"] = chosen.name
        first = next(iter(to_try(chosen.kind, chosen.trigger, [form["prompt"]])), "")
        form["prompt"] = chosen.prompt if chosen.trigger in chosen.prompt and chosen.prompt else first
        if chosen.slider:
            form |= {"prompt": chosen.slider[0] or form["prompt"], "strip": "slider"}
    return form, None


def fill(ui: Ui, held: dict[str, Any], form: dict[str, Any]) -> list[Any]:
    """The fields' values for a form; the LoRAs to choose from as they are now."""
    names = [(ui.t("page.preview.none"), "")] + [(c.name, c.name) for c in ui.services.library.cards() if not c.broken]
    values: list[Any] = []
    for name in held:
        if name in FIELDS:
            values.append(form.get(name))
            continue
        rows, part, i = form["loras"], name.rstrip("0123456789"), int(name[-1])
        row = rows[i] if i < len(rows) else {"on": True, "name": "", "unet": 1, "te": None}
        missing = part == "name" and row["name"] not in (value for _, value in names)
        values.append(gr.update(choices=names, value="" if missing else row["name"]) if part == "name" else row[part])
    return values


def rows_used(form: dict[str, Any]) -> int:
    return max([1, *(i + 1 for i, row in enumerate(form["loras"]) if row["name"])])


def rows_shown(count: int) -> list[Any]:
    return [gr.update(visible=i < count) for i in range(ROWS)]


def hints(ui: Ui, form: dict[str, Any]) -> list[Any]:
    """How the LoRAs switched on want to be used, and whether there is one whose strength could be kept."""
    chosen = [row["name"] for row in form["loras"] if row["on"] and row["name"]]
    cards = {card.name: card for card in ui.services.library.cards() if not card.broken}
    return [view.hints([cards[name] for name in chosen if name in cards], ui.t), gr.update(visible=bool(chosen))]
