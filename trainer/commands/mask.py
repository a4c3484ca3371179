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
    parser = argparse.ArgumentParser(prog="launch.py mask", description=t("commands.mask.about"))
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=t("commands.mask.folder"))
    parser.add_argument("--method", metavar="WAY", default=masking.PLAIN, help=t("commands.mask.method"))
    parser.add_argument("--word", default="", help=t("commands.mask.word"))
    parser.add_argument("--again", action="store_true", help=t("commands.mask.again"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    image_set = ImageSet(args.folder)
    every, pictures = image_set.pictures(), image_set.unmasked(args.again)
    token, count = None, 0
    for picture, result in make(home, args.method, pictures, args.word, _on_event):
        buffer = io.BytesIO()
        result.mask.save(buffer, "PNG")
        put = image_set.put_mask(picture.id, buffer.getvalue(), token)
        if put:
            token, count = put, count + 1
            print(t("commands.mask.line", picture=picture.file.name, sure=round(100 * result.sure)), flush=True)
    print(t("commands.mask.done", count=count, kept=len(every) - count), file=sys.stderr)
    return 0


def _on_event(event: str, **facts: Any) -> None:
    if event == "refused":
        print(f"{facts['picture'].file.name}: {facts['problem'].sentence()}", file=sys.stderr)
    elif event == "fetching" and sys.stderr.isatty():
        print(f"\r{facts['done'] / 1e6:.0f} / {facts['of'] / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)
