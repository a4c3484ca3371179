"""An act of the library or of an image set, killed before any of its file operations, is done afterwards or not begun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.actions import imports
from tests.helpers import killed_acts, studio
from trainer.core import files
from trainer.core.home import PROJECT, Home
from trainer.images.captions import captions
from trainer.images.set.image_set import ImageSet
from trainer.library.library import Library, register

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks children and kills them")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A library with a LoRA of ours and one from elsewhere, both with cards and pictures, and one in the trash."""
    home = Home(tmp_path / "template").create()
    studio.lora(home, "Ink fox")
    studio.lora(home, "Gone fox")
    Library(home).set("Gone_fox", notes="kept")
    Library(home).trash("Gone_fox")
    shutil.copy(home.loras / "Ink_fox.safetensors", home.loras / "Foreign.safetensors")
    for path in home.loras.glob("*.safetensors"):
        register(path)
        (path.with_suffix(".preview.png")).write_bytes(b"a picture")
    upload = home.cache / "uploads" / killed_acts.BATCH / "drop"
    upload.mkdir(parents=True)
    shutil.copy(home.loras / "Ink_fox.safetensors", upload / "Sent.safetensors")
    return home


def tree(home: Home) -> dict[str, bytes]:
    """Every file of library, trash and journal, hidden ones too; the trash's folders by their place in time."""
    found = {}
    tokens = sorted(path.name for path in (home.trash / "loras").glob("*"))
    for folder in (home.loras, home.trash, home.outputs / "journal"):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(home.outputs).as_posix()
            for number, token in enumerate(tokens):
                name = name.replace(token, f"trashed-{number}")
            if path.is_file():
                found[name] = path.read_bytes()
    return found


def kill_each(act: Callable[[Home], object], home: Home, tmp_path: Path) -> list[Home]:
    """A home for each file operation of `act`, killed before it; the last one is the home after the whole act."""
    words = [f"{act.__module__}:{act.__name__}", str(home.root), str(tmp_path / "work")]
    (tmp_path / "work").mkdir()
    program = [sys.executable, "-m", "tests.helpers.kill_program", *words]
    done = subprocess.run(program, capture_output=True, text=True, cwd=PROJECT, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [Home(tmp_path / "work" / f"{k}") for k in range(1, int(done.stdout) + 2)]


ACTS = (killed_acts.trash, killed_acts.undo, killed_acts.rename, killed_acts.rename_foreign, killed_acts.keep_notes,
        killed_acts.take_in)  # fmt: skip


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_killed_before_any_operation_the_act_is_done_or_not_begun_and_can_be_done_or_taken_back(
    act: Callable[[Home], object], home: Home, tmp_path: Path
) -> None:
    *killed, whole = kill_each(act, home, tmp_path)
    before, after = tree(home), tree(whole)
    assert before != after and len(killed) >= 3
    states, names = [], {card.name for card in Library(whole).cards()}
    for one in killed:
        library = Library(one)
        states.append(tree(one))
        assert states[-1] in (before, after), f"killed before operation {one.root.name}"
        if states[-1] == before:
            act(one)  # no name is taken, nothing is in the way
            assert tree(one) == after
        assert {card.name for card in library.cards()} == names and not any(card.broken for card in library.cards())
        while library.trashed():
            library.undo()
        assert all(library.verify(card.name) for card in library.cards() if card.ours)
    assert states[0] == before and states == sorted(states, key=lambda state: state == after), "once decided, it is done"


def test_an_open_library_finishes_what_another_program_was_killed_in(home: Home, tmp_path: Path) -> None:
    *killed, whole = kill_each(killed_acts.rename, home, tmp_path)
    decided = next(one for one in killed if list((one.outputs / "journal").glob("*.json")))
    open_already = Library(home)
    shutil.rmtree(home.loras)
    shutil.copytree(decided.outputs, home.outputs, dirs_exist_ok=True)
    assert {card.name for card in open_already.cards()} == {card.name for card in Library(whole).cards()}
    assert not list((home.outputs / "journal").iterdir())


def test_what_a_kill_of_an_earlier_version_left_in_the_trash_neither_blocks_nor_is_lost(home: Home) -> None:
    bins = home.trash / "loras"
    for token in ("99999999999999999998", "99999999999999999999"):  # one made and nothing moved; one with the card alone
        (bins / token).mkdir()
    shutil.move(home.loras / "Ink_fox.json", bins / "99999999999999999999" / "Ink_fox.json")
    library = Library(home)
    assert (home.loras / "Ink_fox.json").exists()
    assert library.undo() == "Gone_fox" and library.card("Gone_fox").notes == "kept"
    assert not list(bins.iterdir())


def test_bringing_back_never_overwrites_a_file_that_a_person_put_there(home: Home) -> None:
    (home.loras / "Gone_fox.json").write_text("mine")
    assert Library(home).undo() == "Gone_fox_v2"
    assert (home.loras / "Gone_fox.json").read_text() == "mine" and Library(home).card("Gone_fox_v2").notes == "kept"


def test_a_file_put_where_a_killed_act_was_going_is_left_alone(home: Home, tmp_path: Path) -> None:
    *killed, _ = kill_each(killed_acts.take_in, home, tmp_path)
    decided = next(one for one in killed if list((one.outputs / "journal").glob("*.json")))
    (decided.loras / "Sent.safetensors").write_bytes(b"a person's own")
    library = Library(decided)
    assert (decided.loras / "Sent.safetensors").read_bytes() == b"a person's own"
    assert library.verify("Sent_v2") and (decided.loras / "Sent_v2.json").exists()


def test_an_upload_is_taken_in_whole_and_gone_from_the_cache(home: Home) -> None:
    assert imports.take_in(home, Library(home), killed_acts.BATCH) == "Sent"
    assert not (home.cache / "uploads" / killed_acts.BATCH).exists()
    assert (home.loras / "Sent.json").exists() and (home.loras / "Sent.safetensors").stat().st_nlink == 1


@pytest.fixture
def sets(tmp_path: Path) -> Home:
    """Four sets: as they were, with captions edited, with pictures deleted, and in the trash."""
    home = Home(tmp_path / "template").create()
    for title in ("Foxes", "Edited", "Thinned", "Gone"):
        one = ImageSet.create(home, title)
        for number in (1, 2, 3):
            studio.picture(one.folder / f"{number:04d}.png", 40 * number)
            (one.folder / f"{number:04d}.txt").write_text(f"fox {number}\n")
        one.set_picture("0001", repeats=3, focus=(0.25, 0.75))
        if title == "Edited":
            one.edit(captions.adding("inkfox", front=True))
        if title == "Thinned":
            one.delete(["0001", "0003"])
        if title == "Gone":
            one.discard(home)
    return home


def content(home: Home) -> dict[str, object]:
    """Every set by name and place: its pictures with captions and notes, what can be taken back, and its other files."""
    found: dict[str, object] = {}
    for folder in sorted([*home.datasets.glob("[!.]*"), *(home.trash / "sets").glob("*")]):
        one = ImageSet(folder)
        pictures = [(p.id, p.caption, p.repeats, p.focus) for p in one.pictures()]
        act = one.undoable()
        rest = {path.name for path in folder.iterdir()} - {p.file.name for p in one.pictures()}
        left = sorted(name for name in rest - {".trash"} if not files.TEMPORARY.fullmatch(name))  # swept after an hour
        found[folder.relative_to(home.root).as_posix()] = [pictures, (act.what, act.count) if act else None, left]
    return found


SETS = (killed_acts.edit_captions, killed_acts.undo_edit, killed_acts.delete_pictures, killed_acts.undo_delete,
        killed_acts.discard_set, killed_acts.restore, killed_acts.create_set)  # fmt: skip


@pytest.mark.parametrize("act", SETS, ids=lambda act: act.__name__)
def test_a_set_is_as_before_or_after_whenever_the_act_was_killed(
    act: Callable[[Home], object], sets: Home, tmp_path: Path
) -> None:
    *killed, whole = kill_each(act, sets, tmp_path)
    before, after = content(sets), content(whole)
    assert before != after and killed
    for one in killed:
        state = content(one)
        assert state in (before, after), f"killed before operation {one.root.name}"
        if state == before:
            act(one)
            assert content(one) == after
