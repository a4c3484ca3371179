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
        self, home: Home, image_set: ImageSet, captioner: str, seen: dict[str, str], *, prefix: str = "", variant: int = 0
    ) -> None:
        self.seen, self.prefix = seen, prefix
        self.written: dict[str, str] = {}
        self.skipped: list[str] = []
        argv = (
            "captions-worker", str(image_set.folder), "--with", captioner, "--home", str(home.root),
            "--kind", image_set.meta.kind, "--variant", str(variant),
        )  # fmt: skip
        super().__init__(image_set, argv, list(seen), home.cache / "captions.log")

    def _apply(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "skipped":
                self.skipped.append(event["picture"])
            case "caption":
                self.state = "writing"
                self.looked += 1
                self._write(event["id"], event["text"])

    def _write(self, id_: str, text: str) -> None:
        text = with_trigger(text, self.prefix)
        self.token, ids = self.image_set.fill({id_: text}, self.seen, self.token)
        if ids:
            self.written[id_] = self.image_set.find(id_).caption


class Captioning:
    """The jobs of one studio, by set; and how often a picture was asked about, so that asking again says something else."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._jobs: dict[str, CaptionJob] = {}
        self._asked: dict[tuple[str, str], int] = {}

    def of(self, image_set: ImageSet) -> CaptionJob | None:
        """The job of a set, running or the last that ended."""
        return self._jobs.get(image_set.folder.name)

    def start(
        self, image_set: ImageSet, captioner: str, ids: Sequence[str], *, prefix: str = "", again: bool = False
    ) -> CaptionJob:
        """Begin with the pictures `ids`; `again` for one picture wants another caption than last time.
        Problem where the set's last job still runs."""
        name = image_set.folder.name
        running = self._jobs.get(name)
        if running is not None and not running.ended:
            raise Problem("captions_running")
        chosen = set(ids)
        seen = {p.id: p.caption for p in image_set.pictures() if p.id in chosen}
        variant = self._asked.get((name, ids[0]), 0) if again else 0
        for id_ in seen:
            self._asked[name, id_] = variant + 1
        job = self._jobs[name] = CaptionJob(self.home, image_set, captioner, seen, prefix=prefix, variant=variant)
        return job

    def close(self) -> None:
        """End every job."""
        for job in self._jobs.values():
            job.cancel()
            job.wait(3)
