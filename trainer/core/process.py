"""Processes that outlive the page: start them detached, tell whether they live, end them. Used all over jobs.

A process is known by its number and its birth mark, because numbers are used again. On Linux the mark is the start time
in seconds since boot, which no change of the clock moves, and counts together with the boot id; elsewhere it is the
creation time the system keeps. A zombie counts as dead: in a container without an init nobody may ever fetch it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from trainer.core.home import PROJECT

_children: dict[int, subprocess.Popen[Any]] = {}
_lock = threading.Lock()


def spawn(argv: list[str], log: Path, env: dict[str, str] | None = None) -> tuple[int, float]:
    """Start `argv` in a session of its own with its output appended to `log`: (process number, birth mark).

    It survives the end of this process, `kill -9` included, and Ctrl-C in its terminal.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **(env or {})},
            **detached(),
        )
    with _lock:
        _children[child.pid] = child
    return child.pid, birth(child.pid) or 0.0


def detached() -> dict[str, Any]:
    """The Popen arguments for a session of its own."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


def give_way(niceness: int) -> None:
    """Lower this process's priority to `niceness` (POSIX, 0 to 19; on Windows one class below normal), so that the page
    answers while all cores compute. Alone on a machine it is as fast as before. Nothing where the system does not allow it."""
    level = psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else max(niceness, os.nice(0))
    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process().nice(level)


def thread_gives_way() -> None:
    """Lower the priority of the calling thread alone, where the system knows such a thing (Linux): for work in the page's own
    process that must not hold up its answers."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def python(*args: str) -> list[str]:
    """The command line of `python -m trainer ARGS` with the Python that runs now."""
    return [sys.executable, "-m", "trainer", *args]


@cache
def boot_id() -> str:
    """What changes with every start of the machine; empty where birth marks hold across starts."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def birth(pid: int) -> float | None:
    """The birth mark of a process, zombies included; None where there is none."""
    state = _birth_and_zombie(pid)
    return state[0] if state else None


def alive(pid: int | None, born: float | None, boot: str | None = None) -> bool:
    """Whether the very process born at `born` still runs. Zombies are dead; a number used again is another process."""
    if pid is None or born is None or (boot and boot != boot_id()):
        return False
    state = _birth_and_zombie(pid)
    return state is not None and not state[1] and abs(state[0] - born) < 0.02


def me() -> tuple[int, float, str]:
    """This process as (number, birth mark, boot id)."""
    return os.getpid(), birth(os.getpid()) or 0.0, boot_id()


def _birth_and_zombie(pid: int) -> tuple[float, bool] | None:
    """(birth mark, is a zombie) or None."""
    if sys.platform.startswith("linux"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            return int(fields[19]) / os.sysconf("SC_CLK_TCK"), fields[0] in (b"Z", b"X", b"x")
        except (OSError, IndexError):
            return None
    try:
        process = psutil.Process(pid)
        return process.create_time(), process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:  # it is there but belongs to somebody else, so it is not ours
        return None


def reap() -> dict[int, int]:
    """Fetch the children that have ended, so that none stays a zombie: {number: exit status}."""
    with _lock:
        ended = {pid: status for pid, child in _children.items() if (status := child.poll()) is not None}
        for pid in ended:
            del _children[pid]
    return ended


def end(pid: int, born: float, grace: float = 10.0) -> None:
    """End a process and its group: ask (one held by a signal too), wait up to `grace` seconds, then kill."""
    if not alive(pid, born) or pid == os.getpid():
        return
    _signal(pid, born, hard=False)
    limit = time.monotonic() + grace
    while time.monotonic() < limit:
        reap()
        if not alive(pid, born):
            return
        time.sleep(0.05)
    _signal(pid, born, hard=True)
    limit = time.monotonic() + 5
    while alive(pid, born) and time.monotonic() < limit:
        reap()
        time.sleep(0.02)
    reap()


def _signal(pid: int, born: float, hard: bool) -> None:
    if not alive(pid, born):
        return
    if sys.platform == "win32":
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process] if hard else ():
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        if not hard:
            try:
                os.kill(pid, signal.CTRL_BREAK_EVENT)
            except OSError:  # no console in common: only the request in control.jsonl reaches it
                return
        return
    group = os.getpgid(pid) == pid
    for number in (signal.SIGKILL,) if hard else (signal.SIGTERM, signal.SIGCONT):
        try:
            os.killpg(pid, number) if group else os.kill(pid, number)
        except ProcessLookupError:
            return
