"""A process that has the engine loaded and forks the studio's programs on request, so that one starts in a moment.

Each is a process of its own that runs the program's real `main`; what differs from the shipped one stands in programs.py.
Requests come over a Unix socket: `{"what", "argv", "log", "fault", "folder"}`, answered by `{"pid"}`. Faults from outside
(`{"after": seconds}`: SIGKILL, `{"stop": [after, seconds]}`: SIGSTOP and SIGCONT) are dealt out here, to the very instant.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(address: str) -> None:
    """Load, say `ready`, fork until standard input ends."""
    from tests.chaos import programs

    programs.load()
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen(32)
    server.setblocking(False)
    os.set_blocking(0, False)
    print("ready", flush=True)
    waiting: dict[int, socket.socket] = {}
    due: list[tuple[float, int, int]] = []
    while _wanted():
        while due and due[0][0] <= time.monotonic():
            _, pid, number = heapq.heappop(due)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                due = [one for one in due if one[1] != pid]
                heapq.heapify(due)
                if pid in waiting:
                    waiting.pop(pid).close()
        try:
            connection, _ = server.accept()
        except BlockingIOError:
            time.sleep(0.004)
            continue
        connection.setblocking(True)
        data, fds, _, _ = socket.recv_fds(connection, 65536, 3)
        request = json.loads(data)
        pid = os.fork()
        if pid == 0:
            server.close()
            for other in waiting.values():
                other.close()
            _become(request, fds, connection)
        for fd in fds:
            os.close(fd)
        connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        waiting[pid] = connection
        fault, now = request.get("fault") or {}, time.monotonic()
        if "after" in fault:
            heapq.heappush(due, (now + fault["after"], pid, signal.SIGKILL))
        if "stop" in fault:
            begins, lasts = fault["stop"]
            heapq.heappush(due, (now + begins, pid, signal.SIGSTOP))
            heapq.heappush(due, (now + begins + lasts, pid, signal.SIGCONT))
    for pid in waiting:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wanted() -> bool:
    try:
        return os.read(0, 1) != b""
    except BlockingIOError:
        return True


def _become(request: dict[str, Any], fds: list[int], connection: socket.socket) -> None:
    """The forked child: never returns."""
    from tests.chaos import programs

    status = 1
    try:
        connection.close()
        os.setsid()
        _die_with_parent()
        if fds:
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
        else:
            null = os.open(os.devnull, os.O_RDONLY)
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for number, fd in ((0, null), (1, log), (2, log)):
                os.dup2(fd, number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
        status = programs.run(request)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


def _die_with_parent() -> None:
    """Nothing outlives a campaign that was ended itself."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def ask(address: str, request: dict[str, Any], fds: tuple[int, ...] = ()) -> tuple[int, socket.socket]:
    """Have a program started: its process number, and the connection, which ends when the program does."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    socket.send_fds(connection, [json.dumps(request).encode()], fds)
    answer = b""
    while not answer.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError("the zygote is gone")
        answer += piece
    return json.loads(answer)["pid"], connection


if __name__ == "__main__":
    main(sys.argv[1])
