"""Kills its own process before the k-th operation on files, as `kill -9` or a power cut would. For tests alone.

Counted are the calls CPython tells its audit hooks of: files opened for writing, renames, links, removals, folders made.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

OPERATIONS = frozenset({"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "sqlite3.connect"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def install(at: int, below: Sequence[str], kill: Callable[[], object] | None = None) -> Callable[[], int]:
    """From now on: before operation number `at` (from 1 on) under one of the folders `below`, this process is killed. Returns
    what says how many there were."""
    places, count = tuple(os.path.realpath(place) + os.sep for place in below), 0
    kill = kill or (lambda: os.kill(os.getpid(), signal.SIGKILL))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & _WRITING:
                return
            paths = (path,)
        elif event in OPERATIONS:
            paths = arguments[:2]
        else:
            return
        if any(isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(places) for path in paths):
            count += 1
            if count == at:
                kill()

    sys.addaudithook(hook)
    return lambda: count


def killed_at(at: int, below: Sequence[str], act: Callable[[], object]) -> bool:
    """Do `act` in a forked child that is killed before its operation number `at`; False where it came to its end before."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            install(at, below)
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
