"""What the processes that look at pictures for the Images page have in common: the child's side of worker_job.py.

The ids come as one JSON list on the standard input; JSON lines go out, at last `done` or `failed`. Nothing is written into
the set: the page does that, under its lock. A page that is gone ends the process at the next line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.set.image_set import ImageSet
from trainer.images.set.picture import Picture

Emit = Callable[..., None]
"""`emit(event, **facts)` writes one line."""
Work = Callable[[argparse.Namespace, Home, list[Picture], Emit], None]


def parser(name: str) -> argparse.ArgumentParser:
    """The arguments every such process takes: the set's folder, with what to work (`name`), and where home is."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--with", dest="name", required=True)
    parser.add_argument("--home", required=True)
    return parser


def serve(args: argparse.Namespace, work: Work) -> int:
    """Do `work` on the pictures asked for. Its Problem is written as `failed`, with status 1."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log

    def emit(event: str, **facts: Any) -> None:
        out.write(json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n")
        out.flush()

    ids = set(json.loads(sys.stdin.readline()))
    try:
        pictures = [p for p in ImageSet(args.folder, read_only=True).pictures() if p.id in ids]
        work(args, Home(Path(args.home)), pictures, emit)
    except Problem as problem:
        emit("failed", **as_json(problem))
        return 1
    emit("done")
    return 0


def as_json(problem: Problem) -> dict[str, Any]:
    """A Problem's code and those of its facts that JSON can hold."""
    params = {key: value for key, value in problem.params.items() if isinstance(value, str | int | float)}
    return {"code": problem.code, "params": params}
