"""One sitting on a machine that is lent for some minutes: take up what is there, go on, hand back what was made.

`python -m tools.mini_base sitting` calls `sit`; `gpu.sh` wraps it for a bare GPU machine. Run it again, there or
elsewhere, until it says that everything is done.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from .carry import STAGES, carry_in, carry_out

ORDER = ("vae", "judge", "ldm")
_CLOSING = 0.7  # minutes kept for saving, the last grid and packing


def sit(asked: argparse.Namespace, minutes: dict[str, float], run: Callable[[str, float, float], None]) -> bool:
    """Work for `asked.sitting` minutes; True when every stage has had its whole time.

    `run(stage, minutes, sitting)` trains one stage. What an earlier sitting handed back is taken from `asked.out`.
    """
    started = time.monotonic()
    work, out, whole = asked.work, asked.out, asked.sitting or 9.0
    if list(out.glob("carry.*")):
        carry_in(out, work)
    for stage in ORDER:
        left = whole - _CLOSING - (time.monotonic() - started) / 60
        if left <= 0.2:
            break
        if not is_done(work, stage, minutes[stage]):
            run(stage, minutes[stage], left)
    carry_out(work, asked.hand_back or out)
    done = all(is_done(work, stage, minutes[stage]) for stage in STAGES)
    print("everything is trained; run `evaluate` and `export`" if done else "not done yet: run it again", flush=True)
    return done


def is_done(work: Path, stage: str, minutes: float) -> bool:
    """Whether a stage has had its whole time."""
    state = work / stage / "state.pt"
    if not state.is_file():
        return False
    return torch.load(state, map_location="cpu", weights_only=True, mmap=True)["counters"][2] >= minutes * 60
