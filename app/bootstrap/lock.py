"""One installer at a time: a lock on a file beside .venv that the system lets go of when its holder dies.

Used by install.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


class Lock:
    """`with Lock(path, waiting):` calls `waiting` once if someone else holds it, and waits."""

    def __init__(self, path: Path, waiting: Callable[[], None]) -> None:
        self._path, self._waiting, self._handle = path, waiting, -1

    def __enter__(self) -> Lock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        told = False
        while not self._take():
            if not told:
                self._waiting()
                told = True
            time.sleep(0.2)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._handle)

    def _take(self) -> bool:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(self._handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore
            else:
                import fcntl

                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
