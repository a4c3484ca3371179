"""Library: every LoRA as a picture, the chosen one in full, with what can be changed. Layout and wiring.

HTML from app/views/library.py; files are touched by trainer/library/library.py alone. Which card is open stands in the address.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.actions import imports
from app.actions.lora_tools import make
from app.pages.address import asked, told
from app.pages.library import base_making
from app.ui.format import esc
from app.ui.html import PRIVATE, on_load, plain, problem, signal, title
from app.ui.services import Ui
from app.views import library as view
from app.views import parts
from trainer.adapters.compat.inspect import inspect
from trainer.core.problem import Problem
from trainer.library import model_card

KINDS = ("style", "character", "concept", "slider")
STATES = ("trying", "in_use")
EDIT = ("name", "purpose", "trigger", "notes", "recommended", "state")


def build(ui: Ui) -> None:
    """Search, the table of pictures, and below it the open card with its folds."""
    t = ui.t
    with gr.Column(elem_classes="a-page l-page"):
        title(ui, "library")
        message = plain(elem_id="library-message")
        undo = gr.Button(t("page.library.undo"), visible=False, size="sm", elem_id="library-undo", elem_classes="a-small")
        with gr.Row(elem_classes="l-tools", visible=False) as tools:
            search = gr.Textbox(
                label=t("page.library.search"),
                placeholder=t("page.library.search_hint"),
                elem_id="library-search",
                scale=4,
                max_lines=1,
            )
            kind = _choice(ui, "kind", KINDS)
            state = _choice(ui, "state", STATES)
        card = plain(elem_id="library-card")
        fold, held, save, trash = _edit(ui)
        with gr.Accordion(t("page.library.readers"), open=False, visible=False, elem_id="library-readers") as readers:
            programs = plain()
        grid = plain(elem_id="library-grid")
        making, asked_for, mistake = _make(ui)
        of_bases = base_making.build(ui, [card.name for card in ui.services.library.cards() if not card.broken])
        plain(imports.element(ui))
    chosen, trashed = gr.State(None), gr.State(None)
    pick, added = signal("card"), signal("added")

    filters = [search, kind, state]
    shown = [grid, tools, card, fold, *held.values(), readers, programs, chosen]

    def show(name: str | None, words: str, kind: str, state: str) -> list[Any]:
        return _show(ui, name, words or "", kind or "", state or "")

    def saved(name: str, words: str, kind: str, state: str, *values: Any) -> list[Any]:
        try:
            name = _save(ui, name, dict(zip(EDIT, values, strict=True)))
            said = _quiet(t("page.library.saved"))
        except Problem as error:
            return [*[gr.skip()] * len(shown), problem(error.sentence(ui.lang))]
        return [*show(name, words, kind, state), said]

    def gone(name: str, words: str, kind: str, state: str) -> list[Any]:
        try:
            ui.services.refuse_if_used(ui.services.library.card(name).file)
            token = ui.services.library.trash(name)
        except Problem as error:
            return [*[gr.skip()] * len(shown), problem(error.sentence(ui.lang)), gr.skip(), gr.skip()]
        said = _quiet(t("page.library.trashed", name=name))
        return [*show(None, words, kind, state), said, gr.update(visible=True), token]

    def back(token: str, words: str, kind: str, state: str) -> list[Any]:
        try:
            name = ui.services.library.undo(token)
            said = _quiet(t("page.library.restored", name=name))
        except Problem as error:
            name, said = None, problem(error.sentence(ui.lang))
        return [*show(name, words, kind, state), said, gr.update(visible=False), None]

    def taken(said: str, words: str, kind: str, state: str) -> list[Any]:
        try:
            name = imports.take_in(ui.services.home, ui.services.library, told(said))
        except Problem as error:
            return [*[gr.skip()] * len(shown), problem(error.sentence(ui.lang))]
        return [*show(name, words, kind, state), _quiet(t("page.library.imported", name=name))]

    def made(names: list[str], strengths: str, rank: str, new: str, *f: str) -> list[Any]:
        notes: list[str] = []
        try:
            name = make(
                ui.services.home,
                names or [],
                strengths or "",
                rank or "",
                new or "",
                lambda code, params: notes.append(t(f"notes.{code}", **params)),
            )
        except Problem as error:
            return [*[gr.skip()] * len(shown), "", problem(error.sentence(ui.lang))]
        return [*show(name, *f), _quiet(" ".join([t("page.library.imported", name=name), *notes])), ""]

    def offered() -> Any:
        return gr.update(choices=[card.name for card in ui.services.library.cards() if not card.broken])

    def opened(words: str, kind: str, state: str, request: gr.Request) -> list[Any]:
        return show(asked(request, "lora"), words, kind, state)

    def filtered(name: str | None, words: str, kind: str, state: str) -> Any:
        """The pictures alone: the open card stays, with what is being typed on it."""
        cards = ui.services.library.cards()
        return _grid(ui, cards, _found(cards, words or "", kind or "", state or ""), name) if cards else gr.skip()

    on_load(opened, filters, shown)
    pick.input(lambda said, *f: [*show(told(said), *f), ""], [pick, *filters], [*shown, message], **PRIVATE)
    for part in filters:
        part.change(filtered, [chosen, *filters], grid, trigger_mode="always_last", **PRIVATE)
    save.click(saved, [chosen, *filters, *held.values()], [*shown, message], **PRIVATE)
    trash.click(gone, [chosen, *filters], [*shown, message, undo, trashed], trigger_mode="once", **PRIVATE)
    undo.click(back, [trashed, *filters], [*shown, message, undo, trashed], trigger_mode="once", **PRIVATE)
    asked_for[0].focus(offered, [], [asked_for[0]], **PRIVATE)
    making.click(made, [*asked_for, *filters], [*shown, message, mistake], trigger_mode="once", **PRIVATE)
    base_making.wire(ui, of_bases, filters, shown, show)
    added.input(taken, [added, *filters], [*shown, message], **PRIVATE)


def _choice(ui: Ui, name: str, values: tuple[str, ...]) -> gr.Dropdown:
    """A filter with `all` in front."""
    known = [(ui.t("page.library.all"), "")] + [(ui.t(f"page.library.{name}.{value}"), value) for value in values]
    return gr.Dropdown(
        known,
        value="",
        label=ui.t(f"page.library.{name}_label"),
        filterable=False,
        scale=1,
        min_width=130,
        elem_id=f"library-{name}",
    )


def _edit(ui: Ui) -> tuple[gr.Accordion, dict[str, Any], gr.Button, gr.Button]:
    """The fold with what a person may change."""
    t = ui.t
    with gr.Accordion(t("page.library.edit"), open=False, visible=False, elem_id="library-edit") as fold:
        held: dict[str, Any] = {
            "name": gr.Textbox(
                label=t("page.library.name"), info=t("page.library.name_help"), max_lines=1, elem_id="library-name"
            ),
            "purpose": gr.Textbox(label=t("page.library.purpose"), elem_id="library-purpose"),
            "trigger": gr.Textbox(label=t("page.library.trigger"), max_lines=1, elem_id="library-trigger"),
            "notes": gr.Textbox(label=t("page.library.notes"), lines=2, elem_id="library-notes"),
            "recommended": gr.Number(
                label=t("page.library.strength"), minimum=-10, maximum=10, step=0.05, elem_id="library-strength"
            ),
            "state": gr.Radio(
                [(t(f"page.library.state.{value}"), value) for value in STATES],
                label=t("page.library.in_use"),
                elem_id="library-use",
                elem_classes="a-segments",
            ),
        }
        with gr.Row(elem_classes="v-small"):
            save = gr.Button(t("page.library.save"), size="md", elem_id="library-save")
            trash = gr.Button(t("page.library.trash"), size="md", elem_id="library-trash")
    return fold, held, save, trash


def _make(ui: Ui) -> tuple[gr.Button, list[Any], gr.HTML]:
    """The fold that makes one LoRA of several, or a smaller one of one: button, fields, and where a mistake is shown."""
    t = ui.t
    with gr.Accordion(t("page.library.make.title"), open=False, elem_id="library-make"):
        plain(_quiet(t("page.library.make.lead")))
        asked_for: list[Any] = [
            gr.Dropdown(
                [card.name for card in ui.services.library.cards() if not card.broken],
                value=[],
                multiselect=True,
                label=t("page.library.make.loras"),
                elem_id="library-make-loras",
            ),
            gr.Textbox(
                label=t("page.library.make.strengths"),
                info=t("page.library.make.strengths_help"),
                max_lines=1,
                elem_id="library-make-strengths",
            ),
            gr.Textbox(
                label=t("page.library.make.rank"),
                info=t("page.library.make.rank_help"),
                max_lines=1,
                placeholder=t("page.library.make.rank_empty"),
                elem_id="library-make-rank",
            ),
            gr.Textbox(label=t("page.library.name"), max_lines=1, elem_id="library-make-name"),
        ]
        with gr.Row(elem_classes="v-small"):
            button = gr.Button(t("page.library.make.go"), size="md", elem_id="library-make-go")
        mistake = plain(elem_id="library-make-message")
    return button, asked_for, mistake


def _found(cards: list[Any], words: str, kind: str, state: str) -> list[Any]:
    """What the filters leave, what cannot be read last."""
    found = [card for card in cards if view.matches(card, words, kind, state)]
    return sorted(found, key=lambda card: card.broken is not None)


def _grid(ui: Ui, cards: list[Any], found: list[Any], name: str | None) -> str:
    """The table of pictures, with the open card marked."""
    newest = cards[0].name if len(cards) > 1 else None
    if not found:
        return _quiet(ui.t("page.library.none_found"))
    return view.grid(found, name, newest, ui.file, ui.t, ui.href)


def _show(ui: Ui, name: str | None, words: str, kind: str, state: str) -> list[Any]:
    """Everything the page shows, from the files as they are now."""
    t, cards = ui.t, ui.services.library.cards()
    if not cards:
        empty = parts.empty(t("page.library.empty"), t("page.library.empty_text"), ui.href("train"), t("page.runs.start_one"))
        return [
            empty,
            gr.update(visible=False),
            "",
            gr.update(visible=False),
            *[gr.skip()] * len(EDIT),
            gr.update(visible=False),
            "",
            None,
        ]
    found = _found(cards, words, kind, state)
    one = next((card for card in cards if card.name == name), None) or (found[0] if found else None)
    grid = _grid(ui, cards, found, one.name if one else None)
    if one is None:
        return [
            grid,
            gr.update(visible=True),
            "",
            gr.update(visible=False),
            *[gr.skip()] * len(EDIT),
            gr.update(visible=False),
            "",
            None,
        ]
    preview, again = ui.href("preview", lora=one.name), ui.href("train", again=one.name)
    readme = "" if one.broken else model_card.text(one, ui.lang)
    full = view.card(one, ui.file, t, ui.lang, preview=preview, again=again, readme=readme)
    whole = not one.broken
    values = [one.name, one.purpose, one.trigger, one.notes, one.recommended.best, one.state]
    return [
        grid,
        gr.update(visible=True),
        full,
        gr.update(visible=True),
        *values,
        gr.update(visible=whole),
        _programs(ui, one) if whole else "",
        one.name,
    ]


def _programs(ui: Ui, card: Any) -> str:
    try:
        found = inspect(card.file)
        return view.programs(found.programs, ui.t, found.notes)
    except Problem as error:
        return problem(error.sentence(ui.lang))


def _save(ui: Ui, name: str, said: dict[str, Any]) -> str:
    """Write what changed; the name, which may be new."""
    library = ui.services.library
    before = library.card(name)
    fields = {
        field: said[field] or "" for field in ("purpose", "trigger", "notes") if (said[field] or "") != getattr(before, field)
    }
    if said["state"] and said["state"] != before.state:
        fields["state"] = said["state"]
    if said["recommended"] is not None and said["recommended"] != before.recommended.best:
        fields["recommended"] = said["recommended"]
    if fields:
        library.set(name, **fields)
    wish = (said["name"] or "").strip()
    if not wish or wish == name:
        return name
    ui.services.refuse_if_used(before.file)
    return library.rename(name, wish)


def _quiet(sentence: str) -> str:
    return f'<p class="a-note" role="status">{esc(sentence)}</p>'
