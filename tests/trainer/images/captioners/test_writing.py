"""Captions into a set: only where there is none, never over what a person typed, all of it taken back in one go."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from trainer.commands import caption
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.images.captioners.job import Captioning
from trainer.images.set.image_set import ImageSet


@pytest.fixture
def mine(home: Home) -> ImageSet:
    """The mascot's set as a person's own, with captions for the last four pictures alone."""
    shutil.copytree(PROJECT / "datasets" / "example-character", home.datasets / "mine")
    image_set = ImageSet(home.datasets / "mine")
    for picture in image_set.pictures()[:-4]:
        picture.caption_file.unlink()
    return image_set


def captions_of(found: ImageSet) -> dict[str, str]:
    return {picture.id: picture.caption for picture in found.pictures()}


def test_the_command_fills_what_is_empty_and_the_page_can_take_it_back(mine: ImageSet, capsys) -> None:
    before = captions_of(mine)
    assert caption.main([str(mine.folder), "--with", "judge", "--prefix", "zibbo"]) == 0
    after = captions_of(mine)
    assert after["0002"] == "a zibbo mascot, yellow background" and after["0016"] == before["0016"]
    output = capsys.readouterr()
    assert output.out.count("\n") == 12 and "0002.png: a zibbo mascot, yellow background" in output.out
    assert "12 captions written; 4 pictures left as they were." in output.err
    act = mine.undo()
    assert act is not None and act.count == 12 and captions_of(mine) == before


def test_the_command_replaces_only_when_told_to_and_puts_the_trigger_in_front(mine: ImageSet) -> None:
    assert caption.main([str(mine.folder), "--with", "judge", "--prefix", "robby", "--overwrite"]) == 0
    assert all(text.startswith("robby, ") for text in captions_of(mine).values())
    assert caption.main([str(mine.folder), "--with", "judge"]) == 0
    assert all(text.startswith("robby, ") for text in captions_of(mine).values())


def test_a_caption_typed_meanwhile_stays_and_outlives_the_undo(mine: ImageSet) -> None:
    seen = {"0001": "", "0002": "", "0003": ""}
    mine.set_caption("0002", "typed by hand")
    token, ids = mine.fill({"0001": "one", "0002": "two"}, seen)
    assert ids == ["0001"] and captions_of(mine)["0002"] == "typed by hand"
    more, ids = mine.fill({"0003": "three"}, seen, token)
    assert (more, ids) == (token, ["0003"])
    mine.set_caption("0003", "three, and better")
    act = mine.undo(token)
    assert act is not None and act.count == 1
    assert [captions_of(mine)[id_] for id_ in ("0001", "0002", "0003")] == ["", "typed by hand", "three, and better"]
    assert mine.fill({"0001": "  "}, {"0001": ""}) == (None, [])


def test_a_job_in_its_own_process_writes_as_it_goes_and_asks_again_for_another(mine: ImageSet, home: Home) -> None:
    captions = Captioning(home)
    job = captions.start(mine, "judge", ["0001", "0002"], prefix="robby")
    with pytest.raises(Problem, match="already"):
        captions.start(mine, "judge", ["0003"])
    job.wait(60)
    assert (job.state, job.looked, job.of) == ("done", 2, 2)
    assert job.written == {id_: captions_of(mine)[id_] for id_ in ("0001", "0002")}
    assert captions_of(mine)["0001"] == "robby, a zibbo mascot, white background" and captions_of(mine)["0003"] == ""
    again = captions.start(mine, "judge", ["0001"], again=True)
    again.wait(60)
    assert again.state == "done" and "mascot" not in captions_of(mine)["0001"]
    mine.undo()
    assert captions_of(mine)["0001"] == "robby, a zibbo mascot, white background"
    captions.close()


def test_a_job_that_fails_says_why_and_one_cancelled_leaves_the_rest(mine: ImageSet, home: Home, tmp_path: Path) -> None:
    captions = Captioning(home)
    empty = tmp_path / "empty"
    empty.mkdir()
    job = captions.start(mine, str(empty), ["0001"])
    job.wait(60)
    assert job.state == "failed" and job.problem is not None and job.problem.code == "captioner_unknown"
    job = captions.start(mine, "judge", list(captions_of(mine)))
    job.cancel()
    job.wait(20)
    assert job.state == "cancelled" and not job.written and captions.of(mine) is job
    assert sum(not text for text in captions_of(mine).values()) == 12
    captions.close()
