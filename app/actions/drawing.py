"""Drawing for the Preview page, told step by step: what the table and the line below it should show now.

Called by app/pages/preview/page.py; the pictures are drawn by the resident worker (trainer/jobs/workers/preview.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.forms import preview
from app.ui.format import esc
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


@dataclass(frozen=True)
class PreviewUpdate:
    """HTML by part of the page; None where nothing changes."""

    names: tuple[str, ...]
    strip: str | None = None
    saves: str | None = None
    recent: str | None = None
    progress: str | None = None
    kept: str | None = None
    first: bool = False
    last: bool = False


def table(
    ui: Ui, form: dict[str, Any], done: Drawing | None, wanted: Sequence[float] = (), strength: float | None = None
) -> list[str]:
    """Strip, downloads and list of the last drawings."""
    size = (int(form.get("width") or 1), int(form.get("height") or 1))
    return [
        view.strip(done, ui.file, ui.t, wanted=wanted, size=size, strength=strength, empty=ui.t("page.preview.empty")),
        view.downloads(done, ui.file, ui.t),
        view.recent(Drawings(ui.services.home.previews).latest(LATEST), done.key if done else None, ui.file, ui.t),
    ]


def draw(ui: Ui, form: dict[str, Any], strengths: Sequence[float]) -> Iterator[PreviewUpdate]:
    """Draw the strengths that are not there yet. Raises `draw_form.Wrong` before anything starts."""
    t, services = ui.t, ui.services
    want = preview.parse_form(form, services.bases(), services.library.cards(), t, ui.lang)
    if not want.names:
        strengths = (0.0,)
    store = Drawings(services.home.previews)
    known = store.begin(drawings.key(want.base.id, _stamp(ui, want), want.request), form)
    missing = [s for s in strengths if round(s, 2) not in known.frames]
    strength = strengths[0] if len(strengths) == 1 else None
    if not missing:
        strip, saves, recent = table(ui, form, known, strengths, strength)
        yield PreviewUpdate(want.names, strip, saves, recent, view.done(t, None, 0), "", first=True)
        yield PreviewUpdate(want.names, last=True)
        return
    strip, saves, recent = table(ui, form, known, strengths, strength)
    yield PreviewUpdate(want.names, strip, saves, None, view.progress(t, event="progress"), "", first=True)
    request = {**want.request, "strengths": list(missing) if want.names else None}
    line = _Line(t, len(missing))
    notes = ""
    for answer in services.preview.draw(want.base.id, request, known.folder):
        if answer["event"] == "picture":
            at = answer.get("strength")
            known = store.add(known, 0.0 if at is None else at, Path(answer["file"]))
            strip, saves, _ = table(ui, form, known, strengths)
            line.drawn += 1
            yield PreviewUpdate(want.names, strip, saves, progress=line.said)
        elif answer["event"] == "note":
            notes += f'<p class="a-note" role="status">{esc(t("notes." + answer["code"], **answer["params"]))}</p>'
        elif answer["event"] in ("done", "cancelled", "failed"):
            recent = table(ui, form, known)[2] if known.frames else None
            yield PreviewUpdate(want.names, recent=recent, progress=_end(ui, answer, line.drawn) + notes, last=True)
        elif (said := line.hear(answer)) is not None:
            yield PreviewUpdate(want.names, progress=said)


class _Line:
    """The line under the pictures while the worker draws."""

    def __init__(self, t: Any, wanted: int) -> None:
        self.t, self.wanted, self.drawn, self.said = t, wanted, 0, ""
        self._begun: float | None = None
        self._first, self._told, self._waits = 0, 0.0, False

    def hear(self, answer: dict[str, Any]) -> str | None:
        """New words for an answer, or None where it is too early to change them again."""
        event, now = answer["event"], time.monotonic()
        if event == "queued":
            self.said = f'<p class="a-note" role="status">{esc(self.t("page.preview.queued", n=answer["position"]))}</p>'
            return self.said
        if event == "waiting":
            self._waits = True
        step, of = int(answer.get("step", 0)), int(answer.get("of", 0))
        if event == "progress":
            if self._begun is None:
                self._begun, self._first = now, step
            if now - self._told < OFTEN and step < of:
                return None
        self._told = now
        made = step - self._first
        left = (now - self._begun) / made * (of - step) if self._begun is not None and made >= 2 else None
        self.said = view.progress(
            self.t,
            event=event,
            step=step,
            of=of,
            drawn=self.drawn,
            wanted=self.wanted,
            left=left,
            training_waits=self._waits,
        )
        return self.said


def _end(ui: Ui, answer: dict[str, Any], drawn: int) -> str:
    if answer["event"] == "done":
        return view.done(ui.t, float(answer.get("seconds", 0)), drawn)
    if answer["event"] == "cancelled":
        return f'<p class="a-note" role="status">{esc(ui.t("page.preview.cancelled"))}</p>'
    return problem(Problem(answer["code"], **answer.get("params", {})).sentence(ui.lang))


def _stamp(ui: Ui, want: preview.PreviewJob) -> Any:
    """What changes when the base's files do, or the way its LoRAs are drawn."""
    base = want.base
    found, _ = inference_settings.of_files((Path(use["path"]) for use in want.request["loras"]), base)
    vae = inference_settings.find_vae(found, ui.services.home) if found.vae else None
    files = (base.revision, base.path.stat().st_mtime_ns if base.path else None, base.size_bytes)
    return files if found == InferenceSettings() else (*files, asdict(found), vae and (vae, vae.stat().st_mtime_ns))
