"""What the Runs page answers: a method for each event. Wired in page.py.

The page only reads: it is sent what changed since its last look. Buttons follow the state of the run, never the last
click. Which run is shown stands in the address (`?run=`): a reload finds it again.
"""

from __future__ import annotations

import gradio as gr

from app.pages.address import asked, signal_value
from app.pages.answer import Answer
from app.pages.runs.layout import RunsParts
from app.pages.runs.snapshot import snapshot
from app.ui.format import esc
from app.ui.html import problem
from app.ui.services import Ui
from trainer.core.problem import Problem

Digests = dict[str, str]
"""`Snapshot.digests` of what the page shows."""


class RunsHandlers:
    """Each method answers with parts that are among its event's outputs."""

    def __init__(self, ui: Ui, parts: RunsParts) -> None:
        self.ui, self.parts = ui, parts

    def look(self, run_id: str | None, digests: Digests, request: gr.Request) -> Answer:
        """What has changed of the run shown, or of the one the address asks for."""
        return self._changes(run_id or asked(request, "run"), digests)

    def picked(self, signal: str, digests: Digests) -> Answer:
        """Another run of the list."""
        return {
            **self._changes(signal_value(signal), digests),
            self.parts.message: "",
            self.parts.question: gr.update(visible=False),
        }

    def pressed(self, action: str, run_id: str | None, digests: Digests) -> Answer:
        """One of the buttons of a run: `action` is its name."""
        message, gone, asks = "", None, False
        try:
            if run_id:
                gone = self._act(action, run_id)
        except Problem as error:
            message, asks = problem(error.sentence(self.ui.lang)), error.code == "resume_set_changed"
        if gone:
            message = f'<p class="a-note" role="status">{esc(self.ui.t("page.runs.deleted", name=gone))}</p>'
        self.ui.services.shared.clear()  # the effect is seen at once
        return {
            **self._changes(None if gone else run_id, digests),
            self.parts.message: message,
            self.parts.undo: gr.update(visible=bool(gone)),
            self.parts.trashed: run_id if gone else None,
            self.parts.question: gr.update(visible=asks),
        }

    def left(self) -> Answer:
        """The question is answered with no."""
        return {self.parts.message: "", self.parts.question: gr.update(visible=False)}

    def put_back(self, run_id: str | None, digests: Digests) -> Answer:
        """Take a run out of the trash."""
        message = ""
        try:
            if run_id:
                self.ui.services.jobs.restore(run_id)
        except Problem as error:
            message = problem(error.sentence(self.ui.lang))
        self.ui.services.shared.clear()
        return {
            **self._changes(run_id, digests),
            self.parts.message: message,
            self.parts.undo: gr.update(visible=False),
            self.parts.trashed: None,
        }

    def _changes(self, run_id: str | None, digests: Digests) -> Answer:
        """New values for what changed since `digests`, so that nothing on the page moves without a reason."""
        parts, shot = self.parts, snapshot(self.ui, run_id)
        row, now = shot.row, shot.digests
        answer: Answer = {part: shot.html[name] for name, part in parts.html.items() if now[name] != digests.get(name)}
        if now["offered"] != digests.get("offered"):
            for name, button in parts.buttons.items():
                key = "take_out" if name == "stop" and row and row.state == "queued" else name
                answer[button] = gr.update(visible=name in shot.offered, value=self.ui.t(f"page.runs.{key}"))
            answer[parts.log_fold] = gr.update(visible=row is not None)
        if now != digests:
            answer[parts.digests] = now
        return {**answer, parts.run: row.id if row else None}

    def _act(self, action: str, run_id: str) -> str | None:
        """Pass a person's wish to the jobs; the run's name where it went to the trash."""
        jobs = self.ui.services.jobs
        if action == "delete":
            name = next((row.name for row in jobs.rows() if row.id == run_id), run_id)
            jobs.delete(run_id)
            return name
        if action == "set_as_it_is":
            jobs.resume(run_id, set_as_it_is=True)
        elif action in ("first", "up", "down"):
            jobs.reorder(run_id, action)
        else:
            acts = {
                "pause": jobs.pause,
                "resume": jobs.resume,
                "stop": jobs.stop,
                "save": jobs.save_now,
                "sample": jobs.sample_now,
            }
            acts[action](run_id)
        return None
