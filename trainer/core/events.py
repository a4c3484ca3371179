"""What a run tells: typed JSON lines in `events.jsonl`, appended and flushed. Written by the engine, read by everyone."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from trainer.core.schema import Section


class _Event(Section):
    time: float = Field(default_factory=time.time)
    """Unix seconds, for showing; order in the file is what counts."""


class Started(_Event):
    """The trainer has begun (or gone on): `step` is where it starts, `attempt` counts the processes of this run."""

    kind: Literal["started"] = "started"
    step: int
    total: int
    attempt: int
    pid: int
    facts: dict[str, Any] = {}
    """Device, dtype, attention backend, trainable parameter count, pictures, versions."""


class Stage(_Event):
    """What happens when no step is made: `loading`, `drawing`, `encoding`, `sampling`, `saving`, `waiting` (`stages.*`)."""

    kind: Literal["stage"] = "stage"
    name: str
    done: int = 0
    of: int = 0


class Step(_Event):
    """One optimiser step. `seconds` is the pure step time without saves and samples; rates by group name."""

    kind: Literal["step"] = "step"
    step: int
    total: int
    loss: float | None
    """None where the step was skipped because its loss or gradient was not finite."""
    rates: dict[str, float] = {}
    seconds: float = 0.0
    memory: int = 0
    """Peak bytes on the device (CUDA) or of the process (CPU)."""


class Validated(_Event):
    """The loss on pictures that are not learnt from, at fixed noise: `ratio` = loss / the untouched base's, lower is better."""

    kind: Literal["judged"] = "judged"
    step: int
    loss: float
    base: float
    ratio: float
    best: int
    """The step with the lowest ratio so far."""


class ImageScore(Section):
    """One drawn picture beside the training set."""

    index: int
    """Its place among the pictures scored together: the prompt's, for a run."""
    strength: float | None = None
    likeness: float
    """CLIP-I: mean cosine to the set's pictures."""
    prompt: float | None = None
    """CLIP-T: cosine to its prompt; None without one."""
    nearest: str
    """The file of the set's nearest picture, in the folder named `folder`."""
    folder: str
    closeness: float
    copied: bool
    """Whether it is nearer to that picture than different pictures of the set are to each other, in a CLIP's eyes and in
    its colours pixel by pixel. One that is shifted or mirrored is not found."""


class Scored(_Event):
    """The pictures drawn at a step against the training set and their prompts (trainer/scoring), means over all."""

    kind: Literal["scored"] = "scored"
    step: int
    likeness: float
    prompt: float | None = None
    among: float | None = None
    """The likeness of the set's own pictures to each other."""
    model: str
    compared: int
    """How many of the set's pictures were compared with."""
    pictures: tuple[ImageScore, ...]


class Sample(_Event):
    """A picture drawn from the file just saved. `file` is relative to the run folder."""

    kind: Literal["sample"] = "sample"
    step: int
    index: int
    prompt: str
    file: str


class Saved(_Event):
    """A checkpoint that verifies, or with `final` the finished LoRA. `file` is relative to the run folder, or absolute."""

    kind: Literal["saved"] = "saved"
    step: int
    file: str
    final: bool = False
    wanted: bool = False
    """A person asked for it: it stays whatever else is tidied away."""


class Note(_Event):
    """Something a person should know that stops nothing: text key `notes.<code>` with params."""

    kind: Literal["note"] = "note"
    code: str
    params: dict[str, Any] = {}


class Paused(_Event):
    """Training waits between two steps and keeps its place; `resume` in control.jsonl lets it go on."""

    kind: Literal["paused"] = "paused"
    step: int


class Stopped(_Event):
    """Ended on request, resumable; `file` is the LoRA kept, if any."""

    kind: Literal["stopped"] = "stopped"
    step: int
    file: str | None = None


class Failed(_Event):
    """Ended by a fault: `problems.<code>` with params tells it and what to do."""

    kind: Literal["failed"] = "failed"
    step: int
    code: str
    params: dict[str, Any] = {}


class Finished(_Event):
    """All steps are done: `seconds` is the wall time of this attempt, `file` the LoRA in the library."""

    kind: Literal["finished"] = "finished"
    step: int
    seconds: float
    file: str


Event = Annotated[
    Started | Stage | Step | Validated | Scored | Sample | Saved | Note | Paused | Stopped | Failed | Finished,
    Field(discriminator="kind"),
]
_adapter: TypeAdapter[Event] = TypeAdapter(Event)


class EventLog:
    """Appends events to a file, one flushed line each. On a full disk the lines wait in memory and are written as soon as
    there is room, in order; the run goes on. `lost` counts those that were too many to wait."""

    WAITING = 20_000
    """Lines kept while the disk is full."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.lost = 0
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()
        with suppress(OSError):
            _end_last_line(path)

    def write(self, event: Event) -> None:
        """Append one event. Never raises: without room on the disk the line waits in memory."""
        with self._lock:
            self._waiting.append(event.model_dump_json().encode() + b"\n")
        self.catch_up()

    def catch_up(self) -> bool:
        """Write what waits for room; whether all of it is written."""
        with self._lock:
            if self._waiting and not self._append(b"".join(self._waiting)):
                self.lost += max(0, len(self._waiting) - self.WAITING)
                del self._waiting[: -self.WAITING]
                return False
            self._waiting.clear()
            return True

    def _append(self, data: bytes) -> bool:
        """Whole or not at all: half a line would spoil the next one too."""
        size = None
        try:
            with open(self.path, "ab", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                if file.write(data) == len(data):
                    return True
        except OSError:
            pass
        if size is not None:
            with suppress(OSError):
                os.truncate(self.path, size)
        return False


def _end_last_line(path: Path) -> None:
    """A process killed in the middle of a line leaves it open; the next line must not be glued to it."""
    if path.exists() and path.stat().st_size:
        with open(path, "rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def read(path: Path, offset: int = 0, of_kind: tuple[str, ...] = ()) -> tuple[list[Event], int]:
    """The whole lines from byte `offset` on (of some kinds only, where they are named), and the offset to go on from. Broken
    lines are passed over."""
    if not path.exists():
        return [], 0
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    lines = data[:end].splitlines()
    if of_kind:
        marks = [f'"kind":"{kind}"'.encode() for kind in of_kind]
        lines = [line for line in lines if any(mark in line for mark in marks)]
    return list(_parse(lines)), offset + end


def read_tail(path: Path, size: int = 65536) -> list[Event]:
    """The last events, from about `size` bytes."""
    try:
        start = max(0, path.stat().st_size - size)
    except FileNotFoundError:
        return []
    return read(path, start)[0]


def _parse(lines: list[bytes]) -> Iterator[Event]:
    for line in lines:
        try:
            yield _adapter.validate_python(json.loads(line))
        except (ValidationError, ValueError):
            continue
