"""A ledger in trouble ends no training: what its writing raises is said in the log and suppressed. Used by
trainer_process.py and foreground.py.

Locked for long, damaged beyond its copy, on a full disk: the supervisor reads the end in the events.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.core import files
from trainer.core.problem import Problem

AGAIN = 60.0
"""Seconds after which the same trouble is said again: it is met between any two steps."""


class Trouble:
    """Remembers what one process has said of it, so that the log is not flooded."""

    def __init__(self) -> None:
        self._last, self._said = "", 0.0

    @contextmanager
    def suppressed(self) -> Iterator[None]:
        """Suppress what the ledger raises in the block: Problem, sqlite3.Error, OSError. It is said once a minute."""
        try:
            yield
        except (Problem, sqlite3.Error, OSError) as error:
            text, now = str(error), time.monotonic()
            if text != self._last or now - self._said > AGAIN:
                self._last, self._said = text, now
                files.complain(f"The ledger could not be written: {error}")
