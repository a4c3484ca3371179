"""Small file operations that survive a power cut: written whole or not at all. Used by everything that writes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import sqlite3
import sys
import time
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.core.problem import Problem

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC, errno.EFBIG})
"""No room: the disk is full, a quota is used up, or the file may not grow any further (RLIMIT_FSIZE)."""
LOCKED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""Writing is not allowed here."""
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
STALE_SECONDS = 3600.0
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}


class StorageProblem(Problem, OSError):
    """Something could not be written: a sentence for a person, and still the OSError it was, with its `errno`."""

    def __init__(self, error: OSError, path: Path | str | None = None) -> None:
        named = str(path or error.filename or "")
        code = "storage_full" if error.errno in FULL else "storage_read_only" if error.errno in LOCKED else "storage_failed"
        super().__init__(code, file=named or "–", detail=error.strerror or str(error) or type(error).__name__)
        self.errno, self.strerror, self.filename = error.errno, error.strerror, named or None


def problem_of(error: BaseException, path: Path | str | None = None) -> Problem | None:
    """The sentence for an exception of the disk or of SQLite on it; a Problem is its own, None for anything else."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError):
        return StorageProblem(error, path)
    if isinstance(error, sqlite3.Error):
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        number = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}.get(primary, errno.EIO)
        return StorageProblem(OSError(number, str(error)), path)
    return None


@contextlib.contextmanager
def writing(path: Path | str | None = None) -> Iterator[None]:
    """Turn an OSError in the block into a StorageProblem about `path` (default: the file the error names).

    FileNotFoundError stays what it is, for those who count on it.
    """
    try:
        yield
    except (Problem, FileNotFoundError):
        raise
    except OSError as error:
        raise StorageProblem(error, path) from error


def expanded(name: str | os.PathLike[str]) -> Path:
    """`name` as a path, with the account's folder for `~` or `~name` at its front; as it is where there is no such account."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: temporary file, fsync, rename, fsync of the folder.

    Raises StorageProblem where that is impossible; what was at `path` is unchanged then.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            write_durably(temporary, data)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path` in place and flush it to the disk. Not atomic: for files nobody reads yet."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sweep_temporaries(folder: Path, older: float = STALE_SECONDS) -> None:
    """Remove what a killed `write_bytes` left in `folder`, once nobody has written to it for an hour (`older` seconds)."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if TEMPORARY.fullmatch(name) and time.time() - (folder / name).stat().st_mtime > older:
                (folder / name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text with Unix line ends; lone surrogates become '?'."""
    write_bytes(path, text.encode("utf-8", "replace"))


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of readable JSON."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Readable JSON as UTF-8; lone surrogates become '?'."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")


def read_json(path: Path, default: Any = None) -> Any:
    """The JSON in `path`, or `default` where the file is missing or not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return default


def place_new(temporary: Path, target: Path) -> bool:
    """Give the finished file `temporary` the name `target` in the same folder; False, and nothing changed, where it is taken.

    A hard link refuses a taken name, which a rename would overwrite; on a disk without links the name is looked at first.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if is_full(error):
            raise
        if target.exists():
            return False
        os.replace(temporary, target)
    else:
        temporary.unlink()
    sync_folder(target.parent)
    return True


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room: a full disk, a quota, or the largest size a file may have here."""
    return error.errno in FULL


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def complain(text: str) -> None:
    """Print to standard error, which may lead to a file on a disk that is full: then there is nobody to tell."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(name: str, fallback: str = "untitled", limit: int = 180) -> str:
    """A file name any system accepts, made from any text: no separators, control or reserved characters; Japanese kept.

    At most `limit` bytes of UTF-8, so that endings and `_v2` still fit into the 255 a file system takes.
    """
    name = unicodedata.normalize("NFC", name)
    name = "".join(c for c in name if unicodedata.category(c)[0] not in "CZ" or c == " ")
    name = re.sub(r'[<>:"/\\|?*]+', " ", name)
    name = re.sub(r"[\s_]+", "_", name.strip(" ._"))
    name = name.encode("utf-8", "ignore")[:limit].decode("utf-8", "ignore").strip(" ._")
    if not name or name.lower().split(".")[0] in _RESERVED:
        name = f"{fallback}_{name}".strip("_")
    return name


def is_name(name: object) -> bool:
    """Whether `name` can be the name of one visible file or folder here: no path, nothing hidden, not too long."""
    if not isinstance(name, str) or not name or name.startswith(".") or any(c in name for c in "/\\\0"):
        return False
    try:
        return len(name.encode("utf-8")) <= 255 and name == Path(name).name
    except UnicodeEncodeError:  # lone surrogates
        return False


def free_name(folder: Path, stem: str, suffix: str = "") -> Path:
    """`folder/stem+suffix`, or the first `stem_v2`, `stem_v3` … that does not exist: nothing is ever overwritten."""
    candidate, version = folder / f"{stem}{suffix}", 1
    while candidate.exists():
        version += 1
        candidate = folder / f"{stem}_v{version}{suffix}"
    return candidate
