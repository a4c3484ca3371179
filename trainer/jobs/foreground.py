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
from trainer.jobs.ledger.run_store import RunRow
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
    patience: Timeouts | None = None,
    command: Command = command,
) -> int:
    """Train. `show` gets each event, and the row whenever its state changes. 0: finished; 1: not; 130: stopped.

    Waits where another run has the device.
    """
    jobs = Jobs(home)
    return _watch(jobs, jobs.submit(config, runner=process.me()), show, 0, patience, command)


def resume(
    id_: str,
    home: Home,
    show: Show,
    *,
    set_as_it_is: bool = False,
    patience: Timeouts | None = None,
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
    return _watch(jobs, id_, show, size, patience, command)


def _watch(jobs: Jobs, id_: str, show: Show, offset: int, patience: Timeouts | None, command: Command) -> int:
    """Start the queued run in its turn and show its events from byte `offset` on, until its process is gone."""
    patience = patience or Timeouts(tick=0.3)
    supervisor = Supervisor(jobs.home, jobs.store, patience=patience, command=command, only=id_)
    asked, trouble, state = _Asked(), _Trouble(id_), None
    try:
        while True:
            row = trouble.looks(supervisor, jobs)
            if row is None:
                if asked.times and trouble.asks(jobs.run_dir(id_), asked.times):
                    return 1
                time.sleep(patience.tick)
                continue
            told, offset = events.read(jobs.run_dir(id_).events, offset)
            for event in told:
                show(event)
            if row.state != state:
                state = row.state
                show(row)
            if row.state in ENDED and row.pid is None and not told:  # the process is gone too: the device is free
                return 0 if row.state == "succeeded" else 130 if row.state == "stopped" else 1
            if asked.times == 1 and row.state != "stopping":
                jobs.stop(id_)
            elif asked.times > 1 and row.pid:
                jobs.stop(id_)
                process.end(row.pid, row.born or 0.0, 0.0)
            time.sleep(patience.tick)
    finally:
        asked.restore()
        supervisor.webhook.wait()
        jobs.close()


class _Trouble:
    """A ledger that cannot be read for a while ends neither the training nor the command that shows it."""

    def __init__(self, id_: str) -> None:
        self.id, self._trouble, self._asked = id_, Trouble(), 0

    def looks(self, supervisor: Supervisor, jobs: Jobs) -> RunRow | None:
        """One look of the supervisor, and the run; None where the ledger does not answer, which is said."""
        with self._trouble.passed_over():
            supervisor.tick()
            return jobs.row(self.id)
        return None

    def asks(self, run: RunDir, times: int) -> bool:
        """Hand Ctrl-C on without the ledger; True at the second, where this command ends and the training stops by itself."""
        if self._asked == 0:
            run.ask("stop")
        self._asked = times
        return times > 1


class Lines:
    """Prints what happens: stages, every so many seconds a step, what is saved, how it ended."""

    def __init__(self, out: TextIO = sys.stdout, every: float = 5.0) -> None:
        self.out, self.every = out, every
        self._last, self._stage = 0.0, ""
        self._row: RunRow | None = None

    def __call__(self, told: events.Event | RunRow) -> None:
        if isinstance(told, RunRow):
            self._row = told
            if told.state in ("queued", "failed", "interrupted", "stopped", "paused"):
                reason = told.reason()
                self._say(t(f"states.{told.state}") + (f": {reason}" if reason else ""))
            elif told.state == "succeeded":
                self._say(t("notes_jobs.line_lora", file=told.lora))
        elif isinstance(told, events.Step):
            self._step(told)
        elif isinstance(told, events.Stage):
            if told.name not in (self._stage, "training"):
                self._say(t(f"stages.{told.name}"))
            self._stage = told.name
        elif isinstance(told, events.Note):
            self._say(note_text(told))
        elif isinstance(told, events.Judged):
            self._say(t("notes_jobs.line_judged", step=told.step, percent=f"{told.ratio * 100:.1f}", best=told.best))
        elif isinstance(told, events.Scored):
            fits = "–" if told.prompt is None else f"{told.prompt:.3f}"
            copies = sum(one.copied for one in told.pictures)
            self._say(t("notes_jobs.line_scored", step=told.step, likeness=f"{told.likeness:.3f}", prompt=fits, copies=copies))
        elif isinstance(told, events.Sample):
            self._say(t("notes_jobs.line_sample", file=told.file))

    def _step(self, told: events.Step) -> None:
        now = time.monotonic()
        if now - self._last < self.every and told.step != told.total:
            return
        self._last = now
        left = (told.total - told.step) * told.seconds
        loss = "–" if told.loss is None else f"{told.loss:.4f}"
        clock = f"{int(left) // 60}:{int(left) % 60:02d}"
        self._say(t("notes_jobs.line_step", step=told.step, total=told.total, loss=loss, left=clock))

    def _say(self, line: str) -> None:
        print(line, file=self.out, flush=True)


class _Asked:
    """Counts the signals that ask for an end, while it lives."""

    def __init__(self) -> None:
        self.times = 0
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self._before = {number: signal.signal(number, self._hear) for number in numbers}

    def _hear(self, _number: int, _frame: Any) -> None:
        self.times += 1

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
