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
    parser = argparse.ArgumentParser(prog="launch.py caption", description=t("commands.caption.about"))
    names = ", ".join(entry.name for entry in CAPTIONERS)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=t("commands.caption.folder"))
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--with", dest="captioner", metavar="NAME", help=t("commands.caption.given", names=names))
    way.add_argument("--from-names", action="store_true", help=t("commands.caption.from_names"))
    parser.add_argument("--overwrite", action="store_true", help=t("commands.caption.overwrite"))
    parser.add_argument("--prefix", metavar="TRIGGER", default="", help=t("commands.caption.prefix"))
    parser.add_argument("--threshold", type=float, default=CaptionRequest.threshold, help=t("commands.caption.threshold"))
    parser.add_argument("--kind", choices=KINDS, help=t("commands.caption.kind"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    if args.from_names:
        return from_names(ImageSet(args.folder), args.overwrite, args.prefix)
    home = Home.find(args.home)
    captioner, folder = captioners.find(home, args.captioner)
    image_set = ImageSet(args.folder)
    every = image_set.pictures()
    pictures = to_caption(every, args.overwrite)
    if pictures and folder is None and not captioner.missing_package():
        print(captioner.cost(), file=sys.stderr)
    request = CaptionRequest(args.kind or image_set.meta.kind, threshold=args.threshold)
    seen = {picture.id: picture.caption for picture in pictures}
    token, count = None, 0
    for picture, text in describe(home, args.captioner, pictures, request, _on_event) if pictures else ():
        token, ids = image_set.fill({picture.id: with_trigger(text, args.prefix)}, seen, token)
        count += len(ids)
        print(f"{picture.file.name}: {image_set.find(picture.id).caption}", flush=True)
    print(t("commands.caption.done", count=count, kept=len(every) - count), file=sys.stderr)
    return 0


def from_names(image_set: ImageSet, overwrite: bool, prefix: str) -> int:
    """Write the words of each file name as its caption; the names without words are told."""
    every = image_set.pictures()
    texts = {p.id: caption_of_name(PurePath(p.original).stem) for p in to_caption(every, overwrite)}
    named = {id_: with_trigger(text, prefix) for id_, text in texts.items() if text}
    _, ids = image_set.fill(named, {p.id: p.caption for p in every})
    for picture in image_set.pictures():
        if picture.id in ids:
            print(f"{picture.file.name}: {picture.caption}")
        elif not texts.get(picture.id, "-"):
            print(t("intake.line", names=picture.original, why=t("intake.notices.name_without_words")), file=sys.stderr)
    print(t("commands.caption.done", count=len(ids), kept=len(every) - len(ids)), file=sys.stderr)
    return 0


def _on_event(event: str, **facts: Any) -> None:
    if event == "skipped":
        print(t("commands.caption.skipped", picture=facts["picture"]), file=sys.stderr)
    elif event == "fetching" and sys.stderr.isatty():
        print(f"\r{facts['done'] / 1e6:.0f} / {facts['of'] / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)
