"""How far a process is that works on a set's pictures, as HTML. Used where captions are written and masks are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.ui.format import esc
from app.ui.services import Ui
from app.views.parts import bar

if TYPE_CHECKING:
    from trainer.images.worker_job import WorkerJob


def progress(ui: Ui, job: WorkerJob, label: str) -> str:
    """The line while it works; `label` is the key of what the bar is called."""
    fetching = job.state == "fetching"
    done, of = (job.bytes_done, job.bytes_of) if fetching else (job.looked, job.of)
    key = job.state if job.state in ("starting", "fetching", "loading") else "writing"
    numbers = {"done": round(done / 1e6), "of": round(of / 1e6)} if fetching else {"done": done, "of": of}
    sentence = ui.t(f"page.images.write.{key}", **numbers)
    return f'<p class="a-note" role="status">{esc(sentence)}</p>{bar(done, of, ui.t(label))}'
