"""`mask FOLDER [--method WAY]`: makes masks for the pictures that have none."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from trainer.core.home import Home
from trainer.core.texts import t
from trainer.images import masking
from trainer.images.masking.making import make
from trainer.images.set.image_set import ImageSet


def main(argv: list[str]) -> int:
    """Write `name.mask.png` beside each picture it can; prints a line for each, and why one got none."""
    words = argparse.ArgumentParser(prog="launch.py mask", description=t("commands.mask.about"))
    words.add_argument("folder", metavar="FOLDER", type=Path, help=t("commands.mask.folder"))
    words.add_argument("--method", metavar="WAY", default=masking.PLAIN, help=t("commands.mask.method"))
    words.add_argument("--word", default="", help=t("commands.mask.word"))
    words.add_argument("--again", action="store_true", help=t("commands.mask.again"))
    words.add_argument("--home", help=t("commands.home"))
    given = words.parse_args(argv)
    home = Home.find(given.home)
    found = ImageSet(given.folder)
    every, pictures = found.pictures(), found.unmasked(given.again)
    token, count = None, 0
    for picture, made in make(home, given.method, pictures, given.word, _tell):
        buffer = io.BytesIO()
        made.mask.save(buffer, "PNG")
        put = found.put_mask(picture.id, buffer.getvalue(), token)
        if put:
            token, count = put, count + 1
            print(t("commands.mask.line", picture=picture.file.name, sure=round(100 * made.sure)), flush=True)
    print(t("commands.mask.done", count=count, kept=len(every) - count), file=sys.stderr)
    return 0


def _tell(event: str, **facts: Any) -> None:
    if event == "refused":
        print(f"{facts['picture'].file.name}: {facts['problem'].sentence()}", file=sys.stderr)
    elif event == "fetching" and sys.stderr.isatty():
        print(f"\r{facts['done'] / 1e6:.0f} / {facts['of'] / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)
