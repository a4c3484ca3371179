"""Collects what the steps gave and tells it. On a GPU losses are read back in batches, so that no step waits for the host."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from trainer.core import events
from trainer.engine.speed.device import peak_memory


class StepMetrics:
    """The losses of a run as `step` events; counts steps skipped in a row."""

    def __init__(self, total: int, tell: Callable[[events.Event], None], device: torch.device) -> None:
        self.total, self.tell, self.device = total, tell, device
        self.waiting: list[tuple[int, torch.Tensor, torch.Tensor, dict[str, float]]] = []
        self.skipped_in_row = 0
        self.skipped = 0
        self.last_loss: float | None = None
        self._told = time.perf_counter()
        self._seconds = 0.0

    def add(self, step: int, loss: torch.Tensor, finite: torch.Tensor, rates: dict[str, float], seconds: float) -> int:
        """Take one step in; returns how many steps in a row were skipped, as far as known."""
        self.waiting.append((step, loss, finite, rates))
        self._seconds += seconds
        if self.device.type != "cuda" or len(self.waiting) >= 10 or time.perf_counter() - self._told > 1:
            self.flush()
        return self.skipped_in_row

    def flush(self) -> None:
        """Read the waiting losses back and tell them."""
        if not self.waiting:
            return
        begun = time.perf_counter()
        losses = torch.stack([w[1] for w in self.waiting]).float().tolist()  # the one host sync
        finites = torch.stack([w[2] for w in self.waiting]).tolist()
        each = (self._seconds + time.perf_counter() - begun) / len(self.waiting)
        memory = peak_memory(self.device)
        for (step, _, _, rates), loss, finite in zip(self.waiting, losses, finites, strict=True):
            good = bool(finite) and math.isfinite(loss)
            self.skipped_in_row = 0 if good else self.skipped_in_row + 1
            self.skipped += not good
            self.last_loss = loss if good else self.last_loss
            self.tell(
                events.Step(step=step, total=self.total, loss=loss if good else None, rates=rates, seconds=each, memory=memory)
            )
        self.waiting, self._told, self._seconds = [], time.perf_counter(), 0.0

    def restart(self) -> None:
        """After a roll back: what was skipped before counts no more."""
        self.flush()
        self.skipped_in_row = 0
