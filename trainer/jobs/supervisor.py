"""Starts what waits, notices what died, says what no longer answers. A thread of the page's process, one a home.

It owns no run: trainers live on without it, and the next supervisor finds everything in the ledger.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from filelock import FileLock, Timeout

from trainer.core import files, process
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.ledger.states import ACTIVE
from trainer.jobs.recovery import adopt, last_end, reattach, record_outcome
from trainer.jobs.webhook import Webhook

Command = Callable[[RunDir, Home], list[str]]


@dataclass(frozen=True)
class Timeouts:
    """How long, in seconds of the monotonic clock, before something is done."""

    tick: float = 1.0
    """Between two looks."""
    heartbeat: float = 60.0
    """Without a heartbeat: not answering."""
    step: float = 900.0
    """Heartbeats but no step and no news: not answering either (or 20 times the usual step, whichever is more)."""
    loading: float = 3600.0
    """The same while a base is loaded, which may mean gigabytes from the network."""
    birth: float = 30.0
    """A run that was to start and has no process."""
    stop: float = 120.0
    """Asked to stop, without news: ended by force."""
    grace: float = 10.0
    """Between asking a process to end and killing it."""
    leave: float = 60.0
    """A process that has told its end and does not go."""
    copy: float = 20.0
    """Between two copies of a ledger that changes."""


def command(run: RunDir, home: Home) -> list[str]:
    """The trainer process for a run."""
    return process.python("run", str(run.path), "--home", str(home.root))


class Supervisor:
    """`.start()` and `.stop()` a thread that looks once a second; `.tick()` is one look."""

    def __init__(
        self,
        home: Home,
        store: Store | None = None,
        *,
        timeouts: Timeouts | None = None,
        command: Command = command,
        only: str | None = None,
    ) -> None:
        self.home, self.store = home.create(), store or Store(home.database)
        self.timeouts, self.command, self.only = timeouts or Timeouts(), command, only
        self._heartbeats: dict[str, tuple[tuple[int, int], float]] = {}
        self._since: dict[tuple[str, str], float] = {}
        self._statuses: dict[int, int] = {}
        self._opened = self.store.opened
        self._copied: tuple[float, list[tuple[str, str]]] | None = None
        self.webhook = Webhook(self.store)
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = FileLock(home.outputs / "supervisor.lock", timeout=0, thread_local=False)

    # --- the thread -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look; where another page on this home does already, stand by to take over."""
        self._halt.clear()
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Trainings go on."""
        self._halt.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def _loop(self) -> None:
        ours = False
        while True:
            try:
                if not ours:
                    self._lock.acquire()
                    ours = True
                    self._opened = 0
                    for folder in (self.home.outputs, self.home.loras, self.home.loras / "embeddings"):
                        files.sweep_temporaries(folder)
                self.tick()
                self._keep_copy()
            except Timeout:
                process.reap()
            except (Problem, sqlite3.Error, OSError):
                # A locked ledger, a full disk: told where the operator looks, tried again at the next look.
                files.complain(traceback.format_exc())
            if self._halt.wait(self.timeouts.tick):
                break
        if ours:
            self._lock.release()

    # --- one look ---------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Reap, record how dead ones ended, check the living, start what waits."""
        self._statuses |= process.reap()
        if self._opened != self.store.opened:  # just taken over, or the ledger was lost or repaired: the folders know more
            opened = self.store.opened
            adopt(self.store)
            self._opened = opened
        for row in self.store.with_process():
            if self._is_ours(row):
                self._inspect(row)
        taken: set[str] = set()
        for row in self.store.queue():
            if row.device in taken:
                continue
            if not self._owns(row):  # a command's own run, waiting before ours: it goes first
                taken |= {row.device} if self.only is None and self.store.get(row.id).state == "queued" else set()
            elif self.store.start_next(row.id):
                self._spawn(row)

    def _keep_copy(self) -> None:
        """The ledger's backup follows it: taken when runs came, went or changed their state, at most every few seconds. Then
        the file is looked over, so that damage nobody has met yet costs nothing."""
        now = time.monotonic()
        if self._copied is not None and now - self._copied[0] < self.timeouts.copy:
            return
        states = [(row.id, row.state) for row in self.store.list()]
        if self._copied is None or states != self._copied[1]:
            self.store.back_up()
        self._copied = (now, states)
        self.store.verify()

    def _is_ours(self, row: RunRow) -> bool:
        """`launch.py train` watches its own run alone; but a dead process, whoever's, must not keep the device from it."""
        return self.only in (None, row.id) or (row.pid is not None and not process.alive(row.pid, row.birth, row.boot))

    def _owns(self, row: RunRow) -> bool:
        """Whether this supervisor starts that run: `launch.py train` starts its own, and only its own."""
        if self.only is not None:
            return row.id == self.only
        if row.runner_pid is None:
            return True
        if not process.alive(row.runner_pid, row.runner_birth, row.runner_boot):
            self.store.move(row.id, "interrupted", "command_gone", only_from=("queued",), runner_pid=None)
        return False

    def _spawn(self, row: RunRow) -> None:
        run = self.store.run_dir(row.id)
        if reattach(self.store, run, same=True):  # its trainer lives: the ledger did not know
            return
        for old in (run.control, run.path / "control.read"):  # what was asked of the attempt before is not for this one
            old.unlink(missing_ok=True)
        try:
            pid, born = process.spawn(self.command(run, self.home), run.log)
        except OSError as error:
            params = {"detail": str(error)}
            self.store.move(row.id, "failed", "job_no_process", params, only_from=("starting", "stopping"))
            return
        self.store.spawned(row.id, pid, born)

    def _inspect(self, row: RunRow) -> None:
        if row.pid is None:
            if self._true_for(row.id, "no_process", True, self.timeouts.birth):
                if row.state == "stopping":
                    self.store.move(row.id, "stopped", only_from=("stopping",))
                else:
                    self.store.move(row.id, "queued", only_from=("starting",))
            return
        self._true_for(row.id, "no_process", False, 0)
        if not process.alive(row.pid, row.birth, row.boot):
            self._on_exit(row)
        elif row.state in ACTIVE:
            self._check_liveness(row)
        elif self._true_for(row.id, "leaving", True, self.timeouts.leave):
            process.end(row.pid, row.birth or 0.0, self.timeouts.grace)

    def _on_exit(self, row: RunRow) -> None:
        self._statuses |= process.reap()
        row = self.store.get(row.id) if row.state in ACTIVE else row  # it may have told its end since we read
        if row.state in ACTIVE and not process.alive(row.pid, row.birth, row.boot):
            if self._runs_itself(row):
                return
            end = last_end(self.store.run_dir(row.id), row)
            record_outcome(self.store, row, self._statuses.get(row.pid or -1))
            if end is None and (after := self.store.get(row.id)).state in ("failed", "interrupted"):
                self.webhook.notify(after)  # its trainer was killed before it could
        clear_process = "UPDATE runs SET pid=NULL, born=NULL WHERE id=? AND pid IS ? AND born IS ?"
        self.store.write(clear_process, (row.id, row.pid, row.birth))
        self._heartbeats.pop(row.id, None)

    def _runs_itself(self, row: RunRow) -> bool:
        """A run of a `launch.py train` that still lives is recorded there, where the exit status is known."""
        return row.id != self.only and process.alive(row.runner_pid, row.runner_birth, row.runner_boot)

    def _check_liveness(self, row: RunRow) -> None:
        now = time.monotonic()
        mark = (row.attempt, row.heartbeats)
        if self._heartbeats.get(row.id, (None, 0.0))[0] != mark:
            self._heartbeats[row.id] = (mark, now)
        age = now - self._heartbeats[row.id][1]
        unresponsive = None
        if age > self.timeouts.heartbeat:
            unresponsive = "no_heartbeat"
        elif row.state != "paused" and row.seconds_since_event > self._usual(row):
            unresponsive = "no_step"
        if unresponsive != row.unresponsive:
            self.store.mark(row.id, silent=unresponsive)
        seconds_since_event = row.seconds_since_event + age
        waits = row.state == "stopping" and (unresponsive is not None or seconds_since_event > self.timeouts.stop)
        if self._true_for(row.id, "stopping", waits, 0) and row.pid is not None:
            process.end(row.pid, row.birth or 0.0, self.timeouts.grace)

    def _usual(self, row: RunRow) -> float:
        """How long this run may be without news."""
        if row.stage == "loading":
            return max(self.timeouts.loading, self.timeouts.step)
        return max(self.timeouts.step, 20 * (row.rate or 0))

    def _true_for(self, id_: str, what: str, is_so: bool, seconds: float) -> bool:
        """Whether something has been so for `seconds` at a stretch."""
        if not is_so:
            self._since.pop((id_, what), None)
            return False
        return time.monotonic() - self._since.setdefault((id_, what), time.monotonic()) >= seconds
