"""What the Runs page shows of one run, read from its files a little further at each look. Used by jobs.py.

Reads only what was appended since the last look; half a line is left for the next one.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.core import events
from trainer.core.run_dir import RunDir
from trainer.core.texts import lookup, t
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.trainer.progress import ExponentialMean

POINTS = 400
TAIL = 8192
_SECRET = re.compile(r"\bhf_[A-Za-z0-9]{6,}")


@dataclass(frozen=True)
class RunView:
    """One run for showing."""

    row: RunRow
    losses: list[tuple[int, float, float]]
    """(step, loss, smoothed loss), at most 400 points."""
    samples: list[events.Sample]
    notes: list[events.Note]
    log_tail: str
    saved: list[events.Saved]
    stage: events.Stage | None
    facts: dict[str, Any]
    """Device, number format, attention and the like, as the trainer told at its start."""
    rates: dict[str, float]
    folder: Path
    judged: list[events.Validated] = field(default_factory=list)
    """What the pictures kept back said, in order of steps."""
    scored: list[events.Scored] = field(default_factory=list)
    """How like the set the test pictures are, in order of steps."""

    def note_texts(self, language: str | None = None) -> list[str]:
        """The notes as sentences."""
        return [note_text(note, language) for note in self.notes]


def note_text(note: events.Note, language: str | None = None) -> str:
    """A note as a sentence: the engine's from `notes`, those of the jobs from `notes_jobs`."""
    table = "notes_jobs" if lookup(f"notes_jobs.{note.code}", language) else "notes"
    return t(f"{table}.{note.code}", language=language, **note.params)


@dataclass
class RunReader:
    """Follows one run. Safe from any thread."""

    run: RunDir
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, loss, smoothed loss), every step."""
    samples: list[events.Sample] = field(default_factory=list)
    notes: list[events.Note] = field(default_factory=list)
    saved: list[events.Saved] = field(default_factory=list)
    judged: list[events.Validated] = field(default_factory=list)
    scored: dict[int, events.Scored] = field(default_factory=dict)
    stage: events.Stage | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    _offset: int = 0
    _smooth: ExponentialMean = field(default_factory=ExponentialMean)
    _points: list[tuple[int, float, float]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, row: RunRow) -> RunView:
        """Read on, and what is known now."""
        with self._lock:
            new_events, self._offset = events.read(self.run.events, self._offset)
            for event in new_events:
                self._apply(event)
            if self._points is None:
                self._points = downsample(self.losses)
            return RunView(
                row,
                self._points,
                list(self.samples),
                list(self.notes),
                log_tail(self.run.log),
                list(self.saved),
                self.stage,
                self.facts,
                self.rates,
                self.run.path,
                list(self.judged),
                [self.scored[step] for step in sorted(self.scored)],
            )

    def _apply(self, event: events.Event) -> None:
        if isinstance(event, events.Started):
            self._rewind(event.step)
            self.facts = event.facts
        elif isinstance(event, events.Step):
            if self.losses and event.step <= self.losses[-1][0]:  # went back to a checkpoint without a new start
                self._rewind(event.step - 1)
            if event.loss is not None:
                self.losses.append((event.step, event.loss, self._smooth.add(event.loss)))
            self.rates, self.stage, self._points = event.rates, None, None
        elif isinstance(event, events.Sample):
            self.samples = [s for s in self.samples if (s.step, s.index) != (event.step, event.index)] + [event]
        elif isinstance(event, events.Validated):
            self.judged.append(event)
        elif isinstance(event, events.Scored):
            self.scored[event.step] = event
        elif isinstance(event, events.Saved):
            self.saved = [s for s in self.saved if s.file != event.file] + [event]
        elif isinstance(event, events.Note):
            if not self.notes or (self.notes[-1].code, self.notes[-1].params) != (event.code, event.params):
                self.notes.append(event)
        elif isinstance(event, events.Stage):
            self.stage = event
        else:
            self.stage = None

    def _rewind(self, step: int) -> None:
        """Steps after `step` are made again."""
        kept = [point for point in self.losses if point[0] <= step]
        self._smooth, self._points = ExponentialMean(), None
        self.judged = [event for event in self.judged if event.step <= step]
        self.losses = [(number, loss, self._smooth.add(loss)) for number, loss, _ in kept]


def downsample(losses: list[tuple[int, float, float]], count: int = POINTS) -> list[tuple[int, float, float]]:
    """(step, mean loss, smoothed loss) for `count` pieces of equal length; the last step is always the last point."""
    if len(losses) <= count:
        return list(losses)
    result = []
    for piece in range(count):
        part = losses[piece * len(losses) // count : (piece + 1) * len(losses) // count]
        result.append((part[-1][0], sum(p[1] for p in part) / len(part), part[-1][2]))
    return result


def log_tail(path: Path, size: int = TAIL) -> str:
    """The end of the log from a whole line on, access tokens taken out, of a progress bar's states only the last."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            start = max(0, file.tell() - size)
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return ""
    if start:
        data = data.partition(b"\n")[2]
    text = _SECRET.sub("hf_…", data.decode("utf-8", "replace"))
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
