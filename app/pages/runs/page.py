"""Runs: what is training, how far, how long, with the pictures on the way. Layout and wiring; HTML: app/views/runs.py.

The page only reads: a timer asks the ledger every two seconds and sends the browser what changed. Buttons follow the
state of the run, never the last click. Which run is shown stands in the address (`?run=`): a reload finds it again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.pages.address import asked, told
from app.ui.format import esc
from app.ui.html import PRIVATE, on_load, plain, problem, signal, title
from app.ui.services import Ui
from app.views import likeness, parts, runs
from app.views.sets import thumb
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.jobs.ledger.states import ACTIVE

SECONDS = 2
LISTED = 60
"""Runs in the list; older ones stay on disk and their LoRAs in the library."""
WORKED = ("first", "up", "down", "pause", "resume", "save", "sample", "stop", "delete")
_READ: dict[str, Any] = {**PRIVATE, "concurrency_id": "look", "concurrency_limit": 8}


def build(ui: Ui) -> None:
    """The list on the left, the chosen run large beside it."""
    t = ui.t
    with gr.Column(elem_classes="a-page r-page"):
        title(ui, "runs")
        plain(runs.bell(t), elem_id="run-bell")
        with gr.Row(elem_classes="r-columns"):
            with gr.Column(elem_classes="r-main", scale=3, min_width=320):
                head = plain(elem_id="run-head")
                with gr.Row(elem_classes="r-buttons"):
                    buttons = {
                        what: gr.Button(t(f"page.runs.{what}"), visible=False, elem_id=f"run-{what}", size="md", scale=0)
                        for what in WORKED
                    }
                    undo = gr.Button(t("page.runs.undo"), visible=False, elem_id="run-undo", size="md", scale=0)
                message = plain(elem_id="run-message")
                with gr.Row(elem_classes="r-buttons", visible=False) as question:
                    as_it_is = gr.Button(t("page.runs.set_as_it_is"), elem_id="run-set-as-it-is", size="md", scale=0)
                    leave = gr.Button(t("page.runs.leave"), elem_id="run-leave", size="md", scale=0)
                pictures = plain(elem_id="run-pictures")
                loss = plain(elem_id="run-loss")
                score = plain(elem_id="run-score")
                notes = plain(elem_id="run-notes")
                with gr.Accordion(t("page.runs.log"), open=False, visible=False, elem_classes="r-fold") as fold:
                    log = plain(elem_id="run-log")
            listing = plain(elem_classes="r-side", elem_id="run-list")
    chosen, shown, trashed = gr.State(None), gr.State({}), gr.State(None)
    pick = signal("run")

    boxes = {"head": head, "pictures": pictures, "loss": loss, "score": score, "notes": notes, "log": log, "list": listing}
    seen = [*boxes.values(), *buttons.values(), fold, chosen, shown]

    def look(run_id: str | None, before: dict[str, str], request: gr.Request) -> list[Any]:
        """What has changed since `before`, for every part of the page."""
        return _look(ui, run_id or asked(request, "run"), before)

    def picked(said: str, before: dict[str, str]) -> list[Any]:
        return [*_look(ui, told(said), before), "", gr.update(visible=False)]

    def work(what: str, run_id: str | None, before: dict[str, str]) -> list[Any]:
        words, gone, asks = "", None, False
        try:
            if run_id:
                gone = _ask(ui, what, run_id)
        except Problem as error:
            words, asks = problem(error.sentence(ui.lang)), error.code == "resume_set_changed"
        if gone:
            words = f'<p class="a-note" role="status">{esc(t("page.runs.deleted", name=gone))}</p>'
        ui.services.shared.clear()  # the effect is seen at once
        after = _look(ui, None if gone else run_id, before)
        return [*after, words, gr.update(visible=bool(gone)), run_id if gone else None, gr.update(visible=asks)]

    def put_back(run_id: str | None, before: dict[str, str]) -> list[Any]:
        words = ""
        try:
            if run_id:
                ui.services.jobs.restore(run_id)
        except Problem as error:
            words = problem(error.sentence(ui.lang))
        ui.services.shared.clear()
        return [*_look(ui, run_id, before), words, gr.update(visible=False), None]

    timer = gr.Timer(SECONDS)
    gr.on([timer.tick], look, [chosen, shown], seen, trigger_mode="once", **_READ)
    on_load(look, [chosen, shown], seen)
    pick.input(picked, [pick, shown], [*seen, message, question], **PRIVATE)
    for what, button in buttons.items():
        button.click(
            lambda run_id, before, what=what: work(what, run_id, before),
            [chosen, shown], [*seen, message, undo, trashed, question], trigger_mode="once", **PRIVATE,
        )  # fmt: skip
    as_it_is.click(
        lambda run_id, before: work("set_as_it_is", run_id, before),
        [chosen, shown], [*seen, message, undo, trashed, question], trigger_mode="once", **PRIVATE,
    )  # fmt: skip
    leave.click(lambda: ["", gr.update(visible=False)], None, [message, question], **PRIVATE)
    undo.click(put_back, [trashed, shown], [*seen, message, undo, trashed], trigger_mode="once", **PRIVATE)


@dataclass(frozen=True)
class Snapshot:
    """The page of one run at one moment, shared by everybody who looks at it."""

    row: Any
    html: dict[str, str]
    offered: frozenset[str]
    digests: dict[str, str]
    """A short hash of every part: what a page keeps in order to know later what changed."""


def snapshot(ui: Ui, wanted: str | None) -> Snapshot:
    """What there is to show now. Pages in the same language that look at the same run share one for a second."""
    shared = ui.services.shared
    rows = shared.get("rows", ui.services.jobs.rows)[:LISTED]
    row = _choose(rows, wanted)

    def make() -> Snapshot:
        html, offered = _page(ui, rows, row), _offered(rows, row)
        digests = {name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for name, text in html.items()}
        digests["offered"] = " ".join(sorted(offered)) + (" queued" if row and row.state == "queued" else "")
        return Snapshot(row, html, offered, digests)

    return shared.get(("run", ui.lang, row and row.id), make)


def _look(ui: Ui, wanted: str | None, before: dict[str, str]) -> list[Any]:
    """New values for what changed and `gr.skip()` for the rest, so that nothing on the page moves without a reason."""
    shot = snapshot(ui, wanted)
    row, offered, now = shot.row, shot.offered, shot.digests
    values: list[Any] = [shot.html[name] if now[name] != before.get(name) else gr.skip() for name in
                         ("head", "pictures", "loss", "score", "notes", "log", "list")]  # fmt: skip
    if now["offered"] == before.get("offered"):
        values += [gr.skip()] * (len(WORKED) + 1)
    else:
        for what in WORKED:
            words = ui.t("page.runs.take_out" if what == "stop" and row and row.state == "queued" else f"page.runs.{what}")
            values.append(gr.update(visible=what in offered, value=words))
        values.append(gr.update(visible=row is not None))
    return [*values, row.id if row else None, now if now != before else gr.skip()]


def _offered(rows: list[Any], row: Any) -> frozenset[str]:
    """The buttons for a run among all of them."""
    if row is None:
        return frozenset()
    return runs.actions(row.state, row.position, sum(r.state == "queued" and r.device == row.device for r in rows))


def _choose(rows: list[Any], wanted: str | None) -> Any:
    """The run asked for, else the one at work, else the newest."""
    by_id = {row.id: row for row in rows}
    if wanted in by_id:
        return by_id[wanted]
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

    result = ui.href("preview", lora=Path(row.lora).stem) if row.lora and row.state in ("succeeded", "stopped") else None
    return {
        "head": _notice(ui) + runs.head(row, t, ui.lang, ahead=_ahead(rows, row), result=result),
        "pictures": runs.timeline(view.samples, file, t) if view.samples or row.state in ACTIVE else "",
        "loss": runs.loss(view.losses, row.total, t, view.judged),
        "score": likeness.table(view.scored, view.judged, view.samples, file, partial(_learnt, ui), t),
        "notes": runs.kept(view.saved, file, t) + runs.notes(view.note_texts(ui.lang), t),
        "log": runs.log(view.log_tail, t),
        "list": runs.listing(rows, row.id, {r.id: ui.file(_newest(ui, r.id)) for r in rows}, t, ui.href),
    }


def _learnt(ui: Ui, folder: str, name: str) -> str | None:
    """The address of a picture of a set by folder and file name, None where it is not here."""
    found = ui.services.set(folder)
    p = next((one for one in found.pictures() if one.file.name == name), None) if found else None
    return thumb(found, p) if found and p else None


def _notice(ui: Ui) -> str:
    """What was done to a damaged ledger, if anything."""
    said = ui.services.jobs.notice(ui.lang)
    return f'<p class="a-note" role="status">{esc(said)}</p>' if said else ""


def _ahead(rows: list[Any], row: Any) -> str:
    """The name of what a queued run waits for: the run before it in the queue, or the one at work."""
    if row.state != "queued":
        return ""
    before = [r for r in rows if r.device == row.device and r.id != row.id]
    waits = next((r for r in before if r.state == "queued" and r.position == (row.position or 0) - 1), None)
    waits = waits or next((r for r in before if r.state in ACTIVE), None)
    return waits.name if waits else ""


def _newest(ui: Ui, run_id: str) -> Path | None:
    """The run's newest test picture of its first prompt."""
    folder = RunDir(ui.services.home.runs / run_id).samples
    return max(folder.glob("*_p0.png"), default=None, key=lambda path: path.name) if folder.is_dir() else None


def _ask(ui: Ui, what: str, run_id: str) -> str | None:
    """Pass a person's wish to the jobs; the run's name where it went to the trash."""
    jobs = ui.services.jobs
    if what == "delete":
        name = next((row.name for row in jobs.rows() if row.id == run_id), run_id)
        jobs.delete(run_id)
        return name
    if what == "set_as_it_is":
        jobs.resume(run_id, set_as_it_is=True)
        return None
    if what in ("first", "up", "down"):
        jobs.reorder(run_id, what)
        return None
    {"pause": jobs.pause, "resume": jobs.resume, "stop": jobs.stop, "save": jobs.save_now, "sample": jobs.sample_now}[what](
        run_id
    )
    return None
