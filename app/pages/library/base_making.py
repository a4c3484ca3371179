"""The fold below the Library that works on whole bases: a LoRA of the difference of two, or a new base with LoRAs inside.

Called by library.py. Both go through gigabytes: the work is done in a thread, and the page shows how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import gradio as gr

from app.actions import lora_tools
from app.ui.format import esc
from app.ui.html import PRIVATE, plain, problem
from app.ui.services import Ui
from app.views.parts import bar
from trainer.core.problem import Problem

WAYS = ("extract", "bake")
LOOK = 0.5
"""Seconds between two looks at how far it is."""

Show = Callable[..., list[Any]]
"""`library.show`: everything about the library with one LoRA opened."""


def build(ui: Ui, loras: list[str]) -> dict[str, Any]:
    """The fold's parts by name, in the order they stand."""
    t, known = ui.t, _known(ui)
    with gr.Accordion(t("page.library.bases.title"), open=False, elem_id="library-bases"):
        held: dict[str, Any] = {
            "way": gr.Radio(
                [(t(f"page.library.bases.{way}"), way) for way in WAYS], value=WAYS[0], show_label=False,
                elem_classes="a-segments", elem_id="library-bases-way",
            ),
            "about": plain(_about(ui, WAYS[0])),
            "base": gr.Dropdown(
                known, value=None, label=t("page.library.bases.base"), elem_id="library-bases-base"
            ),
            "tuned": gr.Dropdown(
                known, value=None, label=t("page.library.bases.tuned"), elem_id="library-bases-tuned"
            ),
            "rank": gr.Textbox(
                value="32", label=t("page.library.make.rank"), info=t("page.library.bases.rank_help"), max_lines=1,
                elem_id="library-bases-rank",
            ),
            "loras": gr.Dropdown(
                loras, value=[], multiselect=True, label=t("page.library.make.loras"), visible=False,
                elem_id="library-bases-loras",
            ),
            "strengths": gr.Textbox(
                label=t("page.library.make.strengths"), info=t("page.library.make.strengths_help"), max_lines=1,
                visible=False, elem_id="library-bases-strengths",
            ),
            "name": gr.Textbox(label=t("page.library.name"), max_lines=1, elem_id="library-bases-name"),
        }  # fmt: skip
        with gr.Row(elem_classes="v-small"):
            held["go"] = gr.Button(t("page.library.make.go"), size="md", elem_id="library-bases-go")
        held["line"] = plain(elem_id="library-bases-line")
    return held


def wire(ui: Ui, held: dict[str, Any], filters: list[Any], shown: list[Any], show: Show) -> None:
    """`shown` is what `show` fills; what was made is opened in the library."""
    asked = [held[name] for name in ("way", "base", "tuned", "rank", "loras", "strengths", "name")]

    def turned(way: str) -> list[Any]:
        bakes = way == "bake"
        return [_about(ui, way), *[gr.update(visible=not bakes)] * 2, *[gr.update(visible=bakes)] * 2]

    def offered() -> list[Any]:
        cards = [card.name for card in ui.services.library.cards() if not card.broken]
        return [*[gr.update(choices=_known(ui))] * 2, gr.update(choices=cards)]

    def made(
        way: str, base: str | None, tuned: str | None, rank: str, loras: list[str], strengths: str, name: str, *f: str
    ) -> Iterator[list[Any]]:
        rest, far = [gr.skip()] * len(shown), [0, 1]
        notes: list[str] = []

        def note(code: str, params: dict[str, Any]) -> None:
            notes.append(ui.t(f"notes.{code}", **params))

        def tell(done: int, of: int) -> None:
            far[:] = [done, of]

        def work() -> str:
            home = ui.services.home
            if way == "bake":
                return lora_tools.bake(home, base or "", loras or [], strengths or "", name or "", tell, note)
            return lora_tools.extract(home, base or "", tuned or "", rank or "", name or "", tell, note)

        with ThreadPoolExecutor(1) as pool:
            done: Future[str] = pool.submit(work)
            while not wait([done], LOOK).done:
                yield [*rest, bar(far[0], far[1], ui.t("page.library.bases.bar")), gr.update(interactive=False)]
        try:
            new = done.result()
        except (Problem, OSError) as error:
            said = error.sentence(ui.lang) if isinstance(error, Problem) else ui.t("page.library.bases.failed", why=str(error))
            yield [*rest, problem(said), gr.update(interactive=True)]
            return
        said = " ".join([ui.t(f"page.library.bases.{way}_done", name=new), *notes])
        words = f'<p class="a-note" role="status">{esc(said)}</p>'
        yield [*(show(new, *f) if way == "extract" else rest), words, gr.update(interactive=True)]

    held["way"].change(
        turned, held["way"], [held[name] for name in ("about", "tuned", "rank", "loras", "strengths")], **PRIVATE
    )
    choices = [held[name] for name in ("base", "tuned", "loras")]
    for part in choices:
        part.focus(offered, [], choices, **PRIVATE)
    held["go"].click(made, [*asked, *filters], [*shown, held["line"], held["go"]], trigger_mode="once", **PRIVATE)


def _known(ui: Ui) -> list[tuple[str, str]]:
    """The bases on this disk."""
    return [(base.title_in(ui.lang), base.id) for base in ui.services.bases() if base.path]


def _about(ui: Ui, way: str) -> str:
    return f'<p class="a-note">{esc(ui.t(f"page.library.bases.{way}_about"))}</p>'
