"""Drawing for the Preview page, step by step: what the table and the line below it should show now.

Called by app/pages/preview/handlers.py; the pictures are drawn by the resident worker (trainer/jobs/workers/preview.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.forms import preview
from app.ui.format import Translate, esc
from app.ui.html import problem
from app.ui.services import Ui
from app.views import preview as view
from trainer.adapters import inference_settings
from trainer.adapters.inference_settings import InferenceSettings
from trainer.core.problem import Problem
from trainer.library import drawings
from trainer.library.drawings import Drawing, Drawings

OFTEN = 0.4
"""Seconds between two changes of the line that says how far drawing is."""
LATEST = 12
HALF_KNOWN = ("lora_half_read", "lora_half_fits")
"""Problems of a LoRA of which less than half is known or fits; a person may draw with the rest (`partial`)."""


class LightTable(NamedTuple):
    """HTML of the strip, of the links that save its pictures, and of the list of the last drawings."""

    strip: str
    saves: str
    recent: str


@dataclass(frozen=True)
class PreviewUpdate:
    """HTML by part of the page; None where nothing changes."""

    names: tuple[str, ...]
    """The LoRAs drawn with."""
    strip: str | None = None
    saves: str | None = None
    recent: str | None = None
    progress: str | None = None
    kept: str | None = None
    half_known: str | None = None
    """The sentence where a LoRA is refused because less than half of it is known."""
    first: bool = False
    last: bool = False


def light_table(
    ui: Ui, form: dict[str, Any], drawing: Drawing | None, wanted: Sequence[float] = (), strength: float | None = None
) -> LightTable:
    """The light table for a drawing, or for none; `wanted` are the strengths still to come."""
    size = (int(form.get("width") or 1), int(form.get("height") or 1))
    empty, latest = ui.t("page.preview.empty"), Drawings(ui.services.home.previews).latest(LATEST)
    return LightTable(
        view.strip(drawing, ui.file, ui.t, wanted=wanted, size=size, strength=strength, empty=empty),
        view.downloads(drawing, ui.file, ui.t),
        view.recent(latest, drawing.key if drawing else None, ui.file, ui.t),
    )


def draw(ui: Ui, form: dict[str, Any], strengths: Sequence[float]) -> Iterator[PreviewUpdate]:
    """Draw the strengths that are not there yet. Raises `FieldError` before anything starts."""
    t, services = ui.t, ui.services
    job = preview.parse_form(form, services.bases(), services.library.cards(), t, ui.lang)
    if not job.names:
        strengths = (0.0,)
    store = Drawings(services.home.previews)
    drawing = store.begin(drawings.key(job.base.id, _stamp(ui, job), job.request), form)
    missing = [s for s in strengths if round(s, 2) not in drawing.frames]
    table = light_table(ui, form, drawing, strengths, strengths[0] if len(strengths) == 1 else None)
    if not missing:
        yield PreviewUpdate(job.names, *table, view.done(t, None, 0), "", first=True)
        yield PreviewUpdate(job.names, last=True)
        return
    yield PreviewUpdate(job.names, table.strip, table.saves, None, view.progress(t, event="progress"), "", first=True)
    request = {**job.request, "strengths": list(missing) if job.names else None}
    line = _ProgressLine(t, len(missing))
    notes = ""
    for event in services.preview.draw(job.base.id, request, drawing.folder):
        if event["event"] == "picture":
            strength = event.get("strength")
            drawing = store.add(drawing, 0.0 if strength is None else strength, Path(event["file"]))
            table = light_table(ui, form, drawing, strengths)
            line.drawn += 1
            yield PreviewUpdate(job.names, table.strip, table.saves, progress=line.html)
        elif event["event"] == "note":
            notes += f'<p class="a-note" role="status">{esc(t("notes." + event["code"], **event["params"]))}</p>'
        elif event["event"] in ("done", "cancelled", "failed"):
            recent = light_table(ui, form, drawing).recent if drawing.frames else None
            half_known = _half_known(ui, event)
            progress = notes if half_known else _end(ui, event, line.drawn) + notes
            yield PreviewUpdate(job.names, recent=recent, progress=progress, half_known=half_known, last=True)
        elif (html := line.update(event)) is not None:
            yield PreviewUpdate(job.names, progress=html)


class _ProgressLine:
    """The line under the pictures while the worker draws."""

    def __init__(self, t: Translate, wanted: int) -> None:
        self.t, self.wanted, self.drawn, self.html = t, wanted, 0, ""
        self._begun: float | None = None
        self._first_step, self._updated, self._training_waits = 0, 0.0, False

    def update(self, event: dict[str, Any]) -> str | None:
        """The line after an event, or None where it is too early to change it again."""
        kind, now = event["event"], time.monotonic()
        if kind == "queued":
            self.html = f'<p class="a-note" role="status">{esc(self.t("page.preview.queued", n=event["position"]))}</p>'
            return self.html
        if kind == "waiting":
            self._training_waits = True
        step, of = int(event.get("step", 0)), int(event.get("of", 0))
        if kind == "progress":
            if self._begun is None:
                self._begun, self._first_step = now, step
            if now - self._updated < OFTEN and step < of:
                return None
        self._updated = now
        steps = step - self._first_step
        left = (now - self._begun) / steps * (of - step) if self._begun is not None and steps >= 2 else None
        self.html = view.progress(
            self.t,
            event=kind,
            step=step,
            of=of,
            drawn=self.drawn,
            wanted=self.wanted,
            left=left,
            training_waits=self._training_waits,
        )
        return self.html


def _half_known(ui: Ui, event: dict[str, Any]) -> str | None:
    """The sentence of a refusal that a person may overrule on this page, else None."""
    if event["event"] != "failed" or event["code"] not in HALF_KNOWN:
        return None
    return ui.t(f"page.preview.{event['code']}", **event["params"])


def _end(ui: Ui, event: dict[str, Any], drawn: int) -> str:
    if event["event"] == "done":
        return view.done(ui.t, float(event.get("seconds", 0)), drawn)
    if event["event"] == "cancelled":
        return f'<p class="a-note" role="status">{esc(ui.t("page.preview.cancelled"))}</p>'
    return problem(Problem(event["code"], **event.get("params", {})).sentence(ui.lang))


def _stamp(ui: Ui, job: preview.PreviewJob) -> Any:
    """What changes when the base's files do, or the way its LoRAs are drawn."""
    base = job.base
    settings, _ = inference_settings.of_files((Path(use["path"]) for use in job.request["loras"]), base)
    vae = inference_settings.find_vae(settings, ui.services.home) if settings.vae else None
    files = (base.revision, base.path.stat().st_mtime_ns if base.path else None, base.size_bytes)
    return files if settings == InferenceSettings() else (*files, asdict(settings), vae and (vae, vae.stat().st_mtime_ns))
