"""Masks by machine as HTML: what it did, which pictures got none and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.ui.format import esc
from app.ui.services import Ui

if TYPE_CHECKING:
    from trainer.images.masking.job import MaskJob
    from trainer.images.set.image_set import ImageSet

NAMED = 8
"""Pictures named for one reason."""


def ended(ui: Ui, job: MaskJob) -> str:
    """What was done, in words, for the line above the pictures."""
    if job.problem:
        return job.problem.sentence(ui.lang)
    sentence = ui.t(f"page.images.mask.{'cancelled' if job.state == 'cancelled' else 'done'}", count=len(job.made))
    return f"{sentence} {ui.t('page.images.mask.none', count=len(job.refused))}" if job.refused else sentence


def refused(ui: Ui, image_set: ImageSet, job: MaskJob) -> str:
    """Every reason once, with the pictures it holds for."""
    names = {picture.id: picture.original for picture in image_set.pictures()}
    reasons: dict[str, list[str]] = {}
    for id_, problem in job.refused.items():
        reasons.setdefault(problem.sentence(ui.lang), []).append(names.get(id_, id_))
    lines = ""
    for why, those in reasons.items():
        named = ", ".join(those[:NAMED]) + (" …" if len(those) > NAMED else "")
        lines += f'<li>{esc(why)} <span class="a-quiet">{esc(named)}</span></li>'
    return f'<ul class="i-refused">{lines}</ul>' if lines else ""
