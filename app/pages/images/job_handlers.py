"""What a `JobPanel` answers: a method for each event. Wired in page.py, once for captions and once for masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.pages.answer import Answer, Values
from app.pages.images.job_panel import JobPanel
from app.pages.images.layout import ImagesParts
from app.ui.html import problem as problem_line
from app.ui.services import Ui
from app.views import captioning, images
from app.views.working import progress
from trainer.core.problem import Problem
from trainer.images.set.image_set import ImageSet


class JobHandlers:
    """Each method answers with parts that are among its event's outputs. `show(set, picture, page, message, undo=)` is what
    the page answers with everything about a set."""

    def __init__(self, ui: Ui, panel: JobPanel, parts: ImagesParts, show: Callable[..., Answer]) -> None:
        self.ui, self.panel, self.parts, self.show = ui, panel, parts, show

    def captioner_chosen(self, name: str) -> Answer:
        """What the chosen captioner is for and costs."""
        return {self.panel.about: captioning.about(self.ui, captioning.named(name))}

    def started(self, values: Values) -> Answer:
        """Begin with every picture there is something to do with."""
        image_set, fields = self._set(values[self.parts.set_name]), self._fields(values)
        ids = self.panel.job.to_do(image_set, fields) if image_set else []
        return self._start(image_set, ids, fields, again=False)

    def one_started(self, values: Values) -> Answer:
        """Begin with the chosen picture alone; asked again, it gets something else."""
        id_ = values[self.parts.picture_id]
        return self._start(self._set(values[self.parts.set_name]), [id_] if id_ else [], self._fields(values), again=True)

    def cancelled(self, set_name: str) -> None:
        """End the job; the next look tells it."""
        image_set = self._set(set_name)
        job = self.panel.job.of(self.ui, image_set) if image_set else None
        if job:
            job.cancel()

    def look(self, set_name: str, picture_id: str, page: int, watched: int) -> Answer:
        """How far the job is, with what it made so far; its end once, with all the page shows."""
        image_set = self._set(set_name)
        job = self.panel.job.of(self.ui, image_set) if image_set else None
        if image_set is None or job is None or (job.ended and watched != id(job)):
            return self._idle("")  # another set was chosen
        if not job.ended:
            return {**self._busy(job), **self._made(image_set, job, picture_id, page)}
        summary, undo = self.panel.job.summary(self.ui, job), self.panel.job.changed(job)
        details = self.panel.job.details(self.ui, image_set, job)
        return {**self.show(set_name, picture_id, page, summary, undo=undo), **self._idle(details)}

    def _set(self, name: str) -> ImageSet | None:
        return self.ui.services.set(name)

    def _fields(self, values: Values) -> dict[str, Any]:
        return {name: values[field] for name, field in self.panel.fields.items()}

    def _start(self, image_set: ImageSet | None, ids: list[str], fields: dict[str, Any], *, again: bool) -> Answer:
        t, job = self.ui.t, self.panel.job
        if image_set is None or self.ui.services.is_example(image_set):
            return self._idle(problem_line(t("page.images.example")))
        if not ids:
            return self._idle(problem_line(t(f"page.images.{job.name}.nothing")))
        try:
            return self._busy(job.start(self.ui, image_set, ids, fields, again=again))
        except Problem as problem:
            running = job.of(self.ui, image_set)
            ticks = gr.update(active=running is not None and not running.ended)  # begun elsewhere: this page follows it
            return {**self._idle(problem_line(problem.sentence(self.ui.lang))), self.panel.timer: ticks}

    def _busy(self, job: Any) -> Answer:
        bar = progress(self.ui, job, f"page.images.{self.panel.job.name}.bar")
        return {**self._running(bar, runs=True), self.panel.watched: id(job)}

    def _idle(self, line: str) -> Answer:
        return {**self._running(line, runs=False), self.panel.watched: 0}

    def _running(self, line: str, *, runs: bool) -> Answer:
        """The line, which buttons can be pressed, and whether the page looks again."""
        return {
            self.panel.progress: line,
            self.panel.cancel: gr.update(visible=runs),
            self.panel.timer: gr.update(active=runs),
            **{button: gr.update(interactive=not runs) for button in self.panel.starters},
        }

    def _made(self, image_set: ImageSet, job: Any, picture_id: str, page: int) -> Answer:
        """The pictures with what they got by now, and the caption field where the job wrote the chosen one's."""
        pictures = image_set.pictures()
        answer: Answer = {self.parts.grid: images.grid(self.ui, image_set, pictures, page, picture_id)}
        chosen = next((picture for picture in pictures if picture.id == picture_id), None)
        caption = self.panel.job.caption(job, chosen) if chosen else None
        return answer if caption is None else {**answer, self.parts.caption: gr.update(value=caption)}
