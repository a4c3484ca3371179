"""The states of a run and the one table of what may follow what. Used by the store; nothing else decides it."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal[
    "draft",
    "queued",
    "starting",
    "running",
    "pausing",
    "paused",
    "stopping",
    "stopped",
    "succeeded",
    "failed",
    "interrupted",
]
STATES: tuple[State, ...] = get_args(State)

LEGAL: dict[State, frozenset[State]] = {
    "draft": frozenset({"queued", "stopped"}),
    "queued": frozenset({"starting", "stopped", "interrupted"}),
    "starting": frozenset({"running", "stopping", "stopped", "failed", "interrupted", "queued"}),
    "running": frozenset({"pausing", "paused", "stopping", "stopped", "succeeded", "failed", "interrupted"}),
    "pausing": frozenset({"paused", "running", "stopping", "stopped", "succeeded", "failed", "interrupted"}),
    "paused": frozenset({"running", "stopping", "stopped", "succeeded", "failed", "interrupted"}),
    "stopping": frozenset({"stopped", "succeeded", "failed", "interrupted"}),
    "stopped": frozenset({"queued"}),
    "failed": frozenset({"queued"}),
    "interrupted": frozenset({"queued"}),
    "succeeded": frozenset(),
}

ACTIVE: frozenset[State] = frozenset({"starting", "running", "pausing", "paused", "stopping"})
"""A process exists or is about to: the device is taken."""
ENDED: frozenset[State] = frozenset({"stopped", "succeeded", "failed", "interrupted"})
RESUMABLE: frozenset[State] = frozenset({"stopped", "failed", "interrupted"})


def sources(to: State) -> frozenset[State]:
    """The states from which `to` may be entered."""
    return frozenset(state for state, following in LEGAL.items() if to in following)
