"""The Runs page of one run at one moment, as HTML part by part; pages that show the same run share it. Called by handlers.py.

The HTML itself is app/views/runs.py; what happened is read from the ledger and the run's folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from app.ui.format import esc
from app.ui.services import Ui
from app.views import likeness, parts, runs
from app.views.sets import thumb
from trainer.core.run_dir import RunDir
from trainer.jobs.ledger.states import ACTIVE

LISTED = 60
"""Runs in the list; older ones stay on disk and their LoRAs in the library."""


@dataclass(frozen=True)
class Snapshot:
    """The page of one run at one moment, shared by everybody who looks at it."""

    row: Any
    html: dict[str, str]
    offered: frozenset[str]
    digests: dict[str, str]
    """A short hash of every part: what a page keeps in order to know later what changed."""


def snapshot(ui: Ui, run_id: str | None) -> Snapshot:
    """What there is to show now. Pages in the same language that look at the same run share one for a second."""
    shared = ui.services.shared
    rows = shared.get("rows", ui.services.jobs.rows)[:LISTED]
    row = _choose(rows, run_id)

    def take() -> Snapshot:
        html, offered = _page(ui, rows, row), _offered(rows, row)
        digests = {name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for name, text in html.items()}
        digests["offered"] = " ".join(sorted(offered)) + (" queued" if row and row.state == "queued" else "")
        return Snapshot(row, html, offered, digests)

    return shared.get(("run", ui.lang, row and row.id), take)


def _offered(rows: list[Any], row: Any) -> frozenset[str]:
    """The buttons for a run among all of them."""
    if row is None:
        return frozenset()
    return runs.actions(row.state, row.position, sum(r.state == "queued" and r.device == row.device for r in rows))


def _choose(rows: list[Any], run_id: str | None) -> Any:
    """The run asked for, else the one at work, else the newest."""
    by_id = {row.id: row for row in rows}
    if run_id in by_id:
        return by_id[run_id]
    return next((row for row in rows if row.state in ACTIVE), rows[0] if rows else None)


def _page(ui: Ui, rows: list[Any], row: Any) -> dict[str, str]:
    """The whole page as HTML, part by part."""
    t = ui.t
    if row is None:
        empty = parts.empty(t("page.runs.empty"), t("page.runs.empty_text"), ui.href("train"), t("page.runs.start_one"))
        return {"head": empty, "pictures": "", "loss": "", "score": "", "notes": "", "log": "", "list": ""}
    view = ui.services.jobs.follow(row.id)
    row = view.row

    def file(name: str) -> str | None:
        return ui.file(view.folder / name)

    pending = RunDir(view.folder).pending() if row.state in ("running", "pausing") else ()
    result = ui.href("preview", lora=Path(row.lora).stem) if row.lora and row.state in ("succeeded", "stopped") else None
    return {
        "head": _notice(ui) + runs.head(row, t, ui.lang, ahead=_ahead(rows, row), result=result, pending=pending),
        "pictures": runs.timeline(view.samples, file, t) if view.samples or row.state in ACTIVE else "",
        "loss": runs.loss(view.losses, row.total, t, view.judged),
        "score": likeness.table(view.scored, view.judged, view.samples, file, partial(_training_picture, ui), t),
        "notes": runs.kept(view.saved, file, t) + runs.notes(view.note_texts(ui.lang), t),
        "log": runs.log(view.log_tail, t),
        "list": runs.listing(rows, row.id, {r.id: ui.file(_newest(ui, r.id)) for r in rows}, t, ui.href),
    }


def _training_picture(ui: Ui, folder: str, name: str) -> str | None:
    """The address of a picture of a set by folder and file name, None where it is not here."""
    image_set = ui.services.set(folder)
    picture = next((p for p in image_set.pictures() if p.file.name == name), None) if image_set else None
    return thumb(image_set, picture) if image_set and picture else None


def _notice(ui: Ui) -> str:
    """What was done to a damaged ledger, if anything."""
    notice = ui.services.jobs.notice(ui.lang)
    return f'<p class="a-note" role="status">{esc(notice)}</p>' if notice else ""


def _ahead(rows: list[Any], row: Any) -> str:
    """The name of what a queued run waits for: the run before it in the queue, or the one at work."""
    if row.state != "queued":
        return ""
    before = [r for r in rows if r.device == row.device and r.id != row.id]
    ahead = next((r for r in before if r.state == "queued" and r.position == (row.position or 0) - 1), None)
    ahead = ahead or next((r for r in before if r.state in ACTIVE), None)
    return ahead.name if ahead else ""


def _newest(ui: Ui, run_id: str) -> Path | None:
    """The run's newest test picture of its first prompt."""
    folder = RunDir(ui.services.home.runs / run_id).samples
    return max(folder.glob("*_p0.png"), default=None, key=lambda path: path.name) if folder.is_dir() else None
