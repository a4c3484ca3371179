"""What the events of a run come to: step, smoothed loss, seconds a step, time left as a range. Kept by trainer_process.py.

Only durations measured by the engine and the monotonic clock count, so a change of the clock spoils nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

from trainer.core import events

SMOOTHING = 0.95
WINDOW = 64
_NOT_WORK = ("waiting", "loading", "drawing", "encoding", "disk")


class ExponentialMean:
    """An exponential mean that starts right: divided by the weight it has seen (Kingma & Ba 2015, section 3)."""

    def __init__(self, keep: float = SMOOTHING) -> None:
        self.keep, self._sum, self._weight = keep, 0.0, 0.0

    def add(self, value: float) -> float:
        """Take `value` in; the mean now."""
        self._sum = self.keep * self._sum + (1 - self.keep) * value
        self._weight = self.keep * self._weight + (1 - self.keep)
        return self._sum / self._weight


class Progress:
    """Takes events in; `summary` is what the ledger shows. Used from two threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock, self._loss = clock, threading.Lock(), ExponentialMean()
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._values: dict[str, Any] = {}
        self._last = clock()
        self._mark: float | None = None
        self._elapsed = self._pure = 0.0
        self._counted = 0
        self.changed = False

    def update(self, event: events.Event) -> None:
        """Count one event."""
        with self._lock:
            now = self._last = self._clock()
            self.changed = True
            if isinstance(event, events.Started):
                self._values |= {"step": event.step, "total": event.total}
            elif isinstance(event, events.Stage):
                self._values |= {"stage": event.name, "stage_done": event.done, "stage_of": event.of}
                if event.name in _NOT_WORK:
                    self._mark = None
            elif isinstance(event, events.Paused):
                self._mark = None
            elif isinstance(event, events.Step):
                self._step(event, now)
            elif (isinstance(event, events.Saved) and event.final) or isinstance(event, events.Finished):
                self._values["lora"] = event.file

    def _step(self, event: events.Step, now: float) -> None:
        self._seconds.append(event.seconds)
        if self._mark is not None:
            self._elapsed += now - self._mark
            self._pure += event.seconds
            self._counted += 1
        self._mark = now
        self._values |= {
            "step": event.step,
            "total": event.total,
            "memory": event.memory,
            "last_step": time.time(),
            "stage": "training",
            "stage_done": 0,
            "stage_of": 0,
        }
        if event.loss is not None:
            self._values["loss"] = self._loss.add(event.loss)
        self._values["rate"] = middle = median(self._seconds)
        remaining = max(0, event.total - event.step)
        # Twice the median absolute deviation on either side, never under 5 % nor over 50 %; saves and samples on top.
        spread = min(max(2 * median(abs(s - middle) for s in self._seconds), 0.05 * middle), 0.5 * middle)
        besides = max(0.0, self._elapsed - self._pure) / self._counted if self._counted else 0.0
        self._values["eta_low"] = remaining * (middle - spread)
        self._values["eta_high"] = remaining * (middle + spread + besides)

    def summary(self) -> dict[str, Any]:
        """The columns of the ledger."""
        with self._lock:
            self.changed = False
            return {**self._values, "quiet": self._clock() - self._last}
