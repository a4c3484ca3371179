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
    words = argparse.ArgumentParser(prog="launch.py card", description=t("commands.card.title"))
    words.add_argument("lora", help=t("commands.lora_files.file"))
    words.add_argument("--out", type=Path, help=t("commands.card.out"))
    words.add_argument("--send", metavar="OWNER/NAME", help=t("commands.card.send"))
    words.add_argument("--public", action="store_true", help=t("commands.card.public"))
    words.add_argument("--update", action="store_true", help=t("commands.card.update"))
    words.add_argument("--home", help=t("commands.home"))
    given = words.parse_args(argv)
    home = Home.find(given.home)
    file = lora_use(given.lora, home).path
    found = card(file, {path.name for path in file.parent.iterdir()}, home.cache)
    if found.broken:
        raise found.broken
    if given.send is not None:
        print(send(found, given.send, public=given.public, update=given.update))
        return 0
    print(model_card.write(found, given.out) if given.out else model_card.text(found))
    return 0
