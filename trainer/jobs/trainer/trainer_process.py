"""The trainer process: `python -m trainer run DIR [--home H]`. Takes the run, calls the engine, keeps the ledger up to date.

The engine is imported inside `main` only. Started detached by the supervisor or by `python launch.py train`.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trainer.config.load import build
from trainer.core import events, files, process
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.jobs.ledger.lease import DeviceLease
from trainer.jobs.ledger.run_store import Store, device_key
from trainer.jobs.ledger.states import ACTIVE, State
from trainer.jobs.ledger.trouble import Trouble
from trainer.jobs.trainer import attempt
from trainer.jobs.trainer.attempt import NOT_OURS
from trainer.jobs.trainer.progress import Progress
from trainer.jobs.trainer.signals import Signals
from trainer.jobs.webhook import Webhook

if TYPE_CHECKING:
    from trainer.engine.output.control import Control

DONE, FAILED = 0, 1
T = TypeVar("T")
ENDS = (events.Finished, events.Stopped, events.Failed)


class StopRequested(BaseException):
    """Asked to stop before the first step: leaves the engine from within `emit`."""


class TrainerProcess:
    """One attempt at a run."""

    def __init__(self, run: RunDir, store: Store, attempt: int, beat: float, tick: float) -> None:
        self.run, self.store, self.attempt, self.beat, self.tick = run, store, attempt, beat, tick
        self.log, self.progress = events.EventLog(run.events), Progress()
        self.webhook = Webhook(store)
        self.end: events.Event | None = None
        self.paused = False
        self.lease: DeviceLease | None = None
        self.control: Control | None = None
        self._stage = events.Stage(name="loading")
        self._over = threading.Event()
        self._writing = threading.Lock()  # what was summed up first is written first
        self._trouble = Trouble()

    # --- events of the engine ---------------------------------------------------------------------------------

    def emit(self, event: events.Event) -> None:
        """Where the engine's events go: to events.jsonl, to the summary, and where the state changes to the ledger."""
        if self.end is not None:
            return
        self.log.write(event)
        self.progress.update(event)
        if isinstance(event, ENDS):
            self.end = event
        elif isinstance(event, events.Paused):
            self._pause(None)
        elif isinstance(event, events.Note) and event.code == "disk_waits":
            self._pause("disk")
        elif self.paused and not (isinstance(event, events.Stage) and event.name == "disk"):
            self._continue()
        if isinstance(event, events.Stage):
            self._stage = event
            self._poll_control(event.name)

    def _poll_control(self, stage: str) -> None:
        """Where no step is made for long, requests are read here: a preview gets the device between two pictures, and
        Stop ends a loading or an encoding at once (what was encoded is kept)."""
        if self.control is None or stage not in ("loading", "drawing", "encoding", "sampling"):
            return
        self.control.poll()
        if self.control.stop and stage != "sampling":
            raise StopRequested

    def _pause(self, reason: str | None) -> None:
        """The state and how far it came, in one: who reads `paused` reads the step it rests at."""
        self.paused = True
        with self._writing, self._trouble.suppressed():
            summary = self.progress.summary()
            summary.pop("quiet")
            self._move("paused", reason, **summary)
            if reason:
                self.webhook.notify(self.store.get(self.run.id))
        with self._trouble.suppressed():
            if self.lease:
                self.lease.release()

    def _continue(self) -> None:
        self.paused = False
        with self._trouble.suppressed():
            self._move("running", only_from=("paused",))
        with self._trouble.suppressed():
            if self.lease:
                self.lease.acquire()

    def take_device(self, device: str) -> None:
        """Hold the device, waiting while a preview draws on it; without a ledger, train on it all the same."""
        with self._trouble.suppressed():
            row = self.store.get(self.run.id)
            if row.requeues and row.attempt > 1:
                self.emit(events.Note(code="went_on"))
        with self._trouble.suppressed():
            self.lease = DeviceLease(self.store, device, f"run {self.run.id} {self.attempt}", self.set_waiting)
            self.lease.acquire()

    def between(self) -> None:
        """The engine's hook between two steps: a preview may want the device. Microseconds where none does."""
        if self.lease and not self.paused:
            with self._trouble.suppressed():
                self.lease.between()

    def set_waiting(self, begins: bool) -> None:
        """The device is lent to a preview, or back."""
        if self.end is None:
            stage = events.Stage(name="waiting") if begins else self._stage
            self.log.write(stage)
            self.progress.update(stage)

    # --- the heartbeat ----------------------------------------------------------------------------------------

    def start_heartbeat(self) -> threading.Thread:
        """Begin to write a heartbeat every few seconds, and what is new a little more often."""
        thread = threading.Thread(target=self._heartbeat_loop, name="heartbeat", daemon=True)
        thread.start()
        return thread

    def _heartbeat_loop(self) -> None:
        last = time.monotonic()
        while not self._over.wait(self.tick):
            if self.progress.changed or time.monotonic() - last >= self.beat:
                last = time.monotonic()
                self._write_heartbeat()

    def _write_heartbeat(self) -> None:
        ours = True
        self.log.catch_up()
        with self._writing, self._trouble.suppressed():
            ours = self.store.progress(self.run.id, self.attempt, self.progress.summary(), patience=self.beat)
            ours = ours or self._over.is_set() or self._reenter()
        if not ours and not self._over.is_set():
            files.complain("Another process has taken this run over; ending here.")
            os._exit(NOT_OURS)

    def _reenter(self) -> bool:
        """The ledger was lost or put back from its copy while this trains: say there that it does. False where the run is
        rightly another's."""
        state: State = "stopping" if self.control and self.control.stop else "paused" if self.paused else "running"
        who = process.me()
        if self.store.reattach(self.run.id, self.attempt, who, state):
            return True
        config = build(files.read_json(self.run.config, {}))
        pid, born, boot = who
        entered = self.store.enter(
            self.run.id,
            config,
            self.store.key_of(self.run) or self.run.id,
            state,
            created=self.run.config.stat().st_mtime,
            attempt=self.attempt,
            pid=pid,
            born=born,
            boot=boot,
            started=time.time(),
        )
        row = self.store.get(self.run.id) if entered == self.run.id else None
        return row is not None and row.attempt == self.attempt and row.state in ACTIVE

    def _move(self, to: State, reason: str | None = None, params: dict[str, Any] | None = None, **more: Any) -> None:
        """Write a change of state, into a ledger that has lost this run too."""
        if not self.store.move(self.run.id, to, reason, params, attempt=self.attempt, **more) and self._is_unknown():
            self._reenter()
            self.store.move(self.run.id, to, reason, params, attempt=self.attempt, **more)

    def _is_unknown(self) -> bool:
        rows = self.store.read("SELECT attempt FROM runs WHERE id=?", (self.run.id,))
        return not rows or rows[0]["attempt"] < self.attempt

    # --- the end ----------------------------------------------------------------------------------------------

    def fail(self, code: str, params: dict[str, Any]) -> None:
        """Emit `failed` with that code and params, unless the engine has told an end already."""
        step = self.progress.summary().get("step", 0)
        self.emit(events.Failed(step=step, code=code, params=json_safe(params)))

    def finish(self) -> int:
        """Write the end into the ledger, waiting up to a minute; else the supervisor reads it from the events. Exit status."""
        self._over.set()
        end, summary = self.end, self.progress.summary()
        values = {name: summary[name] for name in ("step", "total", "loss", "lora", "rate", "memory") if name in summary}
        with self._trouble.suppressed():
            if isinstance(end, events.Finished):
                self._move("succeeded", patience=60, **values | {"lora": end.file, "step": end.step})
            elif isinstance(end, events.Stopped):
                self._move("stopped", patience=60, **values)
            elif isinstance(end, events.Failed):
                self._move("failed", end.code, end.params, patience=60, **values)
        with self._trouble.suppressed():
            if self.lease:
                self.lease.close()
            self.webhook.notify(self.store.get(self.run.id))
        self.webhook.wait()
        self.log.catch_up()
        return FAILED if isinstance(end, events.Failed) else DONE


def main(argv: list[str], *, train: Callable[..., Path | None] | None = None, beat: float = 5.0, tick: float = 1.0) -> int:
    """Train the run in that folder. 0: finished, or stopped on request; 1: failed, and told; 4: not ours (any more)."""
    parser = argparse.ArgumentParser(prog="run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--home")
    args = parser.parse_args(argv)
    run = RunDir(args.folder.resolve())
    home = Home.find(args.home) if args.home else Home(run.path.parent.parent.parent)
    signals = Signals()
    lock = attempt.acquire_lock(run)
    if lock is None:
        return NOT_OURS
    store = patiently(lambda: Store(home.database))
    number = patiently(lambda: store.claim(run.id, attempt.last_number(run)))
    if number is None:
        with suppress(Problem):  # gone from the ledger
            if store.get(run.id).pid in (None, os.getpid()):  # Stop came before the process did
                store.move(run.id, "stopped", only_from=("stopping",))
        return NOT_OURS
    trainer = TrainerProcess(run, store, number, beat, tick)
    attempt.begin(run, number)
    for folder in (run.path, run.samples):
        files.sweep_temporaries(folder)
    trainer.start_heartbeat()
    try:
        _train(trainer, home, signals, train)
    except Problem as problem:
        trainer.fail(problem.code, problem.params)
    except StopRequested:
        trainer.emit(events.Stopped(step=trainer.progress.summary().get("step", 0)))
    except BaseException as error:
        # The boundary of this process: whatever it was becomes a `failed` event, and the trace is kept.
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
            trainer.fail("job_memory", {})
        elif isinstance(error, OSError) and files.is_full(error):
            trainer.fail("disk_full", {"needed": "?", "folder": str(run.path)})
        else:
            trainer.fail("job_unexpected", {"id": _keep_trace(run), "log": run.log.name})
    status = trainer.finish()
    lock.release()
    return status


def patiently(operation: Callable[[], T], seconds: float = 600.0) -> T:
    """Do `operation`, again while the ledger is held by another program or the disk is full: no reason not to begin at all."""
    limit = time.monotonic() + seconds
    while True:
        try:
            return operation()
        except Problem as problem:
            if problem.code not in ("job_ledger_locked", "job_disk_short", "storage_full") or time.monotonic() > limit:
                raise
            files.complain(str(problem))
            time.sleep(1.0)


def _train(trainer: TrainerProcess, home: Home, signals: Signals, train: Callable[..., Path | None] | None) -> None:
    from trainer.engine.output.control import Control

    run = trainer.run
    control = Control(run, trainer.between)
    trainer.control = control
    signals.on_stop(lambda: control.ask("stop"))
    config = build(files.read_json(run.config, {}))
    if train is None:
        from trainer.engine.train import train
    trainer.take_device(device_key(config.run.device))
    began = time.monotonic()
    file = train(run, config, home, trainer.emit, control, trainer.attempt)
    if trainer.end is None:
        step = trainer.progress.summary().get("step", 0)
        if file is None:
            trainer.emit(events.Stopped(step=step))
        else:
            trainer.emit(events.Finished(step=step, seconds=time.monotonic() - began, file=str(file)))


def _keep_trace(run: RunDir) -> str:
    """The trace into log.txt under a number a person can name."""
    number = uuid.uuid4().hex[:8]
    text = f"\n[{number}] {traceback.format_exc()}"
    try:
        with open(run.log, "a", encoding="utf-8") as log:
            log.write(text)
    except OSError as error:
        files.complain(f"{error}{text}")
    return number


def json_safe(params: dict[str, Any]) -> dict[str, Any]:
    """Params as JSON can hold them."""
    return {k: v if isinstance(v, str | int | float | bool | list | type(None)) else str(v) for k, v in params.items()}
