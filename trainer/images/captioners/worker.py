"""The process that looks at pictures for the Images page: `python -m trainer captions-worker FOLDER --with NAME …`.

Started by job.py, which writes the ids as one JSON list into its standard input and reads JSON lines. It writes nothing
into the set: the page does, under its lock. A page that is gone ends it at the next line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from trainer.home import Home
from trainer.images.captioners import Ask
from trainer.images.captioners.writing import describe
from trainer.images.image_set import ImageSet
from trainer.problem import Problem


def main(argv: list[str]) -> int:
    """Lines: `fetching` (done, of), `loading`, `skipped` (picture), `caption` (id, text), at last `done` or `failed`."""
    words = argparse.ArgumentParser(prog="captions-worker")
    words.add_argument("folder", type=Path)
    words.add_argument("--with", dest="given", required=True)
    words.add_argument("--home", required=True)
    words.add_argument("--kind", default="style")
    words.add_argument("--variant", type=int, default=0)
    given = words.parse_args(argv)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log

    def tell(event: str, **facts: Any) -> None:
        out.write(json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n")
        out.flush()

    wanted = set(json.loads(sys.stdin.readline()))
    try:
        pictures = [p for p in ImageSet(given.folder, read_only=True).pictures() if p.id in wanted]
        for picture, text in describe(Home(Path(given.home)), given.given, pictures, Ask(given.kind, given.variant), tell):
            tell("caption", id=picture.id, text=text)
    except Problem as problem:
        params = {key: value for key, value in problem.params.items() if isinstance(value, str | int | float)}
        tell("failed", code=problem.code, params=params)
        return 1
    tell("done")
    return 0
