"""The trainer process: `python -m trainer run DIR [--home H]`. Takes the run, calls the engine, keeps the ledger told.

The engine is imported inside `main` only. Started detached by the supervisor or by `python launch.py train`.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import events, files
from trainer.config.load import build
from trainer.home import Home
from trainer.jobs.lease import Held
from trainer.jobs.progress import Progress
from trainer.jobs.signals import Signals
from trainer.jobs.store import Store
from trainer.jobs.webhook import Webhook
from trainer.problem import Problem
from trainer.run_dir import RunDir

if TYPE_CHECKING:
    from trainer.engine.control import Control

DONE, FAILED, NOT_OURS = 0, 1, 4
_ENDS = (events.Finished, events.Stopped, events.Failed)


@contextmanager
def _a_ledger_in_trouble_ends_no_training() -> Iterator[None]:
    """Locked for long, on a full disk: said in the log and passed over. The supervisor reads the end in the events."""
    try:
        yield
    except (Problem, sqlite3.Error, OSError) as error:
        print(f"The ledger could not be written: {error}", file=sys.stderr, flush=True)


class Stopped(BaseException):
    """Asked to stop before the first step: leaves the engine from within `tell`."""


class Child:
    """One attempt at a run."""

    def __init__(self, run: RunDir, store: Store, attempt: int, beat: float, tick: float) -> None:
        self.run, self.store, self.attempt, self.beat, self.tick = run, store, attempt, beat, tick
        self.log, self.progress = events.EventLog(run.events), Progress()
        self.webhook = Webhook(store)
        self.end: events.Event | None = None
        self.paused = False
        self.held: Held | None = None
        self.control: Control | None = None
        self._stage = events.Stage(name="loading")
        self._over = threading.Event()
        self._writing = threading.Lock()  # what was summed up first is written first

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
            raise Stopped

    def _pause(self, why: str | None) -> None:
        """The state and how far it came, in one: who reads `paused` reads the step it rests at."""
        self.paused = True
        with self._writing, _a_ledger_in_trouble_ends_no_training():
            known = self.progress.summary()
            known.pop("quiet")
            self.store.move(self.run.id, "paused", why, attempt=self.attempt, **known)
            if why:
                self.webhook.tell(self.store.get(self.run.id))
        with _a_ledger_in_trouble_ends_no_training():
            if self.held:
                self.held.release()

    def _go_on(self) -> None:
        self.paused = False
        with _a_ledger_in_trouble_ends_no_training():
            self.store.move(self.run.id, "running", attempt=self.attempt, only_from=("paused",))
            if self.held:
                self.held.take()

    def between(self) -> None:
        """The engine's hook between two steps: a preview may want the device. Microseconds where none does."""
        if self.held and not self.paused:
            with _a_ledger_in_trouble_ends_no_training():
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
        with self._writing, _a_ledger_in_trouble_ends_no_training():
            ours = self.store.progress(self.run.id, self.attempt, self.progress.summary(), patience=self.beat)
        if not ours and not self._over.is_set():
            print("Another process has taken this run over; ending here.", file=sys.stderr, flush=True)
            os._exit(NOT_OURS)

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
        with _a_ledger_in_trouble_ends_no_training():
            if isinstance(end, events.Finished):
                values |= {"lora": end.file, "step": end.step}
                self.store.move(self.run.id, "succeeded", attempt=self.attempt, patience=60, **values)
            elif isinstance(end, events.Stopped):
                self.store.move(self.run.id, "stopped", attempt=self.attempt, patience=60, **values)
            elif isinstance(end, events.Failed):
                self.store.move(
                    self.run.id, "failed", end.code, end.params, attempt=self.attempt, patience=60, **values)
            if self.held:
                self.held.close()
            self.webhook.tell(self.store.get(self.run.id))
        self.webhook.wait()
        return FAILED if isinstance(end, events.Failed) else DONE


def main(
    argv: list[str], *, train: Callable[..., Path | None] | None = None, beat: float = 5.0, tick: float = 1.0
) -> int:
    """Train the run in that folder. 0: finished, or stopped on request; 1: failed, and told; 4: not ours (any more)."""
    parser = argparse.ArgumentParser(prog="run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--home")
    given = parser.parse_args(argv)
    run = RunDir(given.folder.resolve())
    home = Home.find(given.home) if given.home else Home(run.path.parent.parent.parent)
    store = Store(home.database)
    signals = Signals()
    attempt = store.claim(run.id)
    if attempt is None:
        if store.get(run.id).pid in (None, os.getpid()):  # Stop came before the process did
            store.move(run.id, "stopped", only_from=("stopping",))
        return NOT_OURS
    child = Child(run, store, attempt, beat, tick)
    child.beat_on()
    try:
        _train(child, home, signals, train)
    except Problem as problem:
        child.fail(problem.code, problem.params)
    except Stopped:
        child.tell(events.Stopped(step=child.progress.summary().get("step", 0)))
    except MemoryError:
        child.fail("job_memory", {})
    except BaseException as error:
        # The boundary of this process: whatever it was is told, and the trace kept.
        if "OutOfMemory" in type(error).__name__:
            child.fail("job_memory", {})
        else:
            child.fail("job_unexpected", {"id": _keep_trace(run), "log": run.log.name})
    return child.finish()


def _train(child: Child, home: Home, signals: Signals, train: Callable[..., Path | None] | None) -> None:
    from trainer.engine.control import Control

    run = child.run
    control = Control(run, child.between)
    child.control = control
    signals.lead_to(lambda: control.ask("stop"))
    config = build(files.read_json(run.config, {}))
    if train is None:
        from trainer.engine.train import train
    row = child.store.get(run.id)
    child.held = Held(child.store, row.device, f"run {run.id} {child.attempt}", child.waits)
    child.held.take()
    if row.requeues and row.attempt > 1:
        child.tell(events.Note(code="went_on"))
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
        print(f"{error}{text}", file=sys.stderr, flush=True)
    return number


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """Params as JSON can hold them."""
    return {k: v if isinstance(v, str | int | float | bool | type(None)) else str(v) for k, v in params.items()}
