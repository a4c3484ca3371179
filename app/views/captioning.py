"""Captions by machine as HTML: what a captioner is good for and costs, what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.ui.format import esc
from app.ui.services import Ui
from trainer.core.problem import Problem
from trainer.images.captioners import CAPTIONERS, Captioner

if TYPE_CHECKING:
    from trainer.images.captioners.job import CaptionJob


def named(name: str) -> Captioner:
    return next(one for one in CAPTIONERS if one.name == name)


def about(ui: Ui, captioner: Captioner) -> str:
    """What it is for; below, that it is ready, what fetching it costs, or what is missing."""
    if captioner.missing_package():
        state = Problem("captioner_package", package=captioner.package).sentence(ui.lang)
    elif captioner.folder(ui.services.home) is None:
        state = captioner.cost(ui.lang)
    else:
        state = ui.t("page.images.write.ready")
    return f'<p class="a-note">{esc(captioner.about(ui.lang))}<br>{esc(state)}</p>'


def ended(ui: Ui, job: CaptionJob) -> str:
    """What was done, in words, for the line above the pictures."""
    count = len(job.written)
    if job.state == "cancelled":
        sentence = ui.t("page.images.write.cancelled", count=count)
    else:
        sentence = ui.t("page.images.write.done", count=count) if count else ui.t("page.images.write.none")
    if job.problem:
        sentence = job.problem.sentence(ui.lang)
    if job.skipped:
        sentence += " " + ui.t("page.images.write.skipped", names=", ".join(job.skipped[:5]))
    return sentence
