"""What in a set will hurt the result, and what to do about it. Called by the page, `check`, and every run's start.

Each kind of finding is one small function in findings.py over the same evidence; this file gathers it and sums up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from trainer.images.decoding import decode
from trainer.images.report import findings, measures
from trainer.images.report.finding import KINDS, Evidence, Finding, Severity
from trainer.images.report.measures import Measures
from trainer.images.set.image_set import ImageSet
from trainer.images.set.picture import Picture

_ORDER = {"blocks": 0, "hurts": 1, "hint": 2}
_COST = {"blocks": 60.0, "hurts": 45.0, "hint": 6.0}


@dataclass(frozen=True)
class Report:
    """A set's report: how many pictures, how good (0..100), and what was found, worst first."""

    pictures: int
    score: int
    findings: tuple[Finding, ...]

    @property
    def blocked(self) -> bool:
        """Whether training cannot start like this."""
        return any(finding.severity == "blocks" for finding in self.findings)

    def as_json(self, language: str | None = None) -> dict[str, Any]:
        """What `check --json` prints and a run keeps as report.json."""
        return {
            "pictures": self.pictures,
            "score": self.score,
            "findings": [finding.as_json(language) for finding in self.findings],
        }


def report(
    image_set: ImageSet,
    resolution: int = 512,
    kind: str | None = None,
    trigger: str | None = None,
    *,
    step: int = 64,
    upscale: bool = True,
    ratio: float = 2.0,
    dense: bool = True,
    further: Sequence[ImageSet] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Look at every picture of the set, and of the `further` folders trained with it, together. Kind and trigger default to
    what the set says; measurements are remembered."""
    meta = image_set.meta
    pictures, bad = image_set.scan()
    for number, other in enumerate(further, 1):
        more, broken = other.scan()
        pictures += [replace(picture, id=f"{number}/{picture.id}") for picture in more]
        bad += broken
    measured: dict[str, Measures] = {}
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1)), thread_name_prefix="report") as pool:
        for done, (picture, result) in enumerate(zip(pictures, pool.map(_measure, pictures), strict=True), 1):
            if isinstance(result, Measures):
                measured[picture.id] = result
            else:
                bad.append((picture.file, result))
            if progress:
                progress(done, len(pictures), picture.original)
    for other in (image_set, *further):
        other.facts.save()
    evidence = Evidence(
        folder=image_set.folder,
        pictures=tuple(picture for picture in pictures if picture.id in measured),
        measured=measured,
        unreadable=tuple(bad),
        resolution=resolution,
        kind=kind or meta.kind,
        trigger=meta.trigger if trigger is None else trigger,
        step=step,
        upscale=upscale,
        ratio=ratio,
        dense=dense,
    )
    result = [finding for check in findings.ALL for finding in check(evidence)]
    result.sort(key=lambda finding: (_ORDER[finding.severity], KINDS.index(finding.kind)))
    return Report(len(evidence.pictures), score(result, len(evidence.pictures)), tuple(result))


def score(findings_: list[Finding], count: int) -> int:
    """100 less what each finding costs: what hurts costs by its share of the set, each kind at most once in full."""
    if not count:
        return 0
    worst: dict[tuple[str, Severity], float] = {}
    for finding in findings_:
        key = (finding.kind, finding.severity)
        worst[key] = min(1.0, worst.get(key, 0.0) + finding.share)
    lost = 0.0
    for (_, severity), share in worst.items():
        lost += _COST[severity] * (max(share, 0.5) if severity == "blocks" else share)
    return max(0, round(100 - lost))


def _measure(picture: Picture) -> Measures | decode.Refused:
    try:
        return measures.measure(picture.file, picture.facts)
    except decode.Refused as refusal:
        return refusal
    except OSError:
        return decode.Refused("unreadable_file")
