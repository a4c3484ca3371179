"""What several tests of jobs use: the tiny trainer, short patience, waiting for something to become true."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.jobs.supervisor import Timeouts

PROGRAM = Path(__file__).parent / "child_program.py"
QUICK = Timeouts(tick=0.05, heartbeat=1.5, step=600, birth=1.0, stop=3.0, grace=1.0, leave=5.0, copy=0.5)


def command(run: RunDir, home: Home) -> list[str]:
    return [sys.executable, str(PROGRAM), "run", str(run.path), "--home", str(home.root)]


def wait_for(what: Callable[[], object], seconds: float = 20.0) -> float:
    """Seconds until `what` holds; fails where it does not within `seconds`."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - begun
