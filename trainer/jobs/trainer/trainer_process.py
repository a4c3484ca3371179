"""The trainer process: `python -m trainer run DIR [--home H]`. Takes the run, calls the engine, keeps the ledger told.

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
from trainer.jobs.ledger.trouble import Trouble, say
from trainer.jobs.trainer import attempt as attempts
from trainer.jobs.trainer.attempt import NOT_OURS
from trainer.jobs.trainer.progress import Progress
from trainer.jobs.trainer.signals import Signals
from trainer.jobs.webhook import Webhook

if TYPE_CHECKING:
    from trainer.engine.output.control import Control

DONE, FAILED = 0, 1
T = TypeVar("T")
_ENDS = (events.Finished, events.Stopped, events.Failed)


class StopRequested(BaseException):
    """Asked to stop before the first step: leaves the engine from within `tell`."""


class TrainerProcess:
    """One attempt at a run."""

    def __init__(self, run: RunDir, store: Store, attempt: int, beat: float, tick: float) -> None:
        self.run, self.store, self.attempt, self.beat, self.tick = run, store, attempt, beat, tick
        self.log, self.progress = events.EventLog(run.events), Progress()
        self.webhook = Webhook(store)
        self.end: events.Event | None = None
        self.paused = False
        self.held: DeviceLease | None = None
        self.control: Control | None = None
        self._stage = events.Stage(name="loading")
        self._over = threading.Event()
        self._writing = threading.Lock()  # what was summed up first is written first
        self._trouble = Trouble()

    # --- told by the engine -----------------------------------------------------------------------------------

    def tell(self, event: events.Event) -> None:
        """The engine's voice: to events.jsonl, to the summary, and where the state changes to the ledger."""
        if self.end is not None:
            return
        self.log.write(event)
        self.progress.take(event)
        if isinstance(event, _ENDS):
            self.end = event
        elif isinstance(event, events.Paused):
            self._pause(None)
        elif isinstance(event, events.Note) and event.code == "disk_waits":
            self._pause("disk")
        elif self.paused and not (isinstance(event, events.Stage) and event.name == "disk"):
            self._go_on()
        if isinstance(event, events.Stage):
            self._stage = event
            self._listen(event.name)

    def _listen(self, stage: str) -> None:
        """Where no step is made for long, requests are heard here: a preview gets the device between two pictures, and
        Stop ends a loading or an encoding at once (what was encoded is kept)."""
        if self.control is None or stage not in ("loading", "drawing", "encoding", "sampling"):
            return
        self.control.poll()
        if self.control.stop and stage != "sampling":
            raise StopRequested

    def _pause(self, why: str | None) -> None:
        """The state and how far it came, in one: who reads `paused` reads the step it rests at."""
        self.paused = True
        with self._writing, self._trouble.passed_over():
            known = self.progress.summary()
            known.pop("quiet")
            self._move("paused", why, **known)
            if why:
                self.webhook.tell(self.store.get(self.run.id))
        with self._trouble.passed_over():
            if self.held:
                self.held.release()

    def _go_on(self) -> None:
        self.paused = False
        with self._trouble.passed_over():
            self._move("running", only_from=("paused",))
        with self._trouble.passed_over():
            if self.held:
                self.held.take()

    def take_device(self, device: str) -> None:
        """Hold the device, waiting while a preview draws on it; without a ledger, train on it all the same."""
        with self._trouble.passed_over():
            row = self.store.get(self.run.id)
            if row.requeues and row.attempt > 1:
                self.tell(events.Note(code="went_on"))
        with self._trouble.passed_over():
            self.held = DeviceLease(self.store, device, f"run {self.run.id} {self.attempt}", self.waits)
            self.held.take()

    def between(self) -> None:
        """The engine's hook between two steps: a preview may want the device. Microseconds where none does."""
        if self.held and not self.paused:
            with self._trouble.passed_over():
                self.held.between()

    def waits(self, begins: bool) -> None:
        """The device is lent to a preview, or back."""
        if self.end is None:
            stage = events.Stage(name="waiting") if begins else self._stage
            self.log.write(stage)
            self.progress.take(stage)

    # --- the heartbeat ----------------------------------------------------------------------------------------

    def beat_on(self) -> threading.Thread:
        """Begin to write a heartbeat every few seconds, and what is new a little more often."""
        thread = threading.Thread(target=self._beats, name="heartbeat", daemon=True)
        thread.start()
        return thread

    def _beats(self) -> None:
        last = time.monotonic()
        while not self._over.wait(self.tick):
            if self.progress.changed or time.monotonic() - last >= self.beat:
                last = time.monotonic()
                self._write()

    def _write(self) -> None:
        ours = True
        self.log.catch_up()
        with self._writing, self._trouble.passed_over():
            ours = self.store.progress(self.run.id, self.attempt, self.progress.summary(), patience=self.beat)
            ours = ours or self._over.is_set() or self._enter_again()
        if not ours and not self._over.is_set():
            say("Another process has taken this run over; ending here.")
            os._exit(NOT_OURS)

    def _enter_again(self) -> bool:
        """The ledger was lost or put back from its copy while this trains: say there that it does. False where the run is
        rightly another's."""
        state: State = "stopping" if self.control and self.control.stop else "paused" if self.paused else "running"
        who = process.me()
        if self.store.take_back(self.run.id, self.attempt, who, state):
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

    def _move(self, to: State, why: str | None = None, params: dict[str, Any] | None = None, **more: Any) -> None:
        """Write a change of state, into a ledger that has lost this run too."""
        if not self.store.move(self.run.id, to, why, params, attempt=self.attempt, **more) and self._is_unknown():
            self._enter_again()
            self.store.move(self.run.id, to, why, params, attempt=self.attempt, **more)

    def _is_unknown(self) -> bool:
        rows = self.store.read("SELECT attempt FROM runs WHERE id=?", (self.run.id,))
        return not rows or rows[0]["attempt"] < self.attempt

    # --- the end ----------------------------------------------------------------------------------------------

    def fail(self, code: str, params: dict[str, Any]) -> None:
        """Tell how it ended, unless the engine has."""
        step = self.progress.summary().get("step", 0)
        self.tell(events.Failed(step=step, code=code, params=plain(params)))

    def finish(self) -> int:
        """Write the end into the ledger, waiting up to a minute; else the supervisor reads it from the events."""
        self._over.set()
        end, known = self.end, self.progress.summary()
        values = {name: known[name] for name in ("step", "total", "loss", "lora", "rate", "memory") if name in known}
        with self._trouble.passed_over():
            if isinstance(end, events.Finished):
                self._move("succeeded", patience=60, **values | {"lora": end.file, "step": end.step})
            elif isinstance(end, events.Stopped):
                self._move("stopped", patience=60, **values)
            elif isinstance(end, events.Failed):
                self._move("failed", end.code, end.params, patience=60, **values)
        with self._trouble.passed_over():
            if self.held:
                self.held.close()
            self.webhook.tell(self.store.get(self.run.id))
        self.webhook.wait()
        self.log.catch_up()
        return FAILED if isinstance(end, events.Failed) else DONE


def main(argv: list[str], *, train: Callable[..., Path | None] | None = None, beat: float = 5.0, tick: float = 1.0) -> int:
    """Train the run in that folder. 0: finished, or stopped on request; 1: failed, and told; 4: not ours (any more)."""
    parser = argparse.ArgumentParser(prog="run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--home")
    given = parser.parse_args(argv)
    run = RunDir(given.folder.resolve())
    home = Home.find(given.home) if given.home else Home(run.path.parent.parent.parent)
    signals = Signals()
    lock = attempts.hold(run)
    if lock is None:
        return NOT_OURS
    store = patiently(lambda: Store(home.database))
    attempt = patiently(lambda: store.claim(run.id, attempts.last_number(run)))
    if attempt is None:
        with suppress(Problem):  # gone from the ledger
            if store.get(run.id).pid in (None, os.getpid()):  # Stop came before the process did
                store.move(run.id, "stopped", only_from=("stopping",))
        return NOT_OURS
    child = TrainerProcess(run, store, attempt, beat, tick)
    attempts.begin(run, attempt)
    for folder in (run.path, run.samples):
        files.sweep_temporaries(folder)
    child.beat_on()
    try:
        _train(child, home, signals, train)
    except Problem as problem:
        child.fail(problem.code, problem.params)
    except StopRequested:
        child.tell(events.Stopped(step=child.progress.summary().get("step", 0)))
    except BaseException as error:
        # The boundary of this process: whatever it was is told, and the trace kept.
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
            child.fail("job_memory", {})
        elif isinstance(error, OSError) and files.is_full(error):
            child.fail("disk_full", {"needed": "?", "folder": str(run.path)})
        else:
            child.fail("job_unexpected", {"id": _keep_trace(run), "log": run.log.name})
    status = child.finish()
    lock.release()
    return status


def patiently(act: Callable[[], T], seconds: float = 600.0) -> T:
    """Do `act`, again while the ledger is held by another program or the disk is full: no reason not to begin at all."""
    limit = time.monotonic() + seconds
    while True:
        try:
            return act()
        except Problem as problem:
            if problem.code not in ("job_ledger_locked", "job_disk_short", "storage_full") or time.monotonic() > limit:
                raise
            say(str(problem))
            time.sleep(1.0)


def _train(child: TrainerProcess, home: Home, signals: Signals, train: Callable[..., Path | None] | None) -> None:
    from trainer.engine.output.control import Control

    run = child.run
    control = Control(run, child.between)
    child.control = control
    signals.lead_to(lambda: control.ask("stop"))
    config = build(files.read_json(run.config, {}))
    if train is None:
        from trainer.engine.train import train
    child.take_device(device_key(config.run.device))
    began = time.monotonic()
    file = train(run, config, home, child.tell, control, child.attempt)
    if child.end is None:
        step = child.progress.summary().get("step", 0)
        if file is None:
            child.tell(events.Stopped(step=step))
        else:
            child.tell(events.Finished(step=step, seconds=time.monotonic() - began, file=str(file)))


def _keep_trace(run: RunDir) -> str:
    """The trace into log.txt under a number a person can name."""
    number = uuid.uuid4().hex[:8]
    text = f"\n[{number}] {traceback.format_exc()}"
    try:
        with open(run.log, "a", encoding="utf-8") as log:
            log.write(text)
    except OSError as error:
        say(f"{error}{text}")
    return number


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """Params as JSON can hold them."""
    return {k: v if isinstance(v, str | int | float | bool | list | type(None)) else str(v) for k, v in params.items()}
