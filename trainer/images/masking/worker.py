"""The process that makes masks for the Images page: `python -m trainer masks-worker FOLDER --with WAY …`.

Started by job.py, which writes the ids as one JSON list into its standard input and reads JSON lines with the masks
as PNG in base64. It writes nothing into the set: the page does, under its lock.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from trainer.home import Home
from trainer.images.image_set import ImageSet
from trainer.images.masking.making import make
from trainer.problem import Problem


def main(argv: list[str]) -> int:
    """Lines: `loading`, `fetching` (done, of), `refused` (id, code, params), `mask` (id, png, sure), at last `done` or
    `failed`."""
    words = argparse.ArgumentParser(prog="masks-worker")
    words.add_argument("folder", type=Path)
    words.add_argument("--with", dest="given", required=True)
    words.add_argument("--home", required=True)
    words.add_argument("--word", default="")
    given = words.parse_args(argv)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log

    def say(event: str, **facts: Any) -> None:
        out.write(json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n")
        out.flush()

    def tell(event: str, **facts: Any) -> None:
        if event == "refused":
            say(event, id=facts["picture"].id, **_plain(facts["problem"]))
        else:
            say(event, **facts)

    wanted = set(json.loads(sys.stdin.readline()))
    try:
        pictures = [p for p in ImageSet(given.folder, read_only=True).pictures() if p.id in wanted]
        for picture, found in make(Home(Path(given.home)), given.given, pictures, given.word, tell):
            buffer = io.BytesIO()
            found.mask.save(buffer, "PNG")
            say("mask", id=picture.id, png=base64.b64encode(buffer.getvalue()).decode(), sure=found.sure)
    except Problem as problem:
        say("failed", **_plain(problem))
        return 1
    say("done")
    return 0


def _plain(problem: Problem) -> dict[str, Any]:
    params = {key: value for key, value in problem.params.items() if isinstance(value, str | int | float)}
    return {"code": problem.code, "params": params}
