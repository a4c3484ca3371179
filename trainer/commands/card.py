"""`card LORA [--out DIR]`: the README.md of a LoRA for a model hub, printed, or in a folder ready to be sent there."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer import model_card
from trainer.cards import card
from trainer.commands.sample import lora_use
from trainer.home import Home
from trainer.texts import t


def main(argv: list[str]) -> int:
    """Print the card, or write DIR with README.md, the file and its picture."""
    words = argparse.ArgumentParser(prog="launch.py card", description=t("commands.card.title"))
    words.add_argument("lora", help=t("commands.lora_files.file"))
    words.add_argument("--out", type=Path, help=t("commands.card.out"))
    words.add_argument("--home", help=t("commands.home"))
    given = words.parse_args(argv)
    home = Home.find(given.home)
    file = lora_use(given.lora, home).path
    found = card(file, {path.name for path in file.parent.iterdir()}, home.cache)
    if found.broken:
        raise found.broken
    print(model_card.write(found, given.out) if given.out else model_card.text(found))
    return 0
