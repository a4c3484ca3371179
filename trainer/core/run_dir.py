"""The only place that spells a path inside a run. A run folder is complete: enough to rebuild any screen from it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunDir:
    """`outputs/runs/<id>/` as names."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id, the name of its folder."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The TrainConfig as JSON."""
        return self.path / "config.json"

    @property
    def events(self) -> Path:
        """What the run reported so far, one JSON line an event (trainer/core/events.py)."""
        return self.path / "events.jsonl"

    @property
    def control(self) -> Path:
        """Requests to the trainer, one JSON line each."""
        return self.path / "control.jsonl"

    @property
    def agreed(self) -> Path:
        """The changed image set a person agreed to go on with (trainer/images/provenance.py)."""
        return self.path / "agreed.json"

    @property
    def log(self) -> Path:
        """Standard output and error of the trainer process."""
        return self.path / "log.txt"

    @property
    def report(self) -> Path:
        """The image-set report at the start."""
        return self.path / "report.json"

    @property
    def pictures(self) -> Path:
        """What the base drew for a slider to learn on; other runs have none."""
        return self.path / "pictures"

    @property
    def request(self) -> Path:
        """Which press of Start it comes from."""
        return self.path / "request.json"

    @property
    def attempt(self) -> Path:
        """Which process trains it, or did last."""
        return self.path / "attempt.json"

    @property
    def lock(self) -> Path:
        """Held by the process that trains it, for as long as it lives."""
        return self.path / "attempt.lock"

    @property
    def published(self) -> Path:
        """Under which names its LoRA goes into the library, by step."""
        return self.path / "published.json"

    @property
    def drawing(self) -> Path:
        """The step whose test pictures are being drawn; not there otherwise."""
        return self.path / "drawing.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after `step` optimiser steps."""
        return self.checkpoints / f"{step:06d}"

    @property
    def samples(self) -> Path:
        """The folder of the test pictures."""
        return self.path / "samples"

    def sample(self, step: int, index: int) -> Path:
        """The test picture of prompt `index`, drawn after `step` optimiser steps."""
        return self.samples / f"{step:06d}_p{index}.png"

    def newest_sample(self, step: int) -> Path | None:
        """The first test picture of the newest step up to `step` that has one, or None."""
        drawn = {int(path.name.partition("_")[0]): path for path in self.samples.glob("*_p0.png")
                 if path.name.partition("_")[0].isdigit()}  # fmt: skip
        return drawn[max(fit)] if (fit := [at for at in drawn if at <= step]) else None

    def ask(self, what: str, **params: Any) -> None:
        """Append a request for the trainer: pause, resume, stop, save, sample. Read between two steps."""
        line = json.dumps({"ask": what, "time": time.time(), **params}, ensure_ascii=False)
        with open(self.control, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def pending(self) -> tuple[str, ...]:
        """The requests the trainer has not read yet, each named once, in their order."""
        try:
            offset = int((self.path / "control.read").read_text("utf-8"))
        except (OSError, ValueError):
            offset = 0
        try:
            with open(self.control, "rb") as file:
                file.seek(offset)
                lines = file.read().splitlines()
        except OSError:
            return ()
        asks = []
        for line in lines:
            try:
                asks.append(str(json.loads(line)["ask"]))
            except (ValueError, KeyError, TypeError):
                continue
        return tuple(dict.fromkeys(asks))
