"""The kinds of attack a campaign is made of. Each takes a scene, a source of chance and how often to kill, and judges."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.chaos.scene import Scene, Stage, instant


class Known:
    """What the run nothing happened to left: its tensors, its length in seconds and in operations on files."""

    def __init__(self, tensors: bytes, seconds: float, operations: int) -> None:
        self.tensors, self.seconds, self.operations = tensors, seconds, operations


def straight(stage: Stage, folder: Path) -> Known:
    """A run nothing happens to."""
    scene = Scene(stage, folder)
    scene.start("supervisor")
    begun = time.monotonic()
    id_ = scene.submit()
    scene.to_the_end(id_)
    seconds = time.monotonic() - begun
    tensors = scene.ended_well(id_, None)
    scene.close()
    assert tensors is not None and not scene.broken, scene.said
    return Known(tensors, seconds, int((folder / "count-run").read_text()))


def _train(scene: Scene, known: Known, watch: Callable[[], object] = lambda: None) -> None:
    """Start a run under what was dealt, see it to its end, judge it."""
    id_ = scene.submit()
    scene.to_the_end(id_, watch=watch)
    scene.ended_well(id_, known.tensors)


def operation(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """The trainer, before its k-th operation on a file."""
    scene.deal([{"at": rng.randint(1, known.operations)} for _ in range(kills)])
    scene.start("supervisor")
    _train(scene, known)
    scene.kills += sum("at" in one["fault"] for one in scene.trainers())


def moment(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """The trainer, at a random instant."""
    scene.deal([{"after": 0.05 + instant(rng, known.seconds)} for _ in range(kills)])
    scene.start("supervisor")
    _train(scene, known)
    scene.kills += sum("after" in one["fault"] for one in scene.trainers())


def publishing(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """The trainer, in the stretch where its LoRA goes into the library."""
    end = known.operations
    scene.deal([{"at": rng.randint(end * 3 // 4, end)}, *({"at": rng.randint(20, 60)} for _ in range(kills - 1))])
    scene.start("supervisor")
    _train(scene, known)
    scene.kills += sum("at" in one["fault"] for one in scene.trainers())


def supervisor(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """The supervisor, at random instants and before an operation, while the trainer is killed too."""
    scene.deal([{"after": 0.05 + instant(rng, known.seconds)}])
    pid, left, due = scene.start("supervisor"), kills, time.monotonic() + instant(rng, 1.0)

    def watch() -> None:
        nonlocal pid, left, due
        if left and time.monotonic() > due:
            left -= 1
            scene.kill(pid)
            fault = {"at": rng.randint(1, 12)} if left and rng.random() < 0.5 else {}
            if fault:
                left -= 1
                scene.kills += 1
            pid, due = scene.start("supervisor", fault=fault), time.monotonic() + 0.1 + instant(rng, 1.5)
            if fault:
                time.sleep(0.5)
                scene.kill(pid)
                scene.kills -= 1
                pid = scene.start("supervisor")

    _train(scene, known, watch)
    scene.kills += sum("after" in one["fault"] for one in scene.trainers())


def web(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """The web server, while it answers, trains and takes a LoRA in; the training lives on, and the page comes back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pid, left, due, answered = scene.start("web", str(port)), kills, time.monotonic() + 2 + instant(rng, 3.0), False

    def look() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def watch() -> None:
        nonlocal pid, left, due, answered
        answered |= look()
        if left and answered and time.monotonic() > due:
            left -= 1
            scene.kill(pid)
            pid, due, answered = scene.start("web", str(port)), time.monotonic() + instant(rng, 2.0), False

    _train(scene, known, watch)
    limit = time.monotonic() + 60
    while left and time.monotonic() < limit:
        watch()
        time.sleep(0.05)
    while not look():
        if time.monotonic() > limit + 60:
            scene.count("lost", "the page does not come back")
            return
        time.sleep(0.1)


def preview(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """The preview worker and the page that asks it, while a training lends them the device."""
    scene.start("supervisor")
    page, left, due = scene.start("page", str(scene.stage.base)), kills, time.monotonic() + 0.5 + instant(rng, 2.0)

    def watch() -> None:
        nonlocal page, left, due
        mark = scene.folder / "worker.pid"
        if left and time.monotonic() > due and mark.exists():
            left -= 1
            if rng.random() < 0.3:
                scene.kill(page)
                page = scene.start("page", str(scene.stage.base))
            else:
                scene.kill(int(mark.read_text() or 0))
            due = time.monotonic() + 0.2 + instant(rng, 2.0)

    _train(scene, known, watch)
    drawn = scene.folder / "drawn"
    before, limit = drawn.stat().st_size if drawn.exists() else 0, time.monotonic() + 90
    while time.monotonic() < limit and (not drawn.exists() or drawn.stat().st_size <= before):
        watch()
        time.sleep(0.05)
    if not drawn.exists() or drawn.stat().st_size <= before:
        scene.count("missing", "no preview is drawn any more")
    for file in drawn.read_text().splitlines() if drawn.exists() else ():
        if not Path(file).exists():
            scene.count("missing", file)


def held(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """Trainer or supervisor held by SIGSTOP for longer than a heartbeat lasts, and let go again; then a kill."""
    faults: list[dict[str, object]] = [{"stop": [instant(rng, known.seconds), 4.0]}]
    scene.deal([*faults, *({"after": 0.05 + instant(rng, known.seconds)} for _ in range(kills))])
    pid = scene.start("supervisor", fault={"stop": [instant(rng, known.seconds), 2.0]} if rng.random() < 0.5 else {})
    began, asked = time.monotonic(), False

    def watch() -> None:
        nonlocal asked
        if not asked and scene.trainers() and time.monotonic() - began > known.seconds / 2:
            asked = True
            scene.kill(int(scene.trainers()[-1]["pid"]))

    _train(scene, known, watch)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    scene.faults += 1
    scene.kills += sum("after" in one["fault"] for one in scene.trainers())


def disk(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """No room: a file of the trainer may grow no further (EFBIG) for a while; then a kill in the middle of it."""
    scene.deal([{} for _ in range(kills)])
    scene.start("supervisor")
    left, due, until, pid = kills, time.monotonic() + instant(rng, known.seconds), 0.0, 0

    def watch() -> None:
        nonlocal left, due, until, pid
        now = time.monotonic()
        if pid and now > until:
            if rng.random() < 0.5:
                scene.kill(pid)
            else:
                _limit(pid, resource.RLIM_INFINITY)
            pid, due = 0, now + instant(rng, known.seconds)
        elif left and not pid and now > due and scene.trainers():
            left -= 1
            pid, until = int(scene.trainers()[-1]["pid"]), now + 0.5 + instant(rng, 2.0)
            scene.faults += _limit(pid, rng.choice((0, 200, 4000, 40_000)))

    _train(scene, known, watch)


def _limit(pid: int, size: int) -> bool:
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    except (ProcessLookupError, PermissionError):
        return False
    return True


def full(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """No room for anybody: the small disk the home lies on is filled to the last byte for a while."""
    ballast = scene.home.root / ".ballast"
    scene.deal([{"after": 0.05 + instant(rng, known.seconds)} for _ in range(kills)])
    scene.start("supervisor")
    left, due, until = kills, time.monotonic() + instant(rng, known.seconds), 0.0

    def watch() -> None:
        nonlocal left, due, until
        now = time.monotonic()
        if until and now > until:
            ballast.unlink(missing_ok=True)
            until, due = 0.0, now + instant(rng, known.seconds)
        elif left and not until and now > due:
            left -= 1
            scene.faults += 1
            until = now + 0.5 + instant(rng, 2.0)
            with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(scene.home.root).free)
                while file.write(b"\0" * 65536):
                    pass

    try:
        _train(scene, known, watch)
    finally:
        ballast.unlink(missing_ok=True)
    scene.kills += sum("after" in one["fault"] for one in scene.trainers())


SPOIL = """
import sys, time, sqlite3
from pathlib import Path
database, how = Path(sys.argv[1]), sys.argv[2]
if how == "locked":
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    connection.execute("BEGIN EXCLUSIVE")
    time.sleep(4)
elif how == "deleted":
    database.unlink(missing_ok=True)
elif how == "all deleted":
    for path in database.parent.glob("atelier.db*"):
        if not path.name.endswith(".lock"):
            path.unlink(missing_ok=True)
else:
    data = database.read_bytes()
    with open(database, "r+b") as file:
        if how == "emptied":
            file.truncate(0)
        elif how == "cut short":
            file.truncate(len(data) // 2)
        else:
            file.seek({"header": 0, "middle": 4096}[how])
            file.write(b"\\xa5" * (100 if how == "header" else max(0, len(data) - 4096)))
"""


def ledger(scene: Scene, rng: random.Random, known: Known, kills: int) -> None:
    """The list of trainings deleted, emptied, cut, overwritten or locked while a training lives; and kills on top."""
    scene.deal([{}, *({"after": 0.2 + instant(rng, known.seconds)} for _ in range(kills))])
    scene.start("supervisor")
    due, left = time.monotonic() + instant(rng, known.seconds), 1

    def watch() -> None:
        nonlocal left
        if left and time.monotonic() > due and scene.home.database.exists():
            left -= 1
            how = rng.choice(("deleted", "all deleted", "emptied", "cut short", "header", "middle", "locked"))
            scene.faults += 1
            scene.said.append(f"({how})")
            words = [sys.executable, "-S", "-c", SPOIL, str(scene.home.database), how]
            spoiling = subprocess.Popen(words, stderr=subprocess.PIPE)
            _, trouble = spoiling.communicate(timeout=30)
            if spoiling.returncode and how != "locked":
                scene.said.append(f"({trouble.decode()[-200:]})")
            if scene.trainers() and rng.random() < 0.5:
                scene.kill(int(scene.trainers()[-1]["pid"]))

    _train(scene, known, watch)
    scene.kills += sum("after" in one["fault"] for one in scene.trainers())
    fresh = sqlite3.connect(scene.home.database)
    try:
        if fresh.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            scene.jobs.store.verify()
    except sqlite3.DatabaseError:
        scene.jobs.store.verify()
    finally:
        fresh.close()
