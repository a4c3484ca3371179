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
    parser = worker.parser("masks-worker")
    parser.add_argument("--word", default="")
    return worker.serve(parser.parse_args(argv), _make)


def _make(args: argparse.Namespace, home: Home, pictures: list[Picture], emit: worker.Emit) -> None:
    def emit_plain(event: str, **facts: Any) -> None:
        if event == "refused":
            emit(event, id=facts["picture"].id, **worker.as_json(facts["problem"]))
        else:
            emit(event, **facts)

    for picture, result in make(home, args.name, pictures, args.word, emit_plain):
        buffer = io.BytesIO()
        result.mask.save(buffer, "PNG")
        emit("mask", id=picture.id, png=base64.b64encode(buffer.getvalue()).decode(), sure=result.sure)
