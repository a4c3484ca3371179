"""Masks by machine as HTML: how far it is, what it did, which pictures got none and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.services import Ui
from app.views.images import grid
from app.views.parts import bar
from app.words import esc

if TYPE_CHECKING:
    from trainer.images.image_set import ImageSet
    from trainer.images.masking.job import MaskJob

__all__ = ["ended", "grid", "progress", "refused"]
NAMED = 8
"""Pictures named for one reason."""


def progress(ui: Ui, job: MaskJob) -> str:
    """The line while it works."""
    fetching = job.state == "fetching"
    done, of = (job.bytes_done, job.bytes_of) if fetching else (job.looked, job.of)
    key = job.state if job.state in ("starting", "fetching", "loading") else "writing"
    numbers = {"done": round(done / 1e6), "of": round(of / 1e6)} if fetching else {"done": done, "of": of}
    words = ui.t(f"page.images.write.{key}", **numbers)
    return f'<p class="a-note" role="status">{esc(words)}</p>{bar(done, of, ui.t("page.images.mask.bar"))}'


def ended(ui: Ui, job: MaskJob) -> str:
    """What was done, in words, for the line above the pictures."""
    if job.problem:
        return job.problem.sentence(ui.lang)
    words = ui.t(f"page.images.mask.{'cancelled' if job.state == 'cancelled' else 'done'}", count=len(job.made))
    return f"{words} {ui.t('page.images.mask.none', count=len(job.refused))}" if job.refused else words


def refused(ui: Ui, found: ImageSet, job: MaskJob) -> str:
    """Every reason once, with the pictures it holds for."""
    names = {picture.id: picture.original for picture in found.pictures()}
    reasons: dict[str, list[str]] = {}
    for id_, problem in job.refused.items():
        reasons.setdefault(problem.sentence(ui.lang), []).append(names.get(id_, id_))
    lines = ""
    for why, those in reasons.items():
        named = ", ".join(those[:NAMED]) + (" …" if len(those) > NAMED else "")
        lines += f'<li>{esc(why)} <span class="a-quiet">{esc(named)}</span></li>'
    return f'<ul class="i-refused">{lines}</ul>' if lines else ""
