"""Work on a set by a process of its own, as the Images page sees it: captions and masks are made so (captioners/job.py,
masking/job.py). Closing the page changes nothing; the end of the server ends the job, and what is written stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

from trainer.core import process
from trainer.core.home import PROJECT
from trainer.core.problem import Problem
from trainer.images.set.image_set import ImageSet

State = Literal["starting", "fetching", "loading", "writing", "done", "cancelled", "failed"]
ENDED = ("done", "cancelled", "failed")


class WorkerJob:
    """Starts the command `argv`, gives it the ids as one JSON list, and reads its JSON lines: `fetching` (done, of),
    `loading`, `failed` (code, params), `done`, and what `_apply` understands. Whatever it prints else goes to `log`."""

    died = "captioner_died"
    """The Problem where it ends without a word."""

    def __init__(self, image_set: ImageSet, argv: Sequence[str], ids: Sequence[str], log: Path) -> None:
        self.image_set = image_set
        self.state: State = "starting"
        self.looked, self.of = 0, len(ids)
        """Pictures looked at, of how many."""
        self.bytes_done, self.bytes_of = 0, 0
        """How far the model is fetched, in bytes."""
        self.problem: Problem | None = None
        """Why it failed."""
        self.token: str | None = None
        """With it, all it wrote is taken back."""
        self._ids, self._log = list(ids), log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                process.python(*argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=PROJECT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}, **process.detached(),
            )  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._thread = threading.Thread(
            target=self._run, args=(self._process.stdin, self._process.stdout), name=log.stem, daemon=True
        )
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it is done, was cancelled, or failed."""
        return self.state in ENDED

    def cancel(self) -> None:
        """End it; what is written stays and can be taken back in one go."""
        if not self.ended:
            self.state = "cancelled"
        self._process.kill()

    def wait(self, seconds: float | None = None) -> None:
        """Until it has ended, or so many seconds."""
        self._thread.join(seconds)

    def _run(self, put: IO[bytes], got: IO[bytes]) -> None:
        try:
            put.write(json.dumps(self._ids).encode() + b"\n")
            put.close()
        except OSError:  # it ended at once; its status tells
            pass
        with got:
            for line in got:
                if self.state == "cancelled":
                    break
                try:
                    self._on_event(json.loads(line))
                except Problem as problem:  # the set is gone, or cannot be written
                    self.state, self.problem = "failed", problem
                    self._process.kill()
                    break
        self._process.wait()
        if not self.ended:
            self.state, self.problem = "failed", Problem(self.died, log=str(self._log))

    def _on_event(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "fetching":
                self.state, self.bytes_done, self.bytes_of = "fetching", event["done"], event["of"]
            case "loading":
                self.state = "loading"
            case "failed":
                self.state, self.problem = "failed", Problem(event["code"], **event["params"])
            case "done":
                self.state = "done"
            case _:
                self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        """An event only one sort of job knows."""
        raise NotImplementedError
