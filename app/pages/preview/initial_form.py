"""What the Preview page's fields hold before a person changes one. Plain values by name; used by handlers.py."""

from __future__ import annotations

from typing import Any

from app.ui.services import Ui
from trainer.images.captions.captions import trial_prompts
from trainer.library.drawings import Drawing, Drawings

EMPTY_LORA: dict[str, Any] = {"on": True, "name": "", "unet": 1, "te": None}


def defaults(ui: Ui, base_id: str | None = None) -> dict[str, Any]:
    """The form before anything is chosen, from the base's own facts."""
    bases = ui.services.bases()
    facts = next((base for base in bases if base.id == base_id), bases[0] if bases else None)
    form: dict[str, Any] = {
        "base": facts.id if facts else None,
        "prompt": "",
        "negative": "",
        "seed": 7,
        "sampler": "base",
        "strip": "usual",
        "weights": False,
        "partial": False,
        "loras": [],
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


def initial_form(ui: Ui, lora: str | None) -> tuple[dict[str, Any], Drawing | None]:
    """The form when the page opens: for the LoRA in the address, else the last drawing, else the newest LoRA."""
    cards = [card for card in ui.services.library.cards() if not card.broken]
    card = next((card for card in cards if card.name == lora), None)
    if card is None:
        last = next(iter(Drawings(ui.services.home.previews).latest(1)), None)
        if last is not None:
            return defaults(ui) | last.form, last
        card = cards[0] if cards else None
    form = defaults(ui, card.base if card else None)
    if card is not None:
        form["loras"] = [EMPTY_LORA | {"name": card.name}]
        first = next(iter(trial_prompts(card.kind, card.trigger, [form["prompt"]])), "")
        form["prompt"] = card.prompt if card.trigger in card.prompt and card.prompt else first
        if card.slider:
            form |= {"prompt": card.slider[0] or form["prompt"], "strip": "slider"}
    return form, None
