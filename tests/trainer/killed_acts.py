"""What test_killed_acts.py has carried out in children that are killed: each function is one act on a prepared home."""

from __future__ import annotations

import os

from app import imports
from trainer.home import Home
from trainer.library import Library

BATCH = "a" * 32
os.environ.setdefault("TZ", "UTC")


def trash(home: Home) -> None:
    Library(home).trash("Ink_fox")


def undo(home: Home) -> None:
    Library(home).undo()


def rename(home: Home) -> None:
    Library(home).rename("Ink_fox", "Blue fox")


def rename_foreign(home: Home) -> None:
    Library(home).rename("Foreign", "Other")


def keep_notes(home: Home) -> None:
    Library(home).set("Ink_fox", notes="for stamps", recommended=0.7, state="in_use")


def take_in(home: Home) -> None:
    imports.take_in(home, Library(home), BATCH)
