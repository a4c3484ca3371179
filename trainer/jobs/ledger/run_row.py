"""One run as a row of the ledger, and how its fields are read from the columns of SQL. Made by run_store.py."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from trainer.core.texts import lookup, t
from trainer.jobs.ledger.states import State


@dataclass(frozen=True)
class RunRow:
    """One run as the ledger knows it. Times are Unix seconds; `eta_*`, `rate`, `seconds_since_event` are durations."""

    id: str
    name: str
    device: str
    state: State
    reason: str | None
    """Why it is in this state: a code of `problems` or `notes_jobs`; `reason_text()` is the sentence."""
    params: dict[str, Any]
    position: int | None
    """Its place in the queue from 1 on, where it is queued."""
    created: float
    queued: float | None
    started: float | None
    ended: float | None
    pid: int | None
    birth: float | None
    """When the process was created, which tells it from a later one with the same number (`core/process.py`)."""
    boot: str | None
    attempt: int
    requeues: int
    runner_pid: int | None
    runner_birth: float | None
    runner_boot: str | None
    heartbeat: float | None
    heartbeats: int
    """How many there were: two that differ are two signs of life, whatever the clock says."""
    last_step: float | None
    seconds_since_event: float
    """Since the trainer last wrote an event, as of its last heartbeat."""
    unresponsive: str | None
    """`no_heartbeat` or `no_step` where the trainer does not answer: a code of `notes_jobs`."""
    step: int
    total: int
    stage: str | None
    stage_done: int
    stage_of: int
    eta_low: float | None
    eta_high: float | None
    rate: float | None
    """Seconds a step."""
    memory: int | None
    loss: float | None
    lora: str | None

    def reason_text(self, language: str | None = None) -> str | None:
        """The sentence behind `unresponsive` or `reason`, or None."""
        code = self.unresponsive or self.reason
        if not code:
            return None
        table = "notes_jobs" if lookup(f"notes_jobs.{code}", language) else "problems"
        return t(f"{table}.{code}", language=language, **{"id": "", "log": "", **self.params})


_POSITION = """CASE WHEN state='queued' THEN (SELECT COUNT(*) FROM runs q WHERE q.state='queued' AND q.deleted IS NULL
    AND q.device=runs.device AND q.place<=runs.place) END AS position"""


_EXPRESSIONS = {
    "position": _POSITION,
    "reason": "why AS reason",
    "birth": "born AS birth",
    "runner_birth": "runner_born AS runner_birth",
    "heartbeats": "beats AS heartbeats",
    "seconds_since_event": "quiet AS seconds_since_event",
    "unresponsive": "silent AS unresponsive",
}
"""Fields of a row that are not simply the column of their name."""


COLUMNS = ", ".join(_EXPRESSIONS.get(field.name, field.name) for field in fields(RunRow))
