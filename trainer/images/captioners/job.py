"""Captioning as the Images page sees it: one job a set, in a process of its own, its captions written as they come.

Closing the page changes nothing; the end of the server ends the job, and what is written stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from typing import IO, Any, Literal

from trainer.home import PROJECT, Home
from trainer.images.captions import with_trigger
from trainer.images.image_set import ImageSet
from trainer.jobs import process
from trainer.problem import Problem

State = Literal["starting", "fetching", "loading", "writing", "done", "cancelled", "failed"]
ENDED = ("done", "cancelled", "failed")


class CaptionJob:
    """`seen` are the captions the pictures had when it began: only where one is unchanged is it written over."""

    def __init__(
        self, home: Home, found: ImageSet, given: str, seen: dict[str, str], *, prefix: str = "", variant: int = 0
    ) -> None:
        self.found, self.seen, self.prefix = found, seen, prefix
        self.state: State = "starting"
        self.looked, self.of = 0, len(seen)
        self.bytes_done, self.bytes_of = 0, 0
        self.written: dict[str, str] = {}
        self.skipped: list[str] = []
        self.problem: Problem | None = None
        self.token: str | None = None
        self._log = home.cache / "captions.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        argv = process.python(
            "captions-worker", str(found.folder), "--with", given, "--home", str(home.root),
            "--kind", found.meta.kind, "--variant", str(variant),
        )  # fmt: skip
        with open(self._log, "ab") as errors:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=PROJECT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}, **process.detached(),
            )  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._thread = threading.Thread(
            target=self._run, args=(self._process.stdin, self._process.stdout), name="captions", daemon=True
        )
        self._thread.start()

    @property
    def ended(self) -> bool:
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
            put.write(json.dumps(list(self.seen)).encode() + b"\n")
            put.close()
        except OSError:  # it ended at once; its status tells
            pass
        with got:
            for line in got:
                if self.state == "cancelled":
                    break
                try:
                    self._hear(json.loads(line))
                except Problem as problem:  # the set is gone, or cannot be written
                    self.state, self.problem = "failed", problem
                    self._process.kill()
                    break
        self._process.wait()
        if not self.ended:
            self.state, self.problem = "failed", Problem("captioner_died", log=str(self._log))

    def _hear(self, said: dict[str, Any]) -> None:
        match said["event"]:
            case "fetching":
                self.state, self.bytes_done, self.bytes_of = "fetching", said["done"], said["of"]
            case "loading":
                self.state = "loading"
            case "skipped":
                self.skipped.append(said["picture"])
            case "caption":
                self.state = "writing"
                self.looked += 1
                self._write(said["id"], said["text"])
            case "failed":
                self.state, self.problem = "failed", Problem(said["code"], **said["params"])
            case "done":
                self.state = "done"

    def _write(self, id_: str, text: str) -> None:
        text = with_trigger(text, self.prefix)
        self.token, ids = self.found.fill({id_: text}, self.seen, self.token)
        if ids:
            self.written[id_] = self.found.find(id_).caption


class Captioning:
    """The jobs of one studio, by set; and how often a picture was asked about, so that asking again says something else."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._jobs: dict[str, CaptionJob] = {}
        self._asked: dict[tuple[str, str], int] = {}

    def of(self, found: ImageSet) -> CaptionJob | None:
        """The job of a set, running or the last that ended."""
        return self._jobs.get(found.folder.name)

    def start(self, found: ImageSet, given: str, ids: Sequence[str], *, prefix: str = "", again: bool = False) -> CaptionJob:
        """Begin with the pictures `ids`; `again` for one picture wants another caption than last time.
        Problem where the set's last job still runs."""
        name = found.folder.name
        running = self._jobs.get(name)
        if running is not None and not running.ended:
            raise Problem("captions_running")
        wanted = set(ids)
        seen = {p.id: p.caption for p in found.pictures() if p.id in wanted}
        variant = self._asked.get((name, ids[0]), 0) if again else 0
        for id_ in seen:
            self._asked[name, id_] = variant + 1
        job = self._jobs[name] = CaptionJob(self.home, found, given, seen, prefix=prefix, variant=variant)
        return job

    def close(self) -> None:
        """End every job."""
        for job in self._jobs.values():
            job.cancel()
            job.wait(3)
