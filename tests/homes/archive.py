"""Packs a home into one archive in which no path of the machine it was made on is left, and unpacks it anywhere.

Standard library only: `make.py` uses it from checkouts of earlier versions too.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

MARK = "{{HOME}}"
"""Stands for the home's own path in texts and in the ledger."""
TEXTS = (".json", ".jsonl", ".toml", ".txt", ".md")
LEDGER = Path("home/outputs/atelier.db")
BACKUP = Path("home/outputs/atelier.db.backup")
LEFT_OUT = {"atelier.db-wal", "atelier.db-shm", "atelier.db.lock", "supervisor.lock"}


def pack(folder: Path, archive: Path) -> None:
    """Write `folder`, which holds `home/` and `expected/`, to `archive` (tar.xz). No process may have the home open."""
    home = (folder / "home").resolve()
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        shutil.copytree(folder, copy, ignore=lambda _, names: set(names) & LEFT_OUT)
        with contextlib.closing(sqlite3.connect(home / "outputs/atelier.db")) as source:
            (copy / LEDGER).unlink()
            with contextlib.closing(sqlite3.connect(copy / LEDGER)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")
        _everywhere(copy, lambda text: text.replace(str(home), MARK))
        with tarfile.open(archive, "w:xz", preset=9) as tar:
            for path in sorted(copy.rglob("*")):
                tar.add(path, path.relative_to(copy).as_posix(), recursive=False, filter=_plain)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack into `folder`; returns its `home`, whose paths are now those of this machine. `expected/` lies beside it."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    home = (folder / "home").resolve()
    _everywhere(folder, lambda text: text.replace(MARK, home.as_posix()))
    return home


def machine() -> dict[str, str]:
    """What decides the last bits of a float here: the processor and torch. Equal machines give equal bytes."""
    import torch

    told = {"torch": torch.__version__, "kernels": torch.backends.cpu.get_cpu_capability(), "system": platform.system()}
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return told | {"processor": platform.processor()}
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    flags = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:16]
    return told | {"processor": facts.get("model name", ""), "cache": facts.get("cache size", ""), "flags": flags}


def _everywhere(folder: Path, change: Callable[[str], str]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in TEXTS:
            text = path.read_text("utf-8", "surrogateescape")
            if (new := change(text)) != text:
                path.write_text(new, "utf-8", "surrogateescape", newline="")
    for file in (LEDGER, BACKUP):
        with contextlib.closing(sqlite3.connect(folder / file, isolation_level=None)) as ledger:
            _in_tables(ledger, change)
            ledger.execute("VACUUM")  # nothing of the earlier texts stays in free pages


def _in_tables(ledger: sqlite3.Connection, change: Callable[[str], str]) -> None:
    for (table,) in ledger.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
        for column in [row[1] for row in ledger.execute(f"PRAGMA table_info({table})").fetchall()]:
            cells = ledger.execute(f"SELECT rowid, {column} FROM {table} WHERE typeof({column})='text'").fetchall()
            for number, text in cells:
                if (new := change(text)) != text:
                    ledger.execute(f"UPDATE {table} SET {column}=? WHERE rowid=?", (new, number))


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
