"""The page's side of the preview worker: starts it, queues draws, borrows the device from a training, tells on.

The worker (`python -m trainer preview-worker`) keeps a base loaded, so a change of strength loads nothing. It ends with
this process, because its standard input ends then; its errors go to outputs/preview.log.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from trainer.core import process
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.jobs.ledger import lease
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.workers.worker import DIED, WorkerProcess

ENDS = ("done", "failed", "cancelled")


class _Cancelled(Exception):
    """The draw was cancelled before it had begun."""


def command(home: Home) -> list[str]:
    """The worker process."""
    return process.python("preview-worker", "--home", str(home.root))


class PreviewClient:
    """Owns the worker. One draw at a time, later ones wait their turn; safe from any thread."""

    def __init__(
        self,
        home: Home,
        store: Store | None = None,
        *,
        command: Callable[[Home], list[str]] = command,
        device: str = "main",
        patience: float = 60.0,
        idle: float = 60.0,
    ) -> None:
        self.home, self._store, self.command, self.device = home, store, command, device
        self.patience, self.idle = patience, idle
        self._worker: WorkerProcess | None = None
        self._waiting: deque[str] = deque()
        self._turn = threading.Condition()
        self._cancelled: set[str] = set()
        self._needed: dict[str, frozenset[Path]] = {}
        self._closed = False
        self._idle: threading.Timer | None = None

    def draw(self, base: str, request: dict[str, Any], out: Path | str) -> Iterator[dict[str, Any]]:
        """Draw `request` (a DrawRequest as plain values) into the folder `out`: what happens, as it happens.

        `queued` (with `position`), `waiting` (a training is about to yield), `loading`, `progress` (step, of),
        `picture` (file, strength), and one end: `done`, `cancelled` or `failed` (code, params). Leaving it cancels.
        """
        Path(out).mkdir(parents=True, exist_ok=True)
        yield from self._handle({"do": "draw", "base": base, "request": request, "out": str(out)})

    def warm(self, base: str) -> None:
        """Load `base` ahead of the first draw, in the background; not while something trains: memory is its."""
        if self._waiting or self.store.active(self.device):
            return
        threading.Thread(target=lambda: list(self._handle({"do": "warm", "base": base})), name="warm", daemon=True).start()

    def cancel(self) -> None:
        """End the draw that is on; those that wait are left."""
        with self._turn:
            if self._waiting:
                self._cancelled.add(self._waiting[0])
                if self._worker:
                    self._worker.send({"id": self._waiting[0], "do": "cancel"})

    def uses(self, path: Path) -> bool:
        """Whether a drawing that is on or waits reads the file `path`."""
        with self._turn:
            return any(path.resolve() in needed for needed in self._needed.values())

    def unload(self) -> None:
        """Let the worker go, and its memory; the next draw starts it again."""
        with self._turn:
            if not self._waiting and self._worker:
                self._worker.close()
                self._worker = None

    def _schedule_unload(self) -> None:
        """Where a training needs the memory, the worker does not keep it for long after the last draw."""
        with self._turn:
            if self._closed:
                return
            if self._idle:
                self._idle.cancel()
            self._idle = threading.Timer(self.idle, self._unload_if_idle)
            self._idle.daemon = True
            self._idle.start()

    def _unload_if_idle(self) -> None:
        if self._worker is None or self._waiting or self._closed:
            return
        if self.store.active(self.device):
            self.unload()
        else:
            self._schedule_unload()

    def close(self) -> None:
        """End the worker for good."""
        with self._turn:
            self._closed = True
            if self._idle:
                self._idle.cancel()
            self._cancelled |= set(self._waiting)
            if self._worker:
                self._worker.close()
            self._turn.notify_all()

    @property
    def store(self) -> Store:
        """The ledger, opened when first needed."""
        if self._store is None:
            self._store = Store(self.home.database)
        return self._store

    # --- one request ------------------------------------------------------------------------------------------

    def _handle(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        name = uuid.uuid4().hex
        job = {"id": name, **job}
        loras = frozenset(Path(use["path"]).resolve() for use in job.get("request", {}).get("loras") or ())
        with self._slot(name, loras):
            try:
                yield from self._await_turn(name)
                yield from self._generate(name, job)
            except _Cancelled:
                yield {"id": name, "event": "cancelled"}
            except Problem as problem:
                yield {"id": name, "event": "failed", "code": problem.code, "params": problem.params}

    @contextmanager
    def _slot(self, name: str, loras: frozenset[Path]) -> Iterator[None]:
        with self._turn:
            self._waiting.append(name)
            self._needed[name] = loras
        try:
            yield
        finally:
            with self._turn:
                self._waiting.remove(name)
                del self._needed[name]
                self._cancelled.discard(name)
                self._turn.notify_all()
            self._schedule_unload()

    def _await_turn(self, name: str) -> Iterator[dict[str, Any]]:
        """Until it is our turn."""
        reported = 0
        while True:
            with self._turn:
                position = self._waiting.index(name)
                if position and position == reported:
                    self._turn.wait(0.5)
                    position = self._waiting.index(name)
            self._check(name)
            if not position:
                return
            if position != reported:
                reported = position
                yield {"id": name, "event": "queued", "position": position}

    def _generate(self, name: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Have the base loaded, then borrow the device for the drawing alone: a training never waits for a loading."""
        for last in (False, True):
            if job["do"] == "draw" and (self._worker is None or self._worker.base != job["base"]):
                with closing(self._answers(name, {**job, "do": "warm"})) as answers:
                    for answer in answers:
                        if answer["event"] != "done":
                            yield answer
                        if answer["event"] in ("failed", "cancelled"):
                            return
            if job["do"] == "draw" and lease.holder(self.store, self.device) == "train":
                yield {"id": name, "event": "waiting"}
            with self._borrowed(name, job["do"] == "draw"), closing(self._answers(name, job)) as answers:
                for answer in answers:
                    yield answer
                    if answer["event"] in ENDS:
                        return
                    lease.touch(self.store, self.device)
            self._check(name)
            if last:
                yield {"id": name, "event": "failed", "code": "job_preview_died", "params": {"log": "preview.log"}}

    def _borrowed(self, name: str, needed: bool) -> AbstractContextManager[bool]:
        if not needed:
            return nullcontext(False)
        return lease.borrow(self.store, self.device, patience=self.patience, waiting=lambda: self._check(name))

    def _answers(self, name: str, job: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The worker's answers up to an end, or up to its death. Left before that, it first makes the worker stop."""
        self._check(name)
        worker, ended = self._start(), False
        worker.send(job)
        try:
            for answer in worker.answers(name):
                ended = answer is DIED or answer["event"] in ENDS
                if answer is DIED:
                    return
                if answer["event"] == "done":
                    worker.base = job["base"]
                yield answer
                if ended:
                    return
        finally:
            if not ended:
                self._abandon(worker, name)

    def _check(self, name: str) -> None:
        if name in self._cancelled:
            raise _Cancelled

    def _start(self) -> WorkerProcess:
        with self._turn:
            if self._closed:
                raise Problem("job_preview_closed")
            if self._worker is None or not self._worker.is_alive():
                if self._worker:
                    self._worker.close()
                    self._worker = None
                try:
                    self._worker = WorkerProcess(self.command(self.home), self.home.outputs / "preview.log")
                except OSError as error:
                    raise Problem("job_no_process", detail=str(error)) from error
            return self._worker

    def _abandon(self, worker: WorkerProcess, name: str) -> None:
        """Nobody listens any more: the worker is told, and what it still says is drained before the next one's turn."""
        if not worker.is_alive():
            return
        worker.send({"id": name, "do": "cancel"})
        limit = time.monotonic() + 20
        for answer in worker.answers(name, give_up=limit):
            if answer["event"] in ENDS:
                return
        worker.close()
