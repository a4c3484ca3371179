"""SIGTERM and Ctrl-C as a request to stop after the step. Used by trainer_process.py."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


class Signals:
    """SIGTERM and Ctrl-C ask for a stop after the step; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None
        self._received = False
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._on_signal)

    def on_stop(self, stop: Callable[[], None]) -> None:
        """What a signal does from now on; one that came before does it now."""
        self._stop = stop
        if self._received:
            stop()

    def _on_signal(self, number: int, _frame: Any) -> None:
        self._received = True
        if self._stop:
            self._stop()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
