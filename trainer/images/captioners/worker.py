"""The process that looks at pictures for the Images page: `python -m trainer captions-worker FOLDER --with NAME …`."""

from __future__ import annotations

import argparse

from trainer.core.home import Home
from trainer.images import worker
from trainer.images.captioners import Ask
from trainer.images.captioners.writing import describe
from trainer.images.set.picture import Picture


def main(argv: list[str]) -> int:
    """Lines: `fetching` (done, of), `loading`, `skipped` (picture), `caption` (id, text), at last `done` or `failed`."""
    words = worker.parser("captions-worker")
    words.add_argument("--kind", default="style")
    words.add_argument("--variant", type=int, default=0)
    return worker.serve(words.parse_args(argv), _write)


def _write(given: argparse.Namespace, home: Home, pictures: list[Picture], tell: worker.Tell) -> None:
    for picture, text in describe(home, given.given, pictures, Ask(given.kind, given.variant), tell):
        tell("caption", id=picture.id, text=text)
