"""The fold in which a machine works on a set's pictures: choose, start, watch, cancel. Used for captions and for masks.

Its two kinds are in image_jobs.py; job_handlers.py answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from app.pages.images.image_jobs import ImageJob
from app.ui.html import Field, markup
from app.ui.services import Ui

SECONDS = 1
"""Between two looks at how far a job is."""


@dataclass(frozen=True, eq=False)
class JobPanel:
    """Every part of the fold that an event reads or answers."""

    job: ImageJob
    fold: gr.Accordion
    about: gr.HTML
    fields: dict[str, Field]
    """What a start reads, by name."""
    start: gr.Button
    starters: list[gr.Button]
    """`start`, and the buttons elsewhere on the page that begin a job too."""
    cancel: gr.Button
    progress: gr.HTML
    watched: gr.State
    """The job this page saw running, by its `id`, or 0: its end is told once."""
    timer: gr.Timer
    """Ticks while a job runs."""

    @property
    def running(self) -> list[Block]:
        """What changes as a job begins, goes on and ends."""
        return [self.progress, self.cancel, *self.starters, self.watched, self.timer]


def build(ui: Ui, job: ImageJob, *starters: gr.Button) -> JobPanel:
    """The fold, closed and unseen; handlers.py shows it where there is a set of a person's own."""
    key = f"page.images.{job.name}"
    with gr.Accordion(ui.t(f"{key}.title"), open=False, visible=False, elem_classes="t-more") as fold:
        about, fields = job.build(ui)
        with gr.Row(elem_classes="i-ways"):
            start = gr.Button(ui.t(f"{key}.go"), size="sm", elem_id=f"{job.name}-go")
            cancel = _cancel(ui, job) if job.in_fold else None
        progress = _progress(job) if job.in_fold else None
    return JobPanel(
        job=job,
        fold=fold,
        about=about,
        fields=fields,
        start=start,
        starters=[start, *starters],
        progress=progress or _progress(job),
        cancel=cancel or _cancel(ui, job),
        watched=gr.State(0),
        timer=gr.Timer(SECONDS, active=False),
    )


def _progress(job: ImageJob) -> gr.HTML:
    return markup(elem_id=f"{job.name}-line")


def _cancel(ui: Ui, job: ImageJob) -> gr.Button:
    return gr.Button(ui.t("page.images.write.cancel"), size="sm", elem_id=f"{job.name}-cancel", visible=False)
