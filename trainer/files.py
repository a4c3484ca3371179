"""Small file operations that survive a power cut: written whole or not at all. Used by everything that writes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
import uuid
from pathlib import Path
from typing import Any

_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text with Unix line ends; lone surrogates become '?'."""
    write_bytes(path, text.encode("utf-8", "replace"))


def write_json(path: Path, value: Any) -> None:
    """`write_text` of readable JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """The JSON in `path`, or `default` where the file is missing or not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return default


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def free_name(folder: Path, stem: str, suffix: str = "") -> Path:
    """`folder/stem+suffix`, or the first `stem_v2`, `stem_v3` … that does not exist: nothing is ever overwritten."""
    candidate, version = folder / f"{stem}{suffix}", 1
    while candidate.exists():
        version += 1
        candidate = folder / f"{stem}_v{version}{suffix}"
    return candidate
