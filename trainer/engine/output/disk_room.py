"""Waiting for room on a full disk, so that nothing a training has learnt or drawn is lost to it. Used by saving.py."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TypeVar

from trainer.core import events, files
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.engine.output.control import Control

MARGIN = 500 * 2**20
"""Bytes that stay free on the disk beside a checkpoint."""
AGAIN = 5.0
"""Seconds until a write that found no room, though the disk seems to have some, is tried again."""
T = TypeVar("T")


class DiskRoom:
    """The room of one run. While it waits it says so, and hears Stop."""

    def __init__(self, run: RunDir, tell: Callable[[events.Event], None], control: Control) -> None:
        self.run, self.tell, self.control = run, tell, control

    def write(self, act: Callable[[], T], needed: int = 0) -> T:
        """Do `act` when `needed` bytes are free; again where the disk became full in between."""
        waits = _Waits(self)
        waits.until(needed)
        while True:
            try:
                result = act()
                waits.over()
                return result
            except OSError as error:
                if not files.is_full(error):
                    raise
                waits.once_more()
                waits.until(needed)

    def free(self) -> int:
        """Bytes free where the run lies."""
        return shutil.disk_usage(self.run.path).free


class _Waits:
    """One wait, told at its beginning and at its end."""

    def __init__(self, room: DiskRoom) -> None:
        self.room, self.told = room, False

    def until(self, needed: int) -> None:
        while self.room.free() < needed:
            self._wait(1.0, needed)

    def once_more(self) -> None:
        self._wait(AGAIN, None)

    def over(self) -> None:
        if self.told:
            self.room.tell(events.Note(code="disk_again"))

    def _wait(self, seconds: float, needed: int | None) -> None:
        room, size = self.room, "?" if needed is None else needed >> 20
        if not self.told:
            room.tell(events.Stage(name="disk"))
            room.tell(events.Note(code="disk_waits", params={"free": room.free() >> 20, "needed": size}))
        self.told = True
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            time.sleep(0.2)
            room.control.poll()
            if room.control.stop:
                raise Problem("disk_full", needed=size, folder=str(room.run.path))
