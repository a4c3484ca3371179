"""Captioning as the Images page sees it: one job a set, its captions written as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.captions.captions import with_trigger
from trainer.images.set.image_set import ImageSet
from trainer.images.worker_job import WorkerJob


class CaptionJob(WorkerJob):
    """`seen` are the captions the pictures had when it began: only where one is unchanged is it written over."""

    def __init__(
        self, home: Home, found: ImageSet, given: str, seen: dict[str, str], *, prefix: str = "", variant: int = 0
    ) -> None:
        self.seen, self.prefix = seen, prefix
        self.written: dict[str, str] = {}
        self.skipped: list[str] = []
        argv = (
            "captions-worker", str(found.folder), "--with", given, "--home", str(home.root),
            "--kind", found.meta.kind, "--variant", str(variant),
        )  # fmt: skip
        super().__init__(found, argv, list(seen), home.cache / "captions.log")

    def _take(self, said: dict[str, Any]) -> None:
        match said["event"]:
            case "skipped":
                self.skipped.append(said["picture"])
            case "caption":
                self.state = "writing"
                self.looked += 1
                self._write(said["id"], said["text"])

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
