"""A run at the command line: the same ledger row and the same trainer process as the page's, shown line by line here.

Called by `python launch.py train`. Ctrl-C (or a closed terminal) stops after the step and keeps; a second Ctrl-C kills.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from trainer.config.train import TrainConfig
from trainer.core import events, process
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.core.texts import t
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.ledger.states import ENDED
from trainer.jobs.ledger.trouble import Trouble
from trainer.jobs.run_reader import note_text
from trainer.jobs.supervisor import Command, Supervisor, Timeouts, command

Show = Callable[[events.Event | RunRow], None]


def run(
    config: TrainConfig,
    home: Home,
    show: Show,
    *,
    timeouts: Timeouts | None = None,
    command: Command = command,
) -> int:
    """Train. `show` gets each event, and the row whenever its state changes. 0: finished; 1: not; 130: stopped.

    Waits where another run has the device.
    """
    jobs = Jobs(home)
    return _watch(jobs, jobs.submit(config, runner=process.me()), show, 0, timeouts, command)


def resume(
    id_: str,
    home: Home,
    show: Show,
    *,
    set_as_it_is: bool = False,
    timeouts: Timeouts | None = None,
    command: Command = command,
) -> int:
    """Go on with a run that ended before its time, shown as `run` shows a new one. See `Jobs.resume` for what is refused."""
    jobs = Jobs(home)
    try:
        events_file = jobs.run_dir(id_).events
        size = events_file.stat().st_size if events_file.exists() else 0
        jobs.resume(id_, set_as_it_is=set_as_it_is, runner=process.me())
    except BaseException:
        jobs.close()
        raise
    return _watch(jobs, id_, show, size, timeouts, command)


def _watch(jobs: Jobs, id_: str, show: Show, offset: int, timeouts: Timeouts | None, command: Command) -> int:
    """Start the queued run in its turn and show its events from byte `offset` on, until its process is gone."""
    timeouts = timeouts or Timeouts(tick=0.3)
    supervisor = Supervisor(jobs.home, jobs.store, timeouts=timeouts, command=command, only=id_)
    signals, run, state = _StopSignals(), _RunInLedger(id_), None
    try:
        while True:
            row = run.row(supervisor, jobs)
            if row is None:
                if signals.count and run.stop_without_ledger(jobs.run_dir(id_), signals.count):
                    return 1
                time.sleep(timeouts.tick)
                continue
            new_events, offset = events.read(jobs.run_dir(id_).events, offset)
            for event in new_events:
                show(event)
            if row.state != state:
                state = row.state
                show(row)
            if row.state in ENDED and row.pid is None and not new_events:  # the process is gone too: the device is free
                return 0 if row.state == "succeeded" else 130 if row.state == "stopped" else 1
            if signals.count == 1 and row.state != "stopping":
                jobs.stop(id_)
            elif signals.count > 1 and row.pid:
                jobs.stop(id_)
                process.end(row.pid, row.birth or 0.0, 0.0)
            time.sleep(timeouts.tick)
    finally:
        signals.restore()
        supervisor.webhook.wait()
        jobs.close()


class _RunInLedger:
    """The run's row: a ledger that cannot be read for a while ends neither the training nor the command that shows it."""

    def __init__(self, id_: str) -> None:
        self.id, self._trouble, self._signals = id_, Trouble(), 0

    def row(self, supervisor: Supervisor, jobs: Jobs) -> RunRow | None:
        """One look of the supervisor, and the run; None where the ledger does not answer, which is said."""
        with self._trouble.suppressed():
            supervisor.tick()
            return jobs.row(self.id)
        return None

    def stop_without_ledger(self, run: RunDir, count: int) -> bool:
        """Hand Ctrl-C on without the ledger; True at the second, where this command ends and the training stops by itself."""
        if self._signals == 0:
            run.ask("stop")
        self._signals = count
        return count > 1


class ProgressPrinter:
    """Prints what happens: stages, every so many seconds a step, what is saved, how it ended."""

    def __init__(self, out: TextIO = sys.stdout, every: float = 5.0) -> None:
        self.out, self.every = out, every
        self._last, self._stage = 0.0, ""
        self._row: RunRow | None = None

    def __call__(self, event: events.Event | RunRow) -> None:
        if isinstance(event, RunRow):
            self._row = event
            if event.state in ("queued", "failed", "interrupted", "stopped", "paused"):
                reason = event.reason_text()
                self._print(t(f"states.{event.state}") + (f": {reason}" if reason else ""))
            elif event.state == "succeeded":
                self._print(t("notes_jobs.line_lora", file=event.lora))
        elif isinstance(event, events.Step):
            self._step(event)
        elif isinstance(event, events.Stage):
            if event.name not in (self._stage, "training"):
                self._print(t(f"stages.{event.name}"))
            self._stage = event.name
        elif isinstance(event, events.Note):
            self._print(note_text(event))
        elif isinstance(event, events.Validated):
            self._print(t("notes_jobs.line_judged", step=event.step, percent=f"{event.ratio * 100:.1f}", best=event.best))
        elif isinstance(event, events.Scored):
            fits = "–" if event.prompt is None else f"{event.prompt:.3f}"
            copies = sum(picture.copied for picture in event.pictures)
            likeness = f"{event.likeness:.3f}"
            self._print(t("notes_jobs.line_scored", step=event.step, likeness=likeness, prompt=fits, copies=copies))
        elif isinstance(event, events.Sample):
            self._print(t("notes_jobs.line_sample", file=event.file))

    def _step(self, event: events.Step) -> None:
        now = time.monotonic()
        if now - self._last < self.every and event.step != event.total:
            return
        self._last = now
        left = (event.total - event.step) * event.seconds
        loss = "–" if event.loss is None else f"{event.loss:.4f}"
        clock = f"{int(left) // 60}:{int(left) % 60:02d}"
        self._print(t("notes_jobs.line_step", step=event.step, total=event.total, loss=loss, left=clock))

    def _print(self, line: str) -> None:
        print(line, file=self.out, flush=True)


class _StopSignals:
    """Counts the signals that ask for an end, while it lives."""

    def __init__(self) -> None:
        self.count = 0
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self.count += 1

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
