"""What stands on the Library page and where. No behaviour: handlers.py and base_making.py answer, page.py wires.

Below the cards two folds make new files: one of LoRAs alone, one that works on whole bases.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from app.actions import imports
from app.ui.format import esc
from app.ui.html import plain, signal, title
from app.ui.services import Ui

KINDS = ("style", "character", "concept", "slider")
STATES = ("trying", "in_use")
WAYS = ("extract", "bake")
"""A LoRA of the difference of two bases, or a new base with LoRAs inside."""


@dataclass(frozen=True, eq=False)
class CardFields:
    """What a person may change about the open card."""

    fold: gr.Accordion
    name: gr.Textbox
    purpose: gr.Textbox
    trigger: gr.Textbox
    notes: gr.Textbox
    recommended: gr.Number
    state: gr.Radio
    save: gr.Button
    trash: gr.Button

    @property
    def fields(self) -> dict[str, Component]:
        """The fields by name."""
        return {name: getattr(self, name) for name in ("name", "purpose", "trigger", "notes", "recommended", "state")}


@dataclass(frozen=True, eq=False)
class MakeParts:
    """The fold that makes one LoRA of several, or a smaller one of one."""

    loras: gr.Dropdown
    strengths: gr.Textbox
    rank: gr.Textbox
    name: gr.Textbox
    go: gr.Button
    message: gr.HTML

    @property
    def fields(self) -> list[Block]:
        """What a press reads."""
        return [self.loras, self.strengths, self.rank, self.name]


@dataclass(frozen=True, eq=False)
class BaseParts:
    """The fold that works on whole bases."""

    way: gr.Radio
    about: gr.HTML
    base: gr.Dropdown
    tuned: gr.Dropdown
    rank: gr.Textbox
    loras: gr.Dropdown
    strengths: gr.Textbox
    name: gr.Textbox
    go: gr.Button
    line: gr.HTML

    @property
    def fields(self) -> list[Block]:
        """What a press reads."""
        return [self.way, self.base, self.tuned, self.rank, self.loras, self.strengths, self.name]


@dataclass(frozen=True, eq=False)
class LibraryParts:
    """Every part of the page that an event reads or answers."""

    message: gr.HTML
    undo: gr.Button
    filters: gr.Row
    search: gr.Textbox
    kind: gr.Dropdown
    state: gr.Dropdown
    card: gr.HTML
    edit: CardFields
    readers: gr.Accordion
    programs: gr.HTML
    grid: gr.HTML
    make: MakeParts
    bases: BaseParts
    open: gr.State
    """The name of the LoRA whose card is open."""
    trashed: gr.State
    """The token by which a LoRA can be put back."""
    pick: gr.Textbox
    """What a press on a card sends."""
    added: gr.Textbox
    """What an upload of a file sends."""

    @property
    def filtering(self) -> list[Block]:
        """What decides which cards are shown."""
        return [self.search, self.kind, self.state]

    @property
    def shown(self) -> list[Block]:
        """The cards and the open one: what `LibraryHandlers.show` answers."""
        card = [self.card, self.readers, self.programs, self.edit.fold, *self.edit.fields.values()]
        return [self.grid, self.filters, self.open, *card]


def build(ui: Ui) -> LibraryParts:
    """Search, the table of pictures, and above it the open card with its folds."""
    t = ui.t
    loras = [card.name for card in ui.services.library.cards() if not card.broken]
    with gr.Column(elem_classes="a-page l-page"):
        title(ui, "library")
        message = plain(elem_id="library-message")
        undo = gr.Button(t("page.library.undo"), visible=False, size="sm", elem_id="library-undo", elem_classes="a-small")
        with gr.Row(elem_classes="l-tools", visible=False) as filters:
            search = gr.Textbox(
                label=t("page.library.search"),
                placeholder=t("page.library.search_hint"),
                elem_id="library-search",
                scale=4,
                max_lines=1,
            )
            kind = _filter(ui, "kind", KINDS)
            state = _filter(ui, "state", STATES)
        card = plain(elem_id="library-card")
        edit = _edit(ui)
        with gr.Accordion(t("page.library.readers"), open=False, visible=False, elem_id="library-readers") as readers:
            programs = plain()
        grid = plain(elem_id="library-grid")
        make = _make(ui, loras)
        bases = _bases(ui, loras)
        plain(imports.element(ui))
    return LibraryParts(
        message=message,
        undo=undo,
        filters=filters,
        search=search,
        kind=kind,
        state=state,
        card=card,
        edit=edit,
        readers=readers,
        programs=programs,
        grid=grid,
        make=make,
        bases=bases,
        open=gr.State(None),
        trashed=gr.State(None),
        pick=signal("card"),
        added=signal("added"),
    )


def _filter(ui: Ui, name: str, values: tuple[str, ...]) -> gr.Dropdown:
    """A filter with `all` in front."""
    choices = [(ui.t("page.library.all"), "")] + [(ui.t(f"page.library.{name}.{value}"), value) for value in values]
    return gr.Dropdown(
        choices,
        value="",
        label=ui.t(f"page.library.{name}_label"),
        filterable=False,
        scale=1,
        min_width=130,
        elem_id=f"library-{name}",
    )


def _edit(ui: Ui) -> CardFields:
    t = ui.t
    with gr.Accordion(t("page.library.edit"), open=False, visible=False, elem_id="library-edit") as fold:
        name = gr.Textbox(label=t("page.library.name"), info=t("page.library.name_help"), max_lines=1, elem_id="library-name")
        purpose = gr.Textbox(label=t("page.library.purpose"), elem_id="library-purpose")
        trigger = gr.Textbox(label=t("page.library.trigger"), max_lines=1, elem_id="library-trigger")
        notes = gr.Textbox(label=t("page.library.notes"), lines=2, elem_id="library-notes")
        recommended = gr.Number(
            label=t("page.library.strength"), minimum=-10, maximum=10, step=0.05, elem_id="library-strength"
        )
        state = gr.Radio(
            [(t(f"page.library.state.{value}"), value) for value in STATES],
            label=t("page.library.in_use"),
            elem_id="library-use",
            elem_classes="a-segments",
        )
        with gr.Row(elem_classes="v-small"):
            save = gr.Button(t("page.library.save"), size="md", elem_id="library-save")
            trash = gr.Button(t("page.library.trash"), size="md", elem_id="library-trash")
    return CardFields(fold, name, purpose, trigger, notes, recommended, state, save, trash)


def _make(ui: Ui, names: list[str]) -> MakeParts:
    t = ui.t
    with gr.Accordion(t("page.library.make.title"), open=False, elem_id="library-make"):
        plain(note(t("page.library.make.lead")))
        loras = gr.Dropdown(names, value=[], multiselect=True, label=t("page.library.make.loras"), elem_id="library-make-loras")
        strengths = gr.Textbox(
            label=t("page.library.make.strengths"),
            info=t("page.library.make.strengths_help"),
            max_lines=1,
            elem_id="library-make-strengths",
        )
        rank = gr.Textbox(
            label=t("page.library.make.rank"),
            info=t("page.library.make.rank_help"),
            max_lines=1,
            placeholder=t("page.library.make.rank_empty"),
            elem_id="library-make-rank",
        )
        name = gr.Textbox(label=t("page.library.name"), max_lines=1, elem_id="library-make-name")
        with gr.Row(elem_classes="v-small"):
            go = gr.Button(t("page.library.make.go"), size="md", elem_id="library-make-go")
        message = plain(elem_id="library-make-message")
    return MakeParts(loras, strengths, rank, name, go, message)


def _bases(ui: Ui, names: list[str]) -> BaseParts:
    t, bases = ui.t, local_bases(ui)
    with gr.Accordion(t("page.library.bases.title"), open=False, elem_id="library-bases"):
        way = gr.Radio(
            [(t(f"page.library.bases.{way}"), way) for way in WAYS],
            value=WAYS[0],
            show_label=False,
            elem_classes="a-segments",
            elem_id="library-bases-way",
        )
        about = plain(about_way(ui, WAYS[0]))
        base = gr.Dropdown(bases, value=None, label=t("page.library.bases.base"), elem_id="library-bases-base")
        tuned = gr.Dropdown(bases, value=None, label=t("page.library.bases.tuned"), elem_id="library-bases-tuned")
        rank = gr.Textbox(
            value="32",
            label=t("page.library.make.rank"),
            info=t("page.library.bases.rank_help"),
            max_lines=1,
            elem_id="library-bases-rank",
        )
        loras = gr.Dropdown(
            names,
            value=[],
            multiselect=True,
            label=t("page.library.make.loras"),
            visible=False,
            elem_id="library-bases-loras",
        )
        strengths = gr.Textbox(
            label=t("page.library.make.strengths"),
            info=t("page.library.make.strengths_help"),
            max_lines=1,
            visible=False,
            elem_id="library-bases-strengths",
        )
        name = gr.Textbox(label=t("page.library.name"), max_lines=1, elem_id="library-bases-name")
        with gr.Row(elem_classes="v-small"):
            go = gr.Button(t("page.library.make.go"), size="md", elem_id="library-bases-go")
        line = plain(elem_id="library-bases-line")
    return BaseParts(way, about, base, tuned, rank, loras, strengths, name, go, line)


def local_bases(ui: Ui) -> list[tuple[str, str]]:
    """The bases on this disk, to choose from."""
    return [(base.title_in(ui.lang), base.id) for base in ui.services.bases() if base.path]


def about_way(ui: Ui, way: str) -> str:
    """What is made in one of `WAYS`."""
    return f'<p class="a-note">{esc(ui.t(f"page.library.bases.{way}_about"))}</p>'


def note(sentence: str) -> str:
    """A quiet sentence."""
    return f'<p class="a-note" role="status">{esc(sentence)}</p>'
