"""The ledger's file: opening it safely, its tables, its backup, repairing it when damaged. Used by database.py and lease.py."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
from filelock import FileLock, Timeout

from trainer.core import files
from trainer.core.problem import Problem
from trainer.jobs.ledger.connection import Connection

VERSION = 1
PATIENCE = 15.0
"""Seconds to wait for another program that holds the file."""
T = TypeVar("T")

TABLES = """
CREATE TABLE runs(
    id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, device TEXT NOT NULL, state TEXT NOT NULL,
    why TEXT, params TEXT NOT NULL DEFAULT '{}', place INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, queued REAL, started REAL, ended REAL, deleted REAL,
    pid INTEGER, born REAL, boot TEXT, attempt INTEGER NOT NULL DEFAULT 0, requeues INTEGER NOT NULL DEFAULT 0,
    runner_pid INTEGER, runner_born REAL, runner_boot TEXT,
    heartbeat REAL, beats INTEGER NOT NULL DEFAULT 0, last_step REAL, quiet REAL NOT NULL DEFAULT 0, silent TEXT,
    step INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    stage TEXT, stage_done INTEGER NOT NULL DEFAULT 0, stage_of INTEGER NOT NULL DEFAULT 0,
    eta_low REAL, eta_high REAL, rate REAL, memory INTEGER, loss REAL, lora TEXT);
CREATE INDEX runs_by_state ON runs(state, place);
CREATE TABLE leases(
    device TEXT PRIMARY KEY, holder TEXT NOT NULL, kind TEXT NOT NULL, pid INTEGER NOT NULL, born REAL NOT NULL,
    boot TEXT NOT NULL, since REAL NOT NULL, touches INTEGER NOT NULL DEFAULT 0,
    lender TEXT, lender_pid INTEGER, lender_born REAL, lender_boot TEXT);
CREATE TABLE requests(
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, holder TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, pid INTEGER NOT NULL,
    born REAL NOT NULL, boot TEXT NOT NULL, asked REAL NOT NULL);
CREATE TABLE settings(name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
TABLE_NAMES = frozenset({"runs", "leases", "requests", "settings"})


def connect(path: Path) -> Connection:
    """A connection with settings that survive a power cut. WAL needs a local disk; elsewhere the older journal."""
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False, factory=Connection)
    connection.watch(path)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA busy_timeout=5000")
        connection.execute("PRAGMA foreign_keys=ON")
        patiently(lambda: _journal(connection, on_network(path)))
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _journal(connection: sqlite3.Connection, network: bool) -> None:
    if not network:
        try:
            if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal":
                connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
                return
        except sqlite3.OperationalError as error:
            if is_locked(error):
                raise
    connection.execute("PRAGMA journal_mode=DELETE").fetchone()


def open_ledger(path: Path, damaged: bool = False) -> tuple[sqlite3.Connection, str | None]:
    """The ledger, made or repaired where needed, and what was done to it: None, `restored` or `started_anew`. `damaged`: it has
    just answered that it is, so every page and index is looked at."""
    guard = FileLock(f"{path}.lock", timeout=PATIENCE * 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with guard:
            return _open(path, damaged)
    except Timeout:
        raise Problem("job_ledger_locked", file=str(path)) from None
    except sqlite3.DatabaseError as error:
        raise to_problem(error, path) from error
    except OSError as error:
        if files.is_full(error):
            raise Problem("job_disk_short", needed="?", folder=str(path.parent)) from error
        if error.errno in files.LOCKED:
            raise Problem("job_ledger_readonly", file=str(path)) from None
        raise files.StorageProblem(error, path) from error


def _open(path: Path, damaged: bool) -> tuple[sqlite3.Connection, str | None]:
    repaired = None
    connection = None if _is_missing(path) else _connect_intact(path, damaged)
    if connection is None:
        repaired = _repair(path)
        connection = connect(path)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise Problem("job_ledger_newer", file=str(path), theirs=version, ours=VERSION)
        if version == 0:
            script = f"BEGIN IMMEDIATE;{TABLES}PRAGMA user_version={VERSION};COMMIT;"
            patiently(lambda: connection.executescript(script))
    except BaseException:
        connection.close()
        raise
    return connection, repaired


def is_intact(path: Path) -> bool:
    """Whether the file, as it is on the disk, is a ledger without damage; True too where that cannot be told just now."""
    if _is_missing(path):
        return False
    try:
        connection = _connect_intact(path)
    except sqlite3.OperationalError:
        return True
    if connection is not None:
        connection.close()
    return connection is not None


def _is_missing(path: Path) -> bool:
    """Whether there was a ledger and the file is gone or emptied: what SQLite keeps beside it would not fit a new one."""
    gone = not path.exists() or path.stat().st_size == 0
    return gone and any(os.path.exists(f"{path}{ending}") for ending in ("-wal", "-shm", ".backup"))


def _connect_intact(path: Path, thorough: bool = False) -> sqlite3.Connection | None:
    """A connection where the file is whole (or new); None where it is damaged, or emptied while there is a copy."""
    connection = None
    try:
        connection = connect(path)
        check = "integrity_check" if thorough else "quick_check"
        if patiently(lambda: connection.execute(f"PRAGMA {check}(1)").fetchone()[0]) == "ok":
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION or tables >= TABLE_NAMES or (version == 0 and not backup_path(path).exists()):
                return connection
    except sqlite3.OperationalError as error:
        if not is_damage(error):
            if connection:
                connection.close()
            raise
    except sqlite3.DatabaseError:  # "file is not a database", "database disk image is malformed"
        pass
    if connection:
        connection.close()
    return None


def _repair(path: Path) -> str:
    """Put the damaged file aside and the backup in its place; a new one where there is no sound backup."""
    aside = files.free_name(path.parent, f"{path.stem}.broken-{time.strftime('%Y%m%d-%H%M%S')}", path.suffix)
    for ending in ("", "-wal", "-shm"):
        if os.path.exists(f"{path}{ending}"):
            os.replace(f"{path}{ending}", f"{aside}{ending}")
    copy = backup_path(path)
    if not copy.exists():
        return "started_anew"
    files.write_bytes(path, copy.read_bytes())
    kept = _connect_intact(path)
    if kept is None:
        path.unlink()
        return "started_anew"
    kept.close()
    return "restored"


def backup_path(path: Path) -> Path:
    """Where the copy taken at a clean start lies."""
    return path.with_name(path.name + ".backup")


def back_up(connection: sqlite3.Connection, path: Path) -> None:
    """Write a whole copy beside the ledger, atomically. A damaged ledger raises and leaves the copy as it was."""
    copy, temporary = backup_path(path), path.with_name(f".{path.name}.backup.tmp")
    try:
        temporary.unlink(missing_ok=True)
        target = sqlite3.connect(temporary)
        try:
            connection.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
            if target.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise damage_error()
        finally:
            target.close()
        os.replace(temporary, copy)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    files.sync_folder(copy.parent)


def patiently(operation: Callable[[], T], patience: float | None = None) -> T:
    """Do `operation`, again while another program holds the file, for up to `patience` seconds in all."""
    limit = time.monotonic() + (PATIENCE if patience is None else patience)
    while True:
        try:
            return operation()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() >= limit:
                raise
            time.sleep(0.05)


def is_locked(error: sqlite3.Error) -> bool:
    """Whether somebody else holds the file just now."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file is not what it was: damaged, cut short, emptied, or not a ledger at all."""
    code = getattr(error, "sqlite_errorcode", 0)
    return (
        (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or code == sqlite3.SQLITE_IOERR_SHORT_READ
        or (code == sqlite3.SQLITE_ERROR and str(error).startswith("no such table"))
    )


def damage_error() -> sqlite3.DatabaseError:
    """The error SQLite raises where a file is damaged."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def to_problem(error: sqlite3.Error, path: Path) -> Exception:
    """The Problem that tells a person what is wrong with the ledger; the error itself where there is no sentence."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if is_damage(error):
        return Problem("job_ledger_damaged", file=str(path))
    if is_locked(error):
        return Problem("job_ledger_locked", file=str(path))
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and "disk I/O" in str(error)):
        return Problem("job_disk_short", needed="?", folder=str(path.parent))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return Problem("job_ledger_readonly", file=str(path))
    return error


def on_network(path: Path) -> bool:
    """Whether the file lies on a network drive, where WAL loses data."""
    if str(path).startswith("\\\\"):
        return True
    partition: Any = None
    for part in psutil.disk_partitions(all=True):
        if path.is_relative_to(part.mountpoint) and (not partition or len(part.mountpoint) >= len(partition.mountpoint)):
            partition = part
    remote = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "afs", "davfs")
    return bool(partition) and (partition.fstype.lower().startswith(remote) or "remote" in partition.opts)
