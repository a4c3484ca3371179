"""Nothing can be written: every act says so in a sentence, what was there stays as it was, and reading goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.helpers import full_disk, studio
from trainer.config.drafts import Drafts
from trainer.config.load import build
from trainer.core import files, storage
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.images.captions import captions
from trainer.images.set.image_set import ImageSet, list_sets
from trainer.images.set.thumbnail import small
from trainer.jobs.ledger.run_store import Store
from trainer.library.drawings import Drawings
from trainer.library.library import Library

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits and mounts of Unix")
Full = Callable[[Home], AbstractContextManager[None]]


@pytest.fixture(params=["full", "limit", "read_only"])
def stuck(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Home, Full, str]]:
    """(a home with things in it, how it becomes unwritable, the sentence's code)."""
    if request.param == "limit":
        yield _furnished(Home(tmp_path / "home")), lambda _: full_disk.no_growth(), "storage_full"
        return
    with full_disk.small_disk(tmp_path / "disk") as place:
        full = full_disk.filled if request.param == "full" else full_disk.read_only
        code = "storage_full" if request.param == "full" else "storage_read_only"
        yield _furnished(Home(place / "home")), lambda _: full(place), code


def _furnished(home: Home) -> Home:
    home.create()
    one = ImageSet.create(home, "Foxes")
    for number in (1, 2):
        studio.picture(one.folder / f"{number:04d}.png", 50 * number)
        one.set_caption(f"{number:04d}", f"fox {number}")
    studio.lora(home, "Ink fox")
    studio.lora(home, "Third fox")
    studio.lora(home, "Gone fox")
    Library(home).trash("Gone_fox")
    Drafts(home).save("Foxes", {"run": {"kind": "style"}})
    return home


def _foxes(home: Home) -> ImageSet:
    return ImageSet(home.datasets / "Foxes")


ACTS: dict[str, Callable[[Home], object]] = {
    "a caption": lambda home: _foxes(home).set_caption("0001", "a much longer caption " * 400),
    "many captions": lambda home: _foxes(home).edit(captions.adding("inkfox", front=True)),
    "a set's title": lambda home: _foxes(home).update(title="Other"),
    "a picture's weight": lambda home: _foxes(home).set_picture("0001", weight=2.0),
    "a new set": lambda home: ImageSet.create(home, "New"),
    "pictures deleted": lambda home: _foxes(home).delete(["0001"]),
    "a LoRA's notes": lambda home: Library(home).set("Ink_fox", notes="note " * 2000),
    "a LoRA trashed": lambda home: Library(home).trash("Third_fox"),
    "a LoRA brought back": lambda home: Library(home).undo(),
    "a LoRA imported": lambda home: Library(home).add(home.loras / "Ink_fox.safetensors", "Sent"),
    "a LoRA renamed": lambda home: Library(home).rename("Ink_fox", "Blue fox"),
    "a draft": lambda home: Drafts(home).save("Foxes", {"save": {"name": "x" * 9000}}),
    "a drawing": lambda home: Drawings(home.previews).begin("0" * 16, {"prompt": "x" * 9000}),
    "a run": lambda home: Store(home.database).create(build({"save": {"name": "x"}}), "key"),
}


def _content(home: Home) -> dict[str, bytes]:
    passing = (".lock", "ballast", "-wal", "-shm", "atelier.db", ".backup")
    places = (home.datasets, home.loras, home.trash, home.outputs / "journal", home.outputs / "drafts", home.previews)
    return {
        str(path.relative_to(home.root)): path.read_bytes()
        for place in places for path in sorted(place.rglob("*")) if path.is_file() and not path.name.endswith(passing)
    }  # fmt: skip


def test_every_act_on_a_disk_that_takes_nothing_is_a_sentence_and_changes_nothing(stuck: tuple[Home, Full, str]) -> None:
    home, full, code = stuck
    before = _content(home)
    for name, act in ACTS.items():
        with full(home), pytest.raises(Problem) as caught:
            act(home)
        problem = caught.value
        assert problem.code in (code, "disk_full", "job_disk_short", "job_ledger_readonly"), f"{name}: {problem.code}"
        for language in ("en", "ja"):
            assert "problems." not in problem.sentence(language) and "{" not in problem.sentence(language)
        assert _content(home) == before, name
    for act in ACTS.values():  # with room again, everything can be done
        act(home)


def test_what_is_there_can_be_looked_at_without_writing_anything(stuck: tuple[Home, Full, str]) -> None:
    home, full, code = stuck
    with full(home):
        library = Library(home)
        assert [card.name for card in library.cards()] == [card.name for card in library.cards()] != []
        (one,) = list_sets(home)
        assert [p.caption for p in one.pictures()] == ["fox 1", "fox 2"]
        assert small(one.find("0001"), 160)[:2] == b"\xff\xd8"
        assert Drafts(home).load("Foxes") == {"run": {"kind": "style"}}
        trouble = storage.trouble(home)
        assert trouble is not None and trouble.code == code
    assert storage.trouble(home) is None and not list(home.outputs.glob(".*.tmp"))


@pytest.mark.parametrize("number", sorted({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}))
def test_a_write_that_fails_is_a_sentence_that_is_still_the_systems_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    files.write_text(tmp_path / "a.txt", "before")
    monkeypatch.setattr(files, "write_durably", fail)
    with pytest.raises(files.StorageProblem) as caught:
        files.write_text(tmp_path / "a.txt", "after")
    assert isinstance(caught.value, OSError) and caught.value.errno == number
    assert "a.txt" in caught.value.sentence("en") and "a.txt" in caught.value.sentence("ja")
    assert (tmp_path / "a.txt").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


COMMANDS = (
    ["train", "--images", "{home}/datasets/Foxes", "--name", "x", "rights.pictures_ok=true"],
    ["sample", "Ink_fox", "--prompt", "a fox", "--out", "{home}/drawn"],
    ["export", "{home}/outputs/loras/Ink_fox.safetensors", "--to", "kohya", "--out", "{home}/other.safetensors"],
    ["resize", "{home}/outputs/loras/Ink_fox.safetensors", "--rank", "2", "--out", "{home}/small.safetensors"],
    ["card", "Ink_fox", "--out", "{home}/card"],
    ["notify", "https://example.com/hook"],
    ["queue"],
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_command_on_a_read_only_home_says_so_without_a_trace(words: list[str], tmp_path: Path) -> None:
    with full_disk.small_disk(tmp_path / "disk") as place:
        home = _furnished(Home(place / "home"))
        with full_disk.read_only(place):
            done = _command(words, home)
    assert done.returncode in (0, 1, 2) and "Traceback" not in done.stderr + done.stdout, done.stderr
    assert done.returncode == 0 or len(done.stderr.strip().splitlines()) <= 3


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_command_where_no_file_may_grow_says_so_without_a_trace(words: list[str], tmp_path: Path) -> None:
    home = _furnished(Home(tmp_path / "home"))
    done = _command(words, home, limit=True)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert done.returncode == 0 or (done.returncode in (1, 2) and len(done.stderr.strip().splitlines()) <= 3), done.stderr


def _command(words: list[str], home: Home, limit: bool = False) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "trainer", *(word.format(home=home.root) for word in words), "--home", str(home.root)]
    with full_disk.no_growth() if limit else contextlib.nullcontext():
        return subprocess.run(program, capture_output=True, text=True, cwd=PROJECT, check=False, timeout=300)
