"""The fold on the Images page in which masks are made: choose, start, watch, cancel, take back.

Called by images.py. The work is done by a process of its own (trainer/images/masking/job.py); this only looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.ui.html import EVENT_DEFAULTS, markup
from app.ui.html import problem as problem_line
from app.ui.services import Ui
from app.views import masking as view
from app.views.images import grid
from app.views.working import progress
from trainer.core.problem import Problem
from trainer.images import masking

Show = Callable[..., list[Any]]
"""`images.show`: everything about a set and the picture chosen in it."""


@dataclass(frozen=True)
class MaskPanel:
    """What `wire` needs of the fold."""

    whole: Any
    which: Any
    word: Any
    again: Any
    go: Any
    cancel: Any
    line: Any


def build(ui: Ui) -> MaskPanel:
    """The fold, closed; images.py shows it where there is a set of a person's own."""
    t = ui.t
    with gr.Accordion(t("page.images.mask.title"), open=False, visible=False, elem_classes="t-more") as whole:
        markup(f"<p class='a-note'>{t('page.images.mask.about')}</p>")
        with gr.Row(elem_classes="a-fields"):
            which = gr.Textbox(
                value=masking.PLAIN, label=t("page.images.mask.which"), info=t("page.images.mask.which_hint"), max_lines=1,
                elem_id="mask-which",
            )  # fmt: skip
            word = gr.Textbox(
                label=t("page.images.mask.word"), info=t("page.images.mask.word_hint"), max_lines=1, elem_id="mask-word"
            )
        again = gr.Checkbox(label=t("page.images.mask.again"), elem_id="mask-again")
        gr.Checkbox(value=True, label=t("page.images.mask.film"), interactive=True, elem_id="mask-film")  # heard by CSS
        with gr.Row(elem_classes="i-ways"):
            go = gr.Button(t("page.images.mask.go"), size="sm", elem_id="mask-go")
            cancel = gr.Button(t("page.images.write.cancel"), size="sm", elem_id="mask-cancel", visible=False)
        line = markup(elem_id="mask-line")
    return MaskPanel(whole, which, word, again, go, cancel, line)


def wire(ui: Ui, fold: MaskPanel, here: tuple[Any, Any, Any], whole: list[Any], show: Show) -> None:
    """`here` are the set, the chosen picture and the leaf; `whole` what `show` fills."""
    watched = gr.State(0)
    """The job this page saw running, by its `id`: its end is told once."""
    told = [fold.line, fold.cancel, fold.go, watched]

    def make(name: str, which: str, word: str, again: bool) -> list[Any]:
        found = ui.services.set(name)
        if found is None or ui.services.is_example(found):
            return _line(problem_line(ui.t("page.images.example")), False, 0)
        ids = [one.id for one in found.unmasked(again)]
        if not ids:
            return _line(problem_line(ui.t("page.images.mask.nothing")), False, 0)
        try:
            masking.find(ui.services.home, which.strip())
            job = ui.services.masks.start(found, which.strip(), ids, word.strip())
        except Problem as problem:
            return _line(problem_line(problem.sentence(ui.lang)), False, 0)
        return _line(progress(ui, job, "page.images.mask.bar"), True, id(job))

    def stop(name: str) -> None:
        found = ui.services.set(name)
        job = ui.services.masks.of(found) if found else None
        if job:
            job.cancel()

    def look(name: str, id_: str, leaf: int, seen: int) -> list[Any]:
        found = ui.services.set(name)
        job = ui.services.masks.of(found) if found else None
        if found is None or job is None or (job.ended and seen != id(job)):
            return [gr.skip()] * (len(told) + len(whole))
        if not job.ended:
            return [*_line(progress(ui, job, "page.images.mask.bar"), True, id(job)), *_grid(found, id_, leaf)]
        shown = show(name, id_, leaf, view.ended(ui, job), undo=bool(job.made))
        return [*_line(view.refused(ui, found, job), False, 0), *shown]

    def _grid(found: Any, id_: str, leaf: int) -> list[Any]:
        """The pictures with the masks there are by now; the rest stays."""
        html = grid(ui, found, found.pictures(), leaf, id_)
        return [html if one.elem_id == "images-grid" else gr.skip() for one in whole]

    current, chosen, leaf = here
    fold.go.click(make, [current, fold.which, fold.word, fold.again], told, **EVENT_DEFAULTS)
    fold.cancel.click(stop, [current], None, **EVENT_DEFAULTS)
    gr.Timer(1).tick(look, [current, chosen, leaf, watched], [*told, *whole], **EVENT_DEFAULTS)


def _line(line: str, runs: bool, seen: int) -> list[Any]:
    """The line, and which buttons can be pressed."""
    return [line, gr.update(visible=runs), gr.update(interactive=not runs), seen]
