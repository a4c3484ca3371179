"""The fold on the Images page in which a machine writes captions: choose, start, watch, cancel, take back.

Called by images.py. The work is done by a process of its own (trainer/images/captioners/job.py); this only looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.ui.html import EVENT_DEFAULTS, markup
from app.ui.html import problem as problem_line
from app.ui.services import Ui
from app.views import captioning as view
from app.views.images import grid
from app.views.working import progress
from trainer.core.problem import Problem
from trainer.images import captioners
from trainer.images.captioners.job import CaptionJob
from trainer.images.captioners.writing import to_caption
from trainer.images.set.image_set import ImageSet

Show = Callable[..., list[Any]]
"""`images.show`: everything about a set and the picture chosen in it."""


@dataclass(frozen=True)
class CaptionPanel:
    """What `wire` needs of the fold."""

    whole: Any
    which: Any
    about: Any
    prefix: Any
    overwrite: Any
    go: Any
    cancel: Any
    line: Any


def build(ui: Ui) -> CaptionPanel:
    """The fold, closed; images.py shows it where there is a set of a person's own."""
    t = ui.t
    with gr.Accordion(t("page.images.write.title"), open=False, visible=False, elem_classes="t-more") as whole:
        choices = [(one.title(ui.lang), one.name) for one in captioners.CAPTIONERS]
        which = gr.Radio(
            choices, value=choices[0][1], label=t("page.images.write.which"), elem_classes="a-segments",
            elem_id="write-which",
        )  # fmt: skip
        about = markup(view.about(ui, captioners.CAPTIONERS[0]), elem_id="write-about")
        with gr.Row(elem_classes="a-fields"):
            prefix = gr.Textbox(
                label=t("page.images.write.prefix"), info=t("page.images.write.prefix_hint"), max_lines=1,
                elem_id="write-prefix",
            )  # fmt: skip
            overwrite = gr.Checkbox(label=t("page.images.write.overwrite"), elem_id="write-overwrite")
        with gr.Row(elem_classes="i-ways"):
            go = gr.Button(t("page.images.write.go"), size="sm", elem_id="write-go")
    line = markup(elem_id="write-line")  # outside the fold: one picture may be asked about while it is closed
    cancel = gr.Button(t("page.images.write.cancel"), size="sm", elem_id="write-cancel", visible=False)
    return CaptionPanel(whole, which, about, prefix, overwrite, go, cancel, line)


def wire(
    ui: Ui, fold: CaptionPanel, here: tuple[Any, Any, Any], whole: list[Any], caption: Any, again: Any, show: Show
) -> None:
    """`here` are the set, the chosen picture and the leaf; `whole` what `show` fills; `again` asks for one picture."""
    watched = gr.State(0)
    """The job this page saw running, by its `id`: its end is told once."""
    told = [fold.line, fold.cancel, fold.go, again, watched]

    def begin(found: ImageSet | None, ids: list[str], which: str, prefix: str, again_: bool) -> list[Any]:
        if found is None or ui.services.is_example(found):
            return _line(problem_line(ui.t("page.images.example")), False, 0)
        if not ids:
            return _line(problem_line(ui.t("page.images.write.nothing")), False, 0)
        try:
            job = ui.services.captions.start(found, which, ids, prefix=prefix, again=again_)
        except Problem as problem:
            return _line(problem_line(problem.sentence(ui.lang)), False, 0)
        return _line(progress(ui, job, "page.images.write.bar"), True, id(job))

    def write(name: str, which: str, prefix: str, overwrite: bool) -> list[Any]:
        found = ui.services.set(name)
        ids = [one.id for one in to_caption(found.pictures(), overwrite)] if found else []
        return begin(found, ids, which, prefix, False)

    def suggest(name: str, id_: str, which: str, prefix: str) -> list[Any]:
        return begin(ui.services.set(name), [id_] if id_ else [], which, prefix, True)

    def stop(name: str) -> None:
        found = ui.services.set(name)
        job = ui.services.captions.of(found) if found else None
        if job:
            job.cancel()

    def look(name: str, id_: str, leaf: int, seen: int) -> list[Any]:
        found = ui.services.set(name)
        job = ui.services.captions.of(found) if found else None
        if found is None or job is None or (job.ended and seen != id(job)):
            return [gr.skip()] * (len(told) + len(whole))
        if not job.ended:
            line = progress(ui, job, "page.images.write.bar")
            return [*_line(line, True, id(job)), *_written(ui, found, job, id_, leaf, whole, caption)]
        said = view.ended(ui, job)
        shown = show(name, id_, leaf, said, undo=bool(job.written))
        line = problem_line(job.problem.sentence(ui.lang)) if job.problem else ""
        return [*_line(line, False, 0), *shown]

    current, chosen, leaf = here
    fold.which.change(lambda name: view.about(ui, view.named(name)), [fold.which], [fold.about], **EVENT_DEFAULTS)
    fold.go.click(write, [current, fold.which, fold.prefix, fold.overwrite], told, **EVENT_DEFAULTS)
    again.click(suggest, [current, chosen, fold.which, fold.prefix], told, **EVENT_DEFAULTS)
    fold.cancel.click(stop, [current], None, **EVENT_DEFAULTS)
    gr.Timer(1).tick(look, [current, chosen, leaf, watched], [*told, *whole], **EVENT_DEFAULTS)


def _line(line: str, runs: bool, seen: int) -> list[Any]:
    """The line, and which buttons can be pressed."""
    return [line, gr.update(visible=runs), gr.update(interactive=not runs), gr.update(interactive=not runs), seen]


def _written(ui: Ui, found: ImageSet, job: CaptionJob, id_: str, leaf: int, whole: list[Any], caption: Any) -> list[Any]:
    """The pictures with their new captions, and the caption field where the job wrote the chosen one; the rest stays."""
    pictures = found.pictures()
    own = next((one.caption for one in pictures if one.id == id_ and job.written.get(id_) == one.caption), None)
    fill: list[Any] = [gr.skip()] * len(whole)
    for place, one in enumerate(whole):
        if one.elem_id == "images-grid":
            fill[place] = grid(ui, found, pictures, leaf, id_)
        elif one is caption and own is not None:
            fill[place] = gr.update(value=own)
    return fill
