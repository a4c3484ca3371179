"""Folders for work under way that belong to one process. Another program on the same home never takes them away.

A folder of this kind says in `.owner.json` who made it. What a process that is gone left is swept once it is old. Used
for uploads, for LoRAs being made and for Gradio's own files.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from trainer.core import files, process

AGE = 24 * 3600.0
"""Seconds after which what nobody owns any more is swept."""
OWNER = ".owner.json"


def create(place: Path, name: str = "") -> Path:
    """A new folder below `place` that belongs to this process. StorageProblem where there is no room for one."""
    folder = place / (name or uuid.uuid4().hex)
    pid, born, boot = process.me()
    try:
        folder.mkdir(parents=True)
        files.write_json(folder / OWNER, {"pid": pid, "born": born, "boot": boot})
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise files.StorageProblem(error, place) from error
    return folder


@contextlib.contextmanager
def temporary(place: Path) -> Iterator[Path]:
    """A folder for the length of the block. What killed processes left below `place` goes first."""
    sweep(place)
    folder = create(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def owned(folder: Path) -> bool:
    """Whether the process that made `folder` still lives."""
    owner = files.read_json(folder / OWNER)
    if not isinstance(owner, dict):
        return False
    pid, born, boot = owner.get("pid"), owner.get("born"), owner.get("boot")
    if not isinstance(pid, int) or not isinstance(born, int | float) or not isinstance(boot, str):
        return False
    return process.alive(pid, born, boot)


def mine(folder: Path) -> bool:
    """Whether this process made `folder`."""
    owner = files.read_json(folder / OWNER)
    return isinstance(owner, dict) and [owner.get(key) for key in ("pid", "born", "boot")] == list(process.me())


def sweep(place: Path, known: Collection[str] | None = None, age: float = AGE) -> None:
    """Remove folders below `place` that nobody has written to for `age` seconds and whose owner is gone.

    With `known`, what this process made itself and does not name there is nobody's either.
    """
    with contextlib.suppress(OSError):
        for folder in list(place.iterdir()) if place.is_dir() else ():
            given_up = known is not None and folder.name not in known and mine(folder)
            if folder.is_dir() and time.time() - _newest(folder) > age and (given_up or not owned(folder)):
                shutil.rmtree(folder, ignore_errors=True)


def _newest(folder: Path) -> float:
    """When anything in it was last written."""
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
