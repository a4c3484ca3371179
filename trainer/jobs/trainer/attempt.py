"""Which process trains a run, written into the run's own folder: the ledger may be lost, damaged or put back from a copy.

A trainer holds the folder's lock for as long as it lives, so that no second one begins, and says who it is and from where on
the events are its own. Written by trainer_process.py; read by recovery.py and supervisor.py.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from trainer.core import events, files, process
from trainer.core.run_dir import RunDir

NOT_OURS = 4
"""Exit status of a trainer that found another one at its run."""


@dataclass(frozen=True)
class Attempt:
    """One process at one run."""

    number: int
    pid: int
    birth: float
    boot: str
    begins: int
    """The size of `events.jsonl` when it began: what stands before was told by earlier attempts."""

    def as_json(self) -> dict[str, Any]:
        """As `attempt.json` holds it."""
        return {"number": self.number, "pid": self.pid, "born": self.birth, "boot": self.boot, "begins": self.begins}

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return process.alive(self.pid, self.birth, self.boot)

    def is_of(self, pid: int | None, birth: float | None) -> bool:
        """Whether it is the process with that number and birth mark."""
        return pid == self.pid and birth is not None and abs(birth - self.birth) < 0.02


def read(run: RunDir) -> Attempt | None:
    """The newest attempt that began; None where the folder does not say: nothing began, or an earlier version trained it."""
    tree = files.read_json(run.attempt)
    try:
        return Attempt(int(tree["number"]), int(tree["pid"]), float(tree["born"]), str(tree["boot"]), int(tree["begins"]))
    except (KeyError, TypeError, ValueError):
        return None


def begin(run: RunDir, number: int) -> None:
    """This process begins attempt `number`. On a full disk the folder goes on naming the attempt before."""
    size = run.events.stat().st_size if run.events.exists() else 0
    try:
        files.write_json(run.attempt, Attempt(number, *process.me(), size).as_json())
    except OSError as error:
        files.complain(f"{run.attempt.name} could not be written: {error}")


def acquire_lock(run: RunDir) -> BaseFileLock | None:
    """The folder's lock, held until this process ends; None where another trainer lives."""
    lock = FileLock(run.lock, timeout=0, thread_local=False)
    with suppress(OSError, NotImplementedError):  # a disk that knows no locks, or a full one: the ledger alone decides
        try:
            lock.acquire()
        except Timeout:
            return None
    return lock


def last_number(run: RunDir) -> int:
    """A number no living trainer of this run exceeds: 0 where none ever began."""
    if (current := read(run)) is not None:
        return current.number
    try:
        numbers = re.findall(rb'"kind":"started".*?"attempt":(\d+)', run.events.read_bytes())
    except OSError:
        return 0
    return max(map(int, numbers), default=0) + 1  # one may have begun and not got as far as telling it


def recent_events(run: RunDir) -> list[events.Event]:
    """The last events of the newest attempt, oldest first: those in the last 64 KiB of `events.jsonl` that are its own."""
    current = read(run)
    if current is None:
        return events.read_tail(run.events)
    size = run.events.stat().st_size if run.events.exists() else 0
    return events.read(run.events, max(current.begins, size - 65536))[0]
