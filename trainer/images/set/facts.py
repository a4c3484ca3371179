"""What is known of picture files without opening them again: size, content hash, measurements. Used by sets, report.

Kept by file name with the file's length and time, outside the set, and thrown away with the cache at no loss.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from trainer.core import files
from trainer.core.home import Home


class PictureCache:
    """`outputs/cache/sets/<set>/facts.json`. Reading a stale or broken entry gives nothing."""

    def __init__(self, folder: Path, keep: bool = True) -> None:
        self.place, self.keep = cache_folder(folder), keep
        self._all: dict[str, dict[str, Any]] | None = None
        self._dirty, self._saved = False, 0.0

    def get(self, file: Path, key: str) -> Any:
        """What is known of `file` under `key`, or None where the file has changed since."""
        entry = self._load().get(file.name)
        return entry.get(key) if isinstance(entry, dict) and entry.get("stamp") == stamp(file) else None

    def put(self, file: Path, **values: Any) -> None:
        """Remember; written by `save`."""
        entry = self._load().get(file.name)
        now = stamp(file)
        if not isinstance(entry, dict) or entry.get("stamp") != now:
            entry = {"stamp": now}
        self._load()[file.name] = entry | values
        self._dirty = True

    def save(self, *, soon: bool = False) -> None:
        """Write what was learnt; with `soon` at most every five seconds. A cache that cannot be written is not kept."""
        if not self._dirty or not self.keep or (soon and time.monotonic() - self._saved < 5):
            return
        self._dirty, self._saved = False, time.monotonic()
        with contextlib.suppress(OSError):
            files.write_json(self.place / "facts.json", self._all)

    def move(self, folder: Path) -> None:
        """The set became `folder`: keep what is known of its files."""
        target = cache_folder(folder)
        shutil.rmtree(target, ignore_errors=True)
        if self.place.is_dir():
            os.replace(self.place, target)

    def _load(self) -> dict[str, dict[str, Any]]:
        if self._all is None:
            data = files.read_json(self.place / "facts.json", {})
            self._all = data if isinstance(data, dict) else {}
        return self._all


def stamp(file: Path) -> list[int]:
    """Length and time of change: another stamp means another file."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def cache_folder(folder: Path) -> Path:
    """Where thumbnails and facts of a set go: the cache of the home it lies in, else this home's, by the set's path."""
    folder = folder.resolve()
    home = Home(folder.parent.parent)
    if folder.parent == home.datasets and home.outputs.is_dir():
        return home.cache / "sets" / folder.name
    return Home.find().cache / "sets" / hashlib.sha256(str(folder).encode("utf-8", "replace")).hexdigest()[:16]


def locks_of(folder: Path) -> Path:
    """Where the locks of a set lie: in the same cache, but not in the folder of the set there, which may move."""
    return cache_folder(folder).parent.parent / "locks"
