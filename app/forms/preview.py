"""What the Preview page's fields come to: a request for the worker, or what is wrong with which field. Pure; no Gradio.

LoRAs come from the rows of the page and from `<lora:name:0.8>` in the prompt; of both, the prompt's strength counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.ui.format import Translate
from trainer.config.strategies import samplers
from trainer.core.problem import Problem
from trainer.formats.detect import FAMILY_NAMES
from trainer.prompts import lora_tags, prompt_line
from trainer.prompts.lora_tags import MAX_LORAS

NUMBERS = {"steps": (1, 200), "guidance": (0.0, 30.0), "width": prompt_line.SIDES, "height": prompt_line.SIDES}
SEEDS = prompt_line.SEEDS[1]
STRONGEST = 10.0
SWITCHES = ("weights", "partial")
"""Fields that stand in a request only where they are ticked: drawings of earlier versions keep their names."""


class FieldError(Exception):
    """A sentence for a person, and the field it belongs beside: `lora`, `prompt` or `more`."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field, self.sentence = field, sentence


@dataclass(frozen=True)
class PreviewJob:
    """What to draw: the base, the worker's request without its strengths, and the LoRAs' names in order."""

    base: Any
    request: dict[str, Any]
    names: tuple[str, ...]


def parse_form(form: dict[str, Any], bases: Sequence[Any], cards: Sequence[Any], t: Translate, lang: str) -> PreviewJob:
    """The request of a filled form, or `FieldError`. `form` holds plain values by name, `loras` a list of rows."""
    base = next((facts for facts in bases if facts.id == form.get("base")), bases[0] if bases else None)
    if base is None:
        raise FieldError("more", t("page.preview.no_base"))
    by_name = {card.name: card for card in cards}
    typed = str(form.get("prompt") or "")
    try:
        switched = prompt_line.read(typed) != prompt_line.PromptLine(typed)
    except Problem:
        switched = True
    if switched:
        raise FieldError("prompt", t("page.preview.switches"))
    parsed = lora_tags.parse(typed, by_name)
    if parsed.broken:
        raise FieldError("prompt", t("page.preview.broken_tag", tag=parsed.broken[0]))
    resolved = lora_tags.resolve(parsed.tags, by_name)
    for name, near in resolved.unknown:
        key = "page.preview.unknown_near" if near else "page.preview.unknown"
        raise FieldError("prompt", t(key, name=name, near=near))
    strengths = _rows(form.get("loras") or (), by_name, t)
    strengths |= {tag.name: (tag.unet, tag.text_encoder) for tag in resolved.tags}
    if len(strengths) > MAX_LORAS:
        raise FieldError("lora", t("problems.too_many_loras", limit=MAX_LORAS))
    for name in strengths:
        _fits(by_name[name], base, t, lang)
    prompt = parsed.prompt.strip()
    if not prompt and not strengths:
        raise FieldError("prompt", t("problems.prompt_missing"))
    loras = [{"path": str(by_name[name].file), "unet": unet, "text_encoder": te} for name, (unet, te) in strengths.items()]
    request = {
        "prompt": prompt,
        "negative": str(form.get("negative") or "").strip(),
        **_numbers(form, t),
        **{name: True for name in SWITCHES if form.get(name)},
        "loras": loras,
        **_sampler(form, lang),
    }
    return PreviewJob(base, request, tuple(strengths))


def _rows(rows: Sequence[dict[str, Any]], by_name: dict[str, Any], t: Translate) -> dict[str, tuple[float, float]]:
    """The LoRAs switched on, by name: (UNet's strength, text encoder's strength). An empty second one is the first."""
    strengths: dict[str, tuple[float, float]] = {}
    for row in rows:
        name = row.get("name")
        if not row.get("on") or not name:
            continue
        if name not in by_name:
            raise FieldError("lora", t("page.preview.unknown", name=name))
        if name in strengths:
            raise FieldError("lora", t("page.preview.twice", name=name))
        unet = 1.0 if row.get("unet") is None else _number(row["unet"], -STRONGEST, STRONGEST, "lora", t)
        te = row.get("te")
        strengths[name] = (unet, unet if te is None else _number(te, -STRONGEST, STRONGEST, "lora", t))
    return strengths


def _fits(card: Any, base: Any, t: Translate, lang: str) -> None:
    if card.broken:
        raise FieldError("lora", card.broken.sentence(lang))
    if card.family != base.family:
        theirs, ours = (FAMILY_NAMES.get(family, family) for family in (card.family, base.family))
        raise FieldError("lora", t("page.preview.other_base", name=card.name, theirs=theirs, ours=ours))


def _numbers(form: dict[str, Any], t: Translate) -> dict[str, Any]:
    values: dict[str, Any] = {}
    seed = form.get("seed")
    if not isinstance(seed, int | float) or not math.isfinite(seed) or seed != int(seed) or not 0 <= seed <= SEEDS:
        raise FieldError("more", t("page.preview.seed_bad"))
    values["seed"] = int(seed)
    for name, (low, high) in NUMBERS.items():
        value = _number(form.get(name), low, high, "more", t)
        values[name] = value if name == "guidance" else int(value)
    if values["width"] % 8 or values["height"] % 8:
        raise FieldError("more", t("problems.size_bad", low=64, high=2048))
    return values


def _sampler(form: dict[str, Any], lang: str) -> dict[str, str]:
    """Nothing for the base's own, so that what was drawn with it before samplers could be chosen is found again."""
    try:
        sampler = samplers.checked(str(form.get("sampler") or "base"))
    except Problem as error:
        raise FieldError("more", error.sentence(lang)) from error
    return {} if sampler == "base" else {"sampler": sampler}


def _number(value: Any, low: float, high: float, field: str, t: Translate) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        raise FieldError(field, t("page.preview.number_bad", low=f"{low:g}", high=f"{high:g}"))
    return float(value)


def strength_of(signal: Any) -> float:
    """The strength the slider sent, within reason; 1 where it sent nothing."""
    try:
        value = float(signal)
    except (TypeError, ValueError):
        return 1.0
    return round(min(STRONGEST, max(-STRONGEST, value)), 2) + 0.0 if math.isfinite(value) else 1.0
