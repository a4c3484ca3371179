"""Options as form fields and back. Everything comes from the one tree (trainer/config/options.py); no option is named
here but those whose field needs a special shape.

`fields(ui)` draws them, `values` and `shown` turn what they hold into a config tree and back. Mistakes are found by
`load.build` alone; `beside` turns them into sentences below their fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from app.ui.html import Field, markup
from app.ui.services import Ui
from trainer.config import load
from trainer.config.drafts import with_defaults
from trainer.config.load import Tree
from trainer.config.options import Option, help_text, label, option, options
from trainer.config.plan import draws, is_slider
from trainer.config.sections.slider import NEEDED
from trainer.core.problem import Problem

ELSEWHERE = ("run.kind", "model.base", "images.folder", "save.name", "rights.pictures_ok", "captions.trigger", *NEEDED)
"""Options that stand in the open on the Train page, or that the page sets by itself."""
LONG = ("samples.negative_prompt", "rights.purpose", "rights.pictures_licence", "samples.prompts")


def field_id(name: str) -> str:
    """The element an option's field has in the document; mistakes are shown inside it."""
    return f"field-{name.replace('.', '-').replace('_', '-')}"


def folded(ui: Ui, skip: Sequence[str] = ELSEWHERE) -> dict[str, Field]:
    """Every option but `skip`, section by section, each with its help. Called inside a Blocks context."""
    made: dict[str, Field] = {}
    tree = with_defaults({})
    for section in dict.fromkeys(o.section for o in options()):
        inside = [o for o in options() if o.section == section and o.name not in skip]
        if not inside:
            continue
        about: dict[str, Any] = {"elem_id": f"section-{section}", "elem_classes": "a-section"}
        with gr.Accordion(ui.t(f"page.train.sections.{section}"), open=False, **about), gr.Row(elem_classes="a-fields"):
            for known in inside:
                made[known.name] = field(ui, known, load.get(tree, known.name))
    return made


def field(ui: Ui, known: Option, value: Any = None) -> Field:
    """One option's field: label, help, and the shape its kind asks for. Bounds are not enforced by the field."""
    shared: dict[str, Any] = {
        "label": label(known, ui.lang),
        "info": help_text(known, ui.lang),
        "elem_id": field_id(known.name),
        "elem_classes": ["a-field", f"a-{known.kind}"],
        "visible": is_shown(known, {}),
    }
    value = to_field(known, value)
    if known.kind == "bool":
        return gr.Checkbox(value=bool(value), **shared)
    if known.kind in ("int", "float"):
        empty = ui.t("page.train.automatic") if known.optional else ""
        return gr.Number(value=value, placeholder=empty, **shared)
    if known.kind == "choice":
        pairs = [(choice_label(ui, known, name), name) for name in known.choices]
        return gr.Radio(pairs, value=value, **shared)
    long = known.kind == "list" or known.name in LONG
    return gr.Textbox(value=value, lines=3 if known.kind == "list" else 1, max_lines=8 if long else 1, **shared)


def choice_label(ui: Ui, known: Option, name: str) -> str:
    """A choice in words: `choices."lora.targets.attention"`, or its bare name where that is a name of its own."""
    key = f"choices.{known.name}.{name}"
    found = ui.t(key)
    return name if found == key else found


def is_shown(known: Option, tree: Tree) -> bool:
    """Whether an option belongs to what is chosen in its section (`optimizer.d_coef` only to Prodigy), and to the kind: a
    slider has words of its own, no trigger, and pictures to have a right to only where it draws none."""
    if known.section == "slider":
        return is_slider(tree)
    if known.name == "captions.trigger":
        return not is_slider(tree)
    if known.name == "rights.pictures_ok":
        return not draws(tree)
    if not known.variants:
        return True
    chosen = load.get(tree, f"{known.section}.name") or option(f"{known.section}.name").default
    return chosen in known.variants


def to_field(known: Option, value: Any) -> Any:
    """A value of the tree as its field holds it."""
    if known.kind == "list":
        return "\n".join(map(str, value or ()))
    if known.kind == "str":
        return value or ""
    return value


def from_field(known: Option, value: Any) -> Any:
    """What a field holds as a value of the tree; what cannot be one is handed on for `load.build` to refuse."""
    if known.kind == "list":
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]
    if known.kind == "str":
        text = str(value or "").strip()
        return text or (None if known.optional else "")
    if value is None or value == "":
        return None if known.optional else value
    if known.kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def values(held: Mapping[str, Any]) -> Tree:
    """A config tree from what the fields hold, by option name; fields of choices not made are left out."""
    tree: Tree = {}
    for name, value in held.items():
        load.put(tree, name, from_field(option(name), value))
    for name in held:
        if option(name).variants and not is_shown(option(name), tree):
            tree[option(name).section].pop(name.partition(".")[2], None)
    return tree


def shown(names: Iterable[str], tree: Tree) -> dict[str, Any]:
    """{name: the update of its field}: its value in `tree`, and whether it is to be seen."""
    tree, updates = with_defaults(tree), {}
    for name in names:
        known = option(name)
        value = tree.get(known.section, {}).get(name.partition(".")[2], known.default)
        updates[name] = gr.update(value=to_field(known, value), visible=is_shown(known, tree))
    return updates


def beside(
    ui: Ui, problems: Iterable[Problem | tuple[str, str]], *, lead: bool = False, where: Mapping[str, str] | None = None
) -> str:
    """The markup that puts each problem's sentence below its field (app/static/beside.js); `lead` goes to the first.
    A problem may also be (option, sentence); `where` says which element a field has that is not an option's own."""
    told: dict[str, str] = {}
    for one in problems:
        name, sentence = (one.field or "", one.sentence(ui.lang)) if isinstance(one, Problem) else one
        told.setdefault((where or {}).get(name) or field_id(name), sentence)
    if not told:
        return ""
    data = json.dumps([{"at": at, "said": said} for at, said in told.items()], ensure_ascii=False)
    return f'<atelier-beside data-problems="{escape(data)}"{" data-lead=1" if lead else ""}></atelier-beside>'


def effective_rate(ui: Ui, tree: Tree) -> str:
    """The live line under the rate: lr × alpha / rank, and what that means."""
    tree = with_defaults(tree)
    rate, alpha, rank = (load.get(tree, name) for name in ("optimizer.lr", "lora.alpha", "lora.rank"))
    if load.get(tree, "optimizer.name") in ("prodigy", "dadapt_adam", "dadapt_lion"):
        return f"<p class='a-note'>{escape(ui.t('page.train.rate.prodigy'))}</p>"
    if not all(isinstance(part, int | float) and part > 0 for part in (rate, alpha, rank)):
        return ""
    product = rate * alpha / rank
    verdict = "low" if product < 2e-5 else "high" if product > 2e-3 else "good"
    sum_ = ui.t("page.train.rate.sum", rate=_plain(rate), alpha=f"{alpha:g}", rank=f"{rank:g}", product=_plain(product))
    tone = "" if verdict == "good" else " a-warned"
    return f"<p class='a-note{tone}'>{escape(sum_)} {escape(ui.t(f'page.train.rate.{verdict}'))}</p>"


def rate_line(ui: Ui) -> gr.HTML:
    """Where `effective_rate` is shown."""
    return markup(effective_rate(ui, {}), elem_id="effective-rate")


def _plain(number: float) -> str:
    """0.0002, not 2e-04."""
    return f"{number:.7f}".rstrip("0").rstrip(".") if number >= 1e-7 else f"{number:g}"
