"""One at a time, across threads and across programs: a lock in memory together with one on a file.

Used where several files of a home are read and written as one: the library (library.py) and image sets.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from filelock import FileLock

_known: dict[str, Lock] = {}
_knowing = threading.Lock()


class Lock:
    """A lock that the thread holding it may take again. The system lets go of it when its process ends, however that is.

    Where the file cannot be made (a read-only or full disk, a file system without locks) it holds among the threads of
    this process alone: nothing that is only read may fail for want of a lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.RLock()
        self._depth, self._file = 0, FileLock(path, thread_local=False)

    def __enter__(self) -> Lock:
        self._threads.acquire()
        try:
            if self._depth == 0:
                self._lock_file()
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file.is_locked:
            self._file.release()
        self._threads.release()

    def _lock_file(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file.acquire()
        except (OSError, NotImplementedError):
            return


def lock(path: Path) -> Lock:
    """The lock of this process on `path`: the same object each time it is asked for."""
    name = os.path.abspath(path)
    with _knowing:
        return _known.setdefault(name, Lock(Path(name)))
