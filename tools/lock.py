"""Locks every package that is installed, direct and transitive, from the short readable requirements files.

    python -m tools.lock            writes requirements.lock, requirements-dev.lock and requirements-torch.lock
    python -m tools.lock --check    only says whether they still belong to the requirements (status 1 where they do not)

`uv pip compile --universal` resolves once for every system and Python that is supported. PyTorch, what only PyTorch brings
and xformers stand apart, pinned without hashes: their files differ by index and build (CPU, CUDA, ROCm), so no hash fits all.
NVIDIA's libraries and triton are in neither file: each build of torch names its own, by exact version.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

from app.bootstrap import locks
from trainer.core.home import PROJECT

UNHASHED_ROOTS = {"torch", "xformers"}
BY_BUILD = re.compile(r"nvidia-|cuda-|triton$")
COMPILE = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--quiet"]


@dataclass(frozen=True)
class Entry:
    """One package of a resolved list: its pin with a marker, its hashes as they stand, and what asked for it."""

    name: str
    pin: str
    hashes: tuple[str, ...]
    via: frozenset[str]

    def lines(self, with_hashes: bool) -> str:
        return " \\\n    ".join([self.pin, *(self.hashes if with_hashes else ())]) + "\n"


def parse(text: str) -> list[Entry]:
    """The packages in the output of `uv pip compile --generate-hashes`."""
    entries = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        if block.startswith("#"):
            continue
        pin = block.splitlines()[0].removesuffix("\\").strip()
        hashes = tuple(re.findall(r"--hash=\S+", block))
        comments = " ".join(line.strip().lstrip("#") for line in block.splitlines() if line.strip().startswith("#"))
        via = frozenset(re.findall(r"[\w.-]+", comments.replace("via", " ", 1)))
        entries.append(Entry(re.split(r"[=\s]", pin)[0], pin, hashes, via))
    return entries


def torch_group(entries: list[Entry]) -> set[str]:
    """PyTorch, xformers and every package that nothing else asks for."""
    group = set(UNHASHED_ROOTS)
    while True:
        more = {entry.name for entry in entries if entry.via and entry.via <= group} - group
        if not more:
            return group
        group |= more


def compile_requirements(name: str, *options: str) -> list[Entry]:
    """Resolve one requirements file; uv's own message where it cannot."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *COMPILE, *options, name]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(result.stderr.strip() or f"uv ended with {result.returncode}")
    return parse(result.stdout)


def write(name: str, source: str, entries: list[Entry], with_hashes: bool) -> None:
    """Write one lock with the digest of the requirements it belongs to."""
    header = f"# Made by `python -m tools.lock` from {source}; not edited by hand.\n{locks.stamp(PROJECT, source)}\n"
    body = "".join(entry.lines(with_hashes) for entry in sorted(entries, key=lambda entry: entry.pin))
    (PROJECT / name).write_text(header + body, encoding="utf-8")
    print(f"{name}: {len(entries)}")


def main(arguments: list[str]) -> int:
    """Make the locks, or with `--check` compare them with the requirements."""
    stale = [lock for source, lock in locks.LOCKS.items() if not locks.is_current(PROJECT, source)]
    if "--check" in arguments:
        print("out of date: " + ", ".join(stale) if stale else "up to date")
        return 1 if stale else 0
    entries = compile_requirements(locks.RUN)
    group = torch_group(entries)
    by_build = {entry.name for entry in entries if BY_BUILD.match(entry.name)}
    hashed = [entry for entry in entries if entry.name not in group]
    write(locks.LOCKS[locks.RUN], locks.RUN, hashed, with_hashes=True)
    unhashed = [entry for entry in entries if entry.name in group - by_build]
    write(locks.TORCH_LOCK, locks.RUN, unhashed, with_hashes=False)
    # The tests' list repeats the first one exactly, so that both name the same versions.
    development = compile_requirements(locks.TEST, "--constraints", locks.LOCKS[locks.RUN])
    hashed = [entry for entry in development if entry.name not in group]
    write(locks.LOCKS[locks.TEST], locks.TEST, hashed, with_hashes=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
