"""`card LORA [--out DIR | --send OWNER/NAME]`: the README.md of a LoRA for a model hub, printed, in a folder, or sent there."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.sample import lora_use
from trainer.core.home import Home
from trainer.core.texts import t
from trainer.library import model_card
from trainer.library.cards import card
from trainer.library.hub_upload import send


def main(argv: list[str]) -> int:
    """Print the card, write DIR with README.md, the file and its picture, or send these and print the address."""
    parser = argparse.ArgumentParser(prog="launch.py card", description=t("commands.card.title"))
    parser.add_argument("lora", help=t("commands.lora_files.file"))
    parser.add_argument("--out", type=Path, help=t("commands.card.out"))
    parser.add_argument("--send", metavar="OWNER/NAME", help=t("commands.card.send"))
    parser.add_argument("--public", action="store_true", help=t("commands.card.public"))
    parser.add_argument("--update", action="store_true", help=t("commands.card.update"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    file = lora_use(args.lora, home).path
    entry = card(file, {path.name for path in file.parent.iterdir()}, home.cache)
    if entry.broken:
        raise entry.broken
    if args.send is not None:
        print(send(entry, args.send, public=args.public, update=args.update))
        return 0
    print(model_card.write(entry, args.out) if args.out else model_card.text(entry))
    return 0
