"""How new pictures enter a set at once or not at all, and the only code that reads and writes `set.json`.

Everything is prepared in a hidden folder `.incoming-*`. Writing `commit.json` there is the moment it counts: before
it a crash leaves nothing, after it opening the set finishes the work.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from trainer.core import files, workplace

STALE_SECONDS = 3600.0
MASK = ".mask.png"
"""`0001.mask.png` says which part of `0001.png` counts (masks.py); it is no picture itself."""

WRITTEN = ".written"
"""What a caption file held before its letters were converted lies in `.captions` as `0001.written` (rereading.py)."""


def written_file(folder: Path, id_: str) -> Path:
    """Where the caption of picture `id_` lies as it came."""
    return folder / ".captions" / f"{id_}{WRITTEN}"


class Staging:
    """A batch of new pictures on its way into a set. Leaving the `with` without `commit` leaves no trace."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / f".incoming-{uuid.uuid4().hex}"
        self.entries: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Staging:
        workplace.create(self.folder, self.place.name)
        return self

    def __exit__(self, *_: object) -> None:
        if not (self.place / "commit.json").is_file():  # a commit that failed half-way is finished at the next opening
            shutil.rmtree(self.place, ignore_errors=True)

    def add(
        self, id_: str, picture: bytes, caption: str, note: dict[str, Any], mask: bytes | None = None, written: bytes = b""
    ) -> None:
        """Put one picture with its caption and mask down, flushed to the disk; `written` are the caption's bytes as they came,
        kept where they might be read otherwise."""
        if written:
            files.write_durably(self.place / f"{id_}{WRITTEN}", written)
        if mask:
            files.write_durably(self.place / f"{id_}{MASK}", mask)
        if caption:
            files.write_durably(self.place / f"{id_}.txt", f"{caption}\n".encode("utf-8", "replace"))
        files.write_durably(self.place / f"{id_}.png", picture)
        self.entries[id_] = note

    def commit(self) -> None:
        """Make everything added part of the set."""
        if self.entries:
            files.write_json(self.place / "commit.json", self.entries)
            _finish(self.place)


def recover(folder: Path) -> None:
    """Finish what was committed and sweep what was broken off and has not moved for an hour."""
    for place in folder.glob(".incoming-*"):
        if (place / "commit.json").is_file():
            _finish(place)
            shutil.rmtree(place, ignore_errors=True)
        else:
            sweep(place)
    files.sweep_temporaries(folder)


def sweep(place: Path) -> None:
    """Remove a temporary folder that nobody has written to for an hour and whose process is gone."""
    try:
        if time.time() - place.stat().st_mtime > STALE_SECONDS and not workplace.owned(place):
            shutil.rmtree(place, ignore_errors=True)
    except FileNotFoundError:
        return


def read_set(folder: Path) -> dict[str, Any]:
    """What `set.json` says; nothing where it is missing or broken."""
    content = files.read_json(folder / "set.json", {})
    return content if isinstance(content, dict) else {}


def write_set(folder: Path, content: dict[str, Any]) -> None:
    """Write `set.json`; one that a person broke while editing is kept aside, not overwritten."""
    path = folder / "set.json"
    if path.is_file() and path.stat().st_size and not isinstance(files.read_json(path), dict):
        os.replace(path, files.free_name(folder, "set.json", ".broken"))
    files.write_json(path, content)


def notes_of(content: dict[str, Any]) -> dict[str, Any]:
    """The table of pictures inside `content`, mended where it is none."""
    if not isinstance(content.get("pictures"), dict):
        content["pictures"] = {}
    return content["pictures"]


def _finish(place: Path) -> None:
    """Captions and masks first, so that no picture is ever seen without its own; done twice it does no harm."""
    folder, entries, names = place.parent, files.read_json(place / "commit.json", {}), {}
    for id_ in entries:
        if not (place / f"{id_}.png").is_file():
            continue  # moved before a crash
        target = files.free_name(folder, id_, ".png").stem  # someone may have put a file of that name there meanwhile
        with contextlib.suppress(FileNotFoundError):  # another process may be finishing the same batch
            for beside in (".txt", MASK):
                if (place / f"{id_}{beside}").is_file():
                    os.replace(place / f"{id_}{beside}", folder / f"{target}{beside}")
            if (place / f"{id_}{WRITTEN}").is_file():
                written_file(folder, target).parent.mkdir(exist_ok=True)
                os.replace(place / f"{id_}{WRITTEN}", written_file(folder, target))
            os.replace(place / f"{id_}.png", folder / f"{target}.png")
            names[id_] = target
    content = read_set(folder)
    notes_of(content).update({names.get(id_, id_): note for id_, note in entries.items()})
    write_set(folder, content)
    (place / "commit.json").unlink(missing_ok=True)
