"""`caption FOLDER --with NAME`: writes captions for the pictures that have none, by a captioner."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path, PurePath
from typing import Any

from trainer.core.home import Home
from trainer.core.texts import t
from trainer.images import captioners
from trainer.images.captioners import CAPTIONERS, CaptionRequest
from trainer.images.captioners.writing import describe, to_caption
from trainer.images.captions.captions import with_trigger
from trainer.images.intake.caption_reader import caption_of_name
from trainer.images.set.image_set import KINDS, ImageSet


def main(argv: list[str]) -> int:
    """Write a .txt beside each picture without one, as they come; prints `name: caption` for each."""
    words = argparse.ArgumentParser(prog="launch.py caption", description=t("commands.caption.about"))
    names = ", ".join(one.name for one in CAPTIONERS)
    words.add_argument("folder", metavar="FOLDER", type=Path, help=t("commands.caption.folder"))
    way = words.add_mutually_exclusive_group(required=True)
    way.add_argument("--with", dest="given", metavar="NAME", help=t("commands.caption.given", names=names))
    way.add_argument("--from-names", action="store_true", help=t("commands.caption.from_names"))
    words.add_argument("--overwrite", action="store_true", help=t("commands.caption.overwrite"))
    words.add_argument("--prefix", metavar="TRIGGER", default="", help=t("commands.caption.prefix"))
    words.add_argument("--threshold", type=float, default=CaptionRequest.threshold, help=t("commands.caption.threshold"))
    words.add_argument("--kind", choices=KINDS, help=t("commands.caption.kind"))
    words.add_argument("--home", help=t("commands.home"))
    given = words.parse_args(argv)
    if given.from_names:
        return from_names(ImageSet(given.folder), given.overwrite, given.prefix)
    home = Home.find(given.home)
    captioner, folder = captioners.find(home, given.given)
    found = ImageSet(given.folder)
    every = found.pictures()
    pictures = to_caption(every, given.overwrite)
    if pictures and folder is None and not captioner.missing_package():
        print(captioner.cost(), file=sys.stderr)
    ask = CaptionRequest(given.kind or found.meta.kind, threshold=given.threshold)
    seen = {picture.id: picture.caption for picture in pictures}
    token, count = None, 0
    for picture, text in describe(home, given.given, pictures, ask, _tell) if pictures else ():
        token, ids = found.fill({picture.id: with_trigger(text, given.prefix)}, seen, token)
        count += len(ids)
        print(f"{picture.file.name}: {found.find(picture.id).caption}", flush=True)
    print(t("commands.caption.done", count=count, kept=len(every) - count), file=sys.stderr)
    return 0


def from_names(found: ImageSet, overwrite: bool, prefix: str) -> int:
    """Write the words of each file name as its caption; the names without words are told."""
    every = found.pictures()
    texts = {p.id: caption_of_name(PurePath(p.original).stem) for p in to_caption(every, overwrite)}
    named = {id_: with_trigger(text, prefix) for id_, text in texts.items() if text}
    _, ids = found.fill(named, {p.id: p.caption for p in every})
    for picture in found.pictures():
        if picture.id in ids:
            print(f"{picture.file.name}: {picture.caption}")
        elif not texts.get(picture.id, "-"):
            print(t("intake.line", names=picture.original, why=t("intake.notices.name_without_words")), file=sys.stderr)
    print(t("commands.caption.done", count=len(ids), kept=len(every) - len(ids)), file=sys.stderr)
    return 0


def _tell(event: str, **facts: Any) -> None:
    if event == "skipped":
        print(t("commands.caption.skipped", picture=facts["picture"]), file=sys.stderr)
    elif event == "fetching" and sys.stderr.isatty():
        print(f"\r{facts['done'] / 1e6:.0f} / {facts['of'] / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)
