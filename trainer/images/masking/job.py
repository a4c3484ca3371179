"""Masks as the Images page sees their making: one job a set, each mask put beside its picture as it comes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.set.image_set import ImageSet
from trainer.images.worker_job import WorkerJob


class MaskJob(WorkerJob):
    """`made` are masks with how sure they are, `refused` why a picture has none; both by id."""

    died = "masker_died"

    def __init__(self, home: Home, image_set: ImageSet, way: str, ids: Sequence[str], word: str) -> None:
        self.made: dict[str, float] = {}
        self.refused: dict[str, Problem] = {}
        argv = ("masks-worker", str(image_set.folder), "--with", way, "--home", str(home.root), "--word", word)
        super().__init__(image_set, argv, ids, home.cache / "masks.log")

    def _apply(self, event: dict[str, Any]) -> None:
        self.state = "writing"
        self.looked += 1
        if event["event"] == "refused":
            self.refused[event["id"]] = Problem(event["code"], **event["params"])
        elif event["event"] == "mask":
            token = self.image_set.put_mask(event["id"], base64.b64decode(event["png"]), self.token)
            if token:
                self.token, self.made[event["id"]] = token, event["sure"]


class Masking:
    """The jobs of one studio, by set."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._jobs: dict[str, MaskJob] = {}

    def of(self, image_set: ImageSet) -> MaskJob | None:
        """The job of a set, running or the last that ended."""
        return self._jobs.get(image_set.folder.name)

    def start(self, image_set: ImageSet, way: str, ids: Sequence[str], word: str = "") -> MaskJob:
        """Begin with the pictures `ids`. Problem where the set's last job still runs."""
        running = self.of(image_set)
        if running is not None and not running.ended:
            raise Problem("masks_running")
        job = self._jobs[image_set.folder.name] = MaskJob(self.home, image_set, way, ids, word)
        return job

    def close(self) -> None:
        """End every job."""
        for job in self._jobs.values():
            job.cancel()
            job.wait(3)
