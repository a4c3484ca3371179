"""The process that looks at pictures for the Images page: `python -m trainer captions-worker FOLDER --with NAME …`."""

from __future__ import annotations

import argparse

from trainer.core.home import Home
from trainer.images import worker
from trainer.images.captioners import CaptionRequest
from trainer.images.captioners.writing import describe
from trainer.images.set.picture import Picture


def main(argv: list[str]) -> int:
    """Lines: `fetching` (done, of), `loading`, `skipped` (picture), `caption` (id, text), at last `done` or `failed`."""
    parser = worker.parser("captions-worker")
    parser.add_argument("--kind", default="style")
    parser.add_argument("--variant", type=int, default=0)
    return worker.serve(parser.parse_args(argv), _write)


def _write(args: argparse.Namespace, home: Home, pictures: list[Picture], emit: worker.Emit) -> None:
    for picture, text in describe(home, args.name, pictures, CaptionRequest(args.kind, args.variant), emit):
        emit("caption", id=picture.id, text=text)
