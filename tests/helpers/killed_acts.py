"""What test_killed_acts.py has carried out in children that are killed: each function is one act on a prepared home."""

from __future__ import annotations

import os

from app.actions import imports
from trainer.core.home import Home
from trainer.images.captions import captions
from trainer.images.set.image_set import ImageSet, restore_set
from trainer.library.library import Library

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


def edit_captions(home: Home) -> None:
    ImageSet(home.datasets / "Foxes").edit(captions.adding("inkfox", front=True))


def undo_edit(home: Home) -> None:
    ImageSet(home.datasets / "Edited").undo()


def delete_pictures(home: Home) -> None:
    ImageSet(home.datasets / "Foxes").delete(["0001", "0002"])


def undo_delete(home: Home) -> None:
    ImageSet(home.datasets / "Thinned").undo()


def discard_set(home: Home) -> None:
    ImageSet(home.datasets / "Foxes").discard(home)


def restore(home: Home) -> None:
    restore_set(home, home.trash / "sets" / "Gone")


def create_set(home: Home) -> None:
    ImageSet.create(home, "New")
