"""A home made by an earlier version opens, lists, gives back, goes on and draws; one of a later version is left alone.

Each archive in tests/homes was made by the version of its date (tests/homes/README.md).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.jobs import wait_for
from tests.homes.archive import machine, unpack
from trainer.__main__ import main
from trainer.adapters.weights import read_tensors
from trainer.bases import catalog
from trainer.core import events
from trainer.core.home import Home
from trainer.images.geometry.masks import mask_of
from trainer.images.set.image_set import ImageSet, list_sets, restore_set
from trainer.jobs import supervisor
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger import sqlite_file
from trainer.jobs.supervisor import Supervisor, Timeouts
from trainer.library.library import Library

ARCHIVES = sorted((Path(__file__).parent / "homes").glob("*.tar.xz"))


class Old:
    """One unpacked home and what the version that made it said of it."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.home = Home(unpack(archive, folder))
        self.expected = folder / "expected"
        self.facts: dict[str, Any] = json.loads((self.expected / "facts.json").read_text("utf-8"))
        self.ids: dict[str, str] = self.facts["ids"]
        self.same_machine = self.facts["machine"] == machine()


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def old(request, tmp_path) -> Old:
    return Old(request.param, tmp_path)


@pytest.fixture
def jobs(old):
    made = Jobs(old.home)
    yield made
    made.close()
    made.store.close()


def test_there_is_at_least_one_old_home():
    assert ARCHIVES


def test_its_sets_bases_runs_and_loras_are_listed_as_they_were(old, jobs):
    foxes = next(found for found in list_sets(old.home) if found.meta.title == "Foxes 狐")
    assert {found.meta.title for found in list_sets(old.home)} == {"Foxes 狐", "Ferns"}
    assert (foxes.meta.kind, foxes.meta.trigger, foxes.meta.licence) == ("character", "blobby", "drawn by me")
    pictures = {picture.id: picture for picture in foxes.pictures()}
    assert list(pictures) == ["0001", "0002", "0003", "0004", "0006"]
    assert pictures["0001"].caption == "blob 1, 赤い, round"
    third = pictures["0003"]
    assert (third.repeats, third.weight, third.focus) == (2, 0.5, (0.25, 0.5))
    assert mask_of(pictures["0002"]) is not None and mask_of(pictures["0001"]) is None

    assert "tiny" in [facts.id for facts in catalog.list_bases(old.home)]
    rows = {row.id: row for row in jobs.rows()}
    assert {old.ids[name]: rows[old.ids[name]].state for name in ("done", "stopped", "interrupted")} == {
        old.ids["done"]: "succeeded",
        old.ids["stopped"]: "stopped",
        old.ids["interrupted"]: "interrupted",
    }
    assert rows[old.ids["interrupted"]].reason_text("en") and old.ids["deleted"] not in rows
    view = jobs.follow(old.ids["done"])
    assert [step for step, _, _ in view.losses] == list(range(1, 13)) and view.note_texts("ja") is not None
    assert [(sample.step, (view.folder / sample.file).is_file()) for sample in view.samples] == [
        (0, True),
        (6, True),
        (12, True),
    ]

    cards = {card.name: card for card in Library(old.home).cards()}
    assert all(card.broken is None for card in cards.values()) and len(cards) == 2
    fox = cards[old.facts["lora"]]
    assert (fox.notes, fox.state, fox.trigger, fox.recommended.best) == ("よくできた", "in_use", "blobby", 0.9)
    assert fox.picture and (old.home.loras / fox.picture).is_file()
    assert Library(old.home).again(fox.name)["model"]["base"] == "tiny" and Library(old.home).verify(fox.name)


def test_what_lies_in_its_trash_comes_back(old, jobs):
    foxes = next(found for found in list_sets(old.home) if found.meta.trigger)
    assert foxes.undo() is not None
    assert foxes.find("0005").caption == "blob 5, 赤い, round"
    ferns = next(found for found in list_sets(old.home) if found.meta.title == "Ferns")
    assert all(picture.caption.startswith("fern") for picture in ferns.pictures())
    assert ferns.undo() is not None
    assert [picture.caption for picture in ferns.pictures()] == [f"blob {n}, 赤い, round" for n in (1, 2, 3)]
    (thrown,) = (old.home.trash / "sets").iterdir()
    assert len(restore_set(old.home, thrown).pictures()) == 2

    assert jobs.restore(old.ids["deleted"]).state == "succeeded"
    assert len(jobs.follow(old.ids["deleted"]).losses) == 12
    library = Library(old.home)
    assert library.undo() == "Thrown"
    assert library.card("Thrown").broken is None and library.verify("Thrown")


@pytest.mark.slow
def test_its_interrupted_run_goes_on_to_the_numbers_its_own_version_came_to(old, jobs, monkeypatch):
    """To the bit on the processor and torch that recorded them. Other processors add up the same products in another order, so
    there the losses agree to four digits, and the tensors to a hundredth of what the run moved since the checkpoint."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    id_ = old.ids["interrupted"]
    done = len(told(jobs, id_))
    watch = Supervisor(old.home, jobs.store, timeouts=Timeouts(tick=0.05), command=supervisor.command)
    jobs.resume(id_)

    def ended() -> bool:
        watch.tick()
        row = jobs.row(id_)
        return row.state not in ("queued", "starting", "running") and row.pid is None

    wait_for(ended, 1200)
    assert jobs.row(id_).state == "succeeded", jobs.row(id_)
    steps = {event.step: event.loss for event in told(jobs, id_)[done:]}
    wanted = {int(step): loss for step, loss in old.facts["losses"].items()}
    assert list(steps) == list(wanted)
    folder = jobs.run_dir(id_)
    start, end, recorded = (
        dict(read_tensors(file))
        for file in (
            folder.checkpoint(6) / "adapter.safetensors",
            folder.checkpoint(12) / "adapter.safetensors",
            old.expected / "adapter.safetensors",
        )
    )
    assert set(end) == set(recorded)
    if old.same_machine:
        assert steps == wanted
        assert all(np.array_equal(end[name], recorded[name]) for name in recorded)
    assert steps == pytest.approx(wanted, rel=1e-4)
    moved = sum(float(np.square(recorded[name] - start[name]).sum()) for name in recorded)
    apart = sum(float(np.square(recorded[name] - end[name]).sum()) for name in recorded)
    assert apart <= 1e-4 * moved and moved > 0
    assert len(Library(old.home).cards()) == 3


def test_a_picture_is_drawn_with_its_lora(old, tmp_path):
    words = [old.facts["lora"], "--prompt", old.facts["prompt"], "--base", "tiny", "--steps", "2", "--seed", "1"]
    assert main(["sample", *words, "--out", str(tmp_path / "drawn"), "--home", str(old.home.root)]) == 0
    pictures = [
        np.asarray(Image.open(file).convert("RGB"), np.float32)
        for file in (next((tmp_path / "drawn").glob("*.png")), old.expected / "drawn.png")
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_home_of_a_newer_version_is_refused_with_a_sentence_and_left_as_it_is(old, capsys):
    from app.server.main import create_app
    from trainer.core.problem import Problem

    with contextlib.closing(sqlite3.connect(old.home.database)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # as in every home that was opened
        database.execute(f"PRAGMA user_version={sqlite_file.VERSION + 1}")
        database.commit()
    shutil.rmtree(old.home.cache)
    old.home.create()
    before = contents(old.home.root)
    assert main(["queue", "--home", str(old.home.root)]) == 2
    sentence = capsys.readouterr().err
    assert "newer version" in sentence and "nothing was changed" in sentence
    with pytest.raises(Problem) as refused:
        create_app(old.home.root, "en")
    assert refused.value.code == "job_ledger_newer"
    assert contents(old.home.root) == before


def told(jobs: Jobs, id_: str) -> list[events.Step]:
    return [event for event in events.read(jobs.run_dir(id_).events)[0] if isinstance(event, events.Step)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those of SQLite's and our own locks."""
    passing = (".lock", "-wal", "-shm")
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.endswith(passing)
    }


def test_opening_an_old_set_changes_nothing_in_it(old):
    before = contents(old.home.datasets)
    for folder in old.home.datasets.iterdir():
        ImageSet(folder).pictures()
    assert contents(old.home.datasets) == before
