"""The lock files: which one belongs to which requirements file, and whether it still does..

`requirements.txt` is short and read by people; `requirements.lock` names every package that is installed, with the SHA-256 of
each of its files. The lock carries a digest of the requirements it was made from, so that an edited list is noticed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

RUN, TEST = "requirements.txt", "requirements-dev.txt"
LOCKS = {RUN: "requirements.lock", TEST: "requirements-dev.lock"}
TORCH_LOCK = "requirements-torch.lock"


def sources(name: str) -> list[str]:
    """The files a requirements file consists of: the tests' file includes the other one."""
    return [RUN] if name == RUN else [RUN, name]


def stamp(project: Path, name: str) -> str:
    """The comment line that ties a lock to the present text of its requirements (line endings do not count)."""
    texts = [(project / file).read_text("utf-8").splitlines() for file in sources(name)]
    digest = hashlib.sha256("\0".join("\n".join(lines) for lines in texts).encode()).hexdigest()
    return f"# requirements sha256: {digest}"


def is_current(project: Path, name: str) -> bool:
    """Whether the locks for that requirements file are there and were made from its present text."""
    pairs = ((LOCKS[name], name), (TORCH_LOCK, RUN))
    return all((project / lock).exists() and stamp(project, source) in head(project / lock) for lock, source in pairs)


def head(lock: Path) -> list[str]:
    """The first lines of a lock."""
    with open(lock, encoding="utf-8") as file:
        return [line.strip() for line, _ in zip(file, range(3), strict=False)]


def digest(project: Path, name: str) -> str:
    """A hash over everything that decides what is installed for a requirements file: the lists and their locks."""
    files = [*sources(name), *(LOCKS[file] for file in sources(name)), TORCH_LOCK]
    parts = [(project / file).read_bytes() for file in files if (project / file).exists()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
