"""The process that makes masks for the Images page: `python -m trainer masks-worker FOLDER --with WAY …`."""

from __future__ import annotations

import argparse
import base64
import io
from typing import Any

from trainer.core.home import Home
from trainer.images import worker
from trainer.images.masking.making import make
from trainer.images.set.picture import Picture


def main(argv: list[str]) -> int:
    """Lines: `loading`, `fetching` (done, of), `refused` (id, code, params), `mask` (id, png in base64, sure), at last `done`
    or `failed`."""
    words = worker.parser("masks-worker")
    words.add_argument("--word", default="")
    return worker.serve(words.parse_args(argv), _make)


def _make(given: argparse.Namespace, home: Home, pictures: list[Picture], tell: worker.Tell) -> None:
    def told(event: str, **facts: Any) -> None:
        if event == "refused":
            tell(event, id=facts["picture"].id, **worker.as_json(facts["problem"]))
        else:
            tell(event, **facts)

    for picture, found in make(home, given.given, pictures, given.word, told):
        buffer = io.BytesIO()
        found.mask.save(buffer, "PNG")
        tell("mask", id=picture.id, png=base64.b64encode(buffer.getvalue()).decode(), sure=found.sure)
