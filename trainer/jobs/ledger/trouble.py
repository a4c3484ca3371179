"""A ledger in trouble ends no training: what its writing raises is said in the log and passed over. Used by child.py.

Locked for long, damaged beyond its copy, on a full disk: the supervisor reads the end in the events.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from trainer.core.problem import Problem

AGAIN = 60.0
"""Seconds after which the same trouble is said again: it is met between any two steps."""


class Trouble:
    """What one process has said of it."""

    def __init__(self) -> None:
        self._last, self._said = "", 0.0

    @contextmanager
    def passed_over(self) -> Iterator[None]:
        """Whatever is done inside may fail for the ledger's sake."""
        try:
            yield
        except (Problem, sqlite3.Error, OSError) as error:
            text, now = str(error), time.monotonic()
            if text != self._last or now - self._said > AGAIN:
                self._last, self._said = text, now
                say(f"The ledger could not be written: {error}")


def say(text: str) -> None:
    """A line for the log, where there is room for it."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
