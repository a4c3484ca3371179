"""Two programs on one home at the same time: what each of them writes is kept, and no name is taken twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import studio
from trainer.core import files
from trainer.core.home import PROJECT, Home
from trainer.images.set.image_set import ImageSet, list_sets
from trainer.library.drawings import Drawings
from trainer.library.library import Library

PICTURES = 12
KEY = "0123456789abcdef"

BOTH = """
import sys
from pathlib import Path
from trainer.library.drawings import Drawings
from trainer.core.home import Home
from trainer.images.set.image_set import ImageSet
from trainer.library.library import Library
home, act, me = Home(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
if act == "notes":
    for number in range(1 + me, 13, 2):
        ImageSet(home.datasets / "Foxes").set_picture(f"{number:04d}", repeats=2 + me)
elif act == "captions":
    for number in range(1 + me, 13, 2):
        ImageSet(home.datasets / "Foxes").edit(lambda text: f"{text} {me}".strip(), [f"{number:04d}"])
elif act == "create":
    for _ in range(8):
        ImageSet.create(home, "Same name")
elif act == "library":
    for turn in range(6):
        Library(home).set("Ink_fox", **({"notes": f"note {turn}"} if me else {"purpose": f"purpose {turn}"}))
elif act == "trash":
    for _ in range(6):
        library = Library(home)
        library.undo(library.trash(f"Fox_{me}"))
elif act == "drawings":
    store = Drawings(home.previews)
    known = store.begin("0123456789abcdef", {"by": me})
    for number in range(6):
        strength = number / 5 + me / 10
        picture = known.folder / f"p0_s{strength:.2f}.png"
        picture.write_bytes(b"x")
        known = store.add(known, strength, picture)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path).create()
    one = ImageSet.create(home, "Foxes")
    for number in range(1, PICTURES + 1):
        studio.picture(one.folder / f"{number:04d}.png", 5 * number)
    for name in ("Ink fox", "Fox 0", "Fox 1"):
        studio.lora(home, name)
    return home


def both(home: Home, act: str) -> None:
    """Two processes do `act` at the same moment."""
    words = [sys.executable, "-c", BOTH, str(home.root), act]
    running = [
        subprocess.Popen([*words, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        for me in (0, 1)
    ]
    for one in running:
        assert one.stdout and one.stdout.readline() == "ready\n"
    for one in running:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in running:
        one.communicate()
        assert one.returncode == 0


def test_notes_of_pictures_written_by_two_programs_are_all_kept(home: Home) -> None:
    both(home, "notes")
    assert [p.repeats for p in ImageSet(home.datasets / "Foxes").pictures()] == [2, 3] * (PICTURES // 2)


def test_captions_edited_by_two_programs_are_all_kept_and_can_all_be_taken_back(home: Home) -> None:
    both(home, "captions")
    one = ImageSet(home.datasets / "Foxes")
    assert [p.caption for p in one.pictures()] == ["0", "1"] * (PICTURES // 2)
    while one.undo():
        continue
    assert {p.caption for p in one.pictures()} == {""}


def test_two_sets_of_one_title_get_folders_of_their_own(home: Home) -> None:
    both(home, "create")
    assert len([one for one in list_sets(home) if one.meta.title == "Same name"]) == 16


def test_what_two_programs_say_of_one_lora_is_both_kept(home: Home) -> None:
    both(home, "library")
    card = Library(home).card("Ink_fox")
    assert (card.notes, card.purpose) == ("note 5", "purpose 5")


def test_two_programs_trash_and_bring_back_without_a_mix_up(home: Home) -> None:
    both(home, "trash")
    assert sorted(card.name for card in Library(home).cards()) == ["Fox_0", "Fox_1", "Ink_fox"]
    assert not list((home.trash / "loras").iterdir()) and not list((home.outputs / "journal").iterdir())


def test_strengths_drawn_by_two_programs_are_in_one_drawing(home: Home) -> None:
    both(home, "drawings")
    drawing = Drawings(home.previews).get(KEY)
    assert drawing is not None and len(drawing.frames) == 12
    assert not [path for path in home.previews.rglob("*") if files.TEMPORARY.fullmatch(path.name)]
