"""A training goes on with the base and the pictures it learnt from, or says what is another one; nothing by itself."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.config import load
from trainer.core import files
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.core.texts import t
from trainer.formats.header import read_header
from trainer.images import provenance
from trainer.images.provenance import Sources
from trainer.images.set.image_set import ImageSet


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home_ = Home(tmp_path / "home").create()
    folder = home_.datasets / "set"
    folder.mkdir()
    for number in range(1, 5):
        picture(folder / f"{number:04d}.png", number)
        (folder / f"{number:04d}.txt").write_text(f"blob {number}\n", "utf-8")
    base = home_.models / "own"
    shutil.copytree(PROJECT / "models" / "mini", base, ignore=shutil.ignore_patterns("*.safetensors", "*.png", "judge"))
    for part in ("unet", "text_encoder", "vae"):
        name = next((PROJECT / "models" / "mini" / part).glob("*.safetensors")).name
        shutil.copy(PROJECT / "models" / "mini" / part / name, base / part / name)
    return home_


def picture(file: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(file)


def sources(home: Home, **sections: dict) -> Sources:
    tree = {"model": {"base": "own"}, "images": {"folder": str(home.datasets / "set")}}
    return Sources(load.build(load.merge(tree, sections)), home)


def changes(home: Home, kept: provenance.Kept) -> dict[str, str]:
    """{kind: names} of what changed since `kept`."""
    return {
        key.partition(".")[2]: params["names"]
        for key, params in provenance.set_changes(kept["pictures"], sources(home).pictures)
    }


@pytest.fixture
def kept(home: Home) -> provenance.Kept:
    return json.loads(json.dumps(sources(home).kept()))  # as a manifest holds it


def test_what_stayed_the_same_goes_on_also_moved_copied_and_touched(home, kept, tmp_path):
    run = RunDir(home.runs / "x")
    assert provenance.check(run, kept, sources(home)) == []
    unet = next((home.models / "own" / "unet").glob("*.safetensors"))
    os.utime(unet, ns=(1, 1))
    for file in (home.datasets / "set").iterdir():
        os.utime(file, ns=(1, 1))
    assert provenance.check(run, kept, sources(home)) == []
    moved = shutil.move(home.root, tmp_path / "elsewhere")
    assert provenance.check(run, kept, sources(Home(Path(moved)))) == []


def test_a_whole_file_is_read_only_where_its_time_is_another(home, kept, monkeypatch):
    read = []
    monkeypatch.setattr(provenance, "hashes_of", lambda path: read.append(path.parent.name) or ("", "another"))
    assert provenance.base_changes(kept["base"], sources(home)) == [] and read == []
    unet = next((home.models / "own" / "unet").glob("*.safetensors"))
    os.utime(unet, ns=(1, 1))
    assert provenance.base_changes(kept["base"], sources(home)) == [f"unet/{unet.name}"] and read == ["unet"]


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_other_weights_of_the_same_size_and_time_are_another_base(home, kept, part):
    file = next((home.models / "own" / part).glob("*.safetensors"))
    status, data = file.stat(), bytearray(file.read_bytes())
    start = read_header(file).offset
    data[start:] = data[start:][::-1]
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Problem) as refused:
        provenance.check(RunDir(home.runs / "x"), kept, sources(home))
    assert refused.value.code == "resume_base_changed"
    for language in ("en", "ja"):
        assert f"{part}/{file.name}" in refused.value.sentence(language)


def test_one_changed_number_in_a_file_with_a_new_time_is_another_base(home, kept):
    file = next((home.models / "own" / "unet").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-100_001] ^= 1  # between the samples
    file.write_bytes(data)
    assert provenance.base_changes(kept["base"], sources(home)) == [f"unet/{file.name}"]


def test_another_schedule_of_the_base_is_another_base_and_another_program_version_is_not(home, kept):
    file = home.models / "own" / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(config | {"_diffusers_version": "9.9"}), "utf-8")
    assert provenance.base_changes(kept["base"], sources(home)) == []
    file.write_text(json.dumps(config | {"beta_end": 0.02}), "utf-8")
    assert provenance.base_changes(kept["base"], sources(home)) == ["scheduler/scheduler_config.json"]


def test_each_change_of_the_set_is_named_by_its_kind(home, kept):
    folder = home.datasets / "set"
    named = ImageSet(folder)
    named.delete(["0001"])
    picture(folder / "0009.png", 9)
    named.set_caption("0002", "another caption")
    picture(folder / "0003.png", 33)
    named.set_picture("0004", weight=0.5)
    Image.new("L", (64, 64), 255).save(folder / "0004.mask.png")
    assert changes(home, kept) == {
        "gone": "0001.png",
        "added": "0009.png",
        "captions": "0002.png",
        "changed": "0003.png",
        "uses": "0004.png",
        "masks": "0004.png",
    }


def test_a_renamed_picture_is_neither_gone_nor_new(home, kept):
    folder = home.datasets / "set"
    for ending in (".png", ".txt"):
        os.rename(folder / f"0002{ending}", folder / f"0007{ending}")
    assert changes(home, kept) == {"renamed": "0002.png"}
    shutil.copy(folder / "0007.png", folder / "0008.png")  # the same picture twice: one of them is new
    assert changes(home, kept)["renamed"] == "0002.png" and "added" in changes(home, kept)


def test_further_folders_and_class_pictures_belong_to_it(home):
    more, own = home.datasets / "more", {"images": {"subsets": ["more = 0.5"]}}
    more.mkdir()
    picture(more / "0001.png", 50)
    before = sources(home, **own).kept()["pictures"]
    assert "more/0001.png" in before
    kept_too = sources(home, preservation={"regularization_folder": str(more)}).pictures
    assert set(kept_too) == set(before)
    picture(more / "0001.png", 51)
    ((key, params),) = provenance.set_changes(before, sources(home, **own).pictures)
    assert (key, params["names"]) == ("set_changes.changed", "more/0001.png")


def test_a_change_goes_on_only_as_far_as_somebody_agreed(home, kept):
    run = RunDir(home.runs / "x")
    run.path.mkdir()
    ImageSet(home.datasets / "set").delete(["0001", "0002"])
    with pytest.raises(Problem) as caught:
        provenance.check(run, kept, sources(home))
    assert caught.value.code == "resume_set_changed"
    assert "0001.png, 0002.png (2)" in caught.value.sentence("en") and "なくなった画像" in caught.value.sentence("ja")
    provenance.agree(run, sources(home))
    assert len(provenance.check(run, kept, sources(home))) == 1
    ImageSet(home.datasets / "set").delete(["0003"])  # more than was agreed to
    with pytest.raises(Problem):
        provenance.check(run, kept, sources(home))


def test_a_checkpoint_that_does_not_say_what_it_learnt_from_goes_on_as_before(home):
    run = RunDir(home.runs / "x")
    files.write_json(run.checkpoint(4) / "manifest.json", {"step": 4, "files": {}})
    assert provenance.kept_by(run) is None and provenance.check(run, None, sources(home)) == []


def test_a_base_exchanged_while_a_run_holds_it_in_memory_is_not_taken_for_its_own(home):
    run = sources(home)
    run.note()
    file = next((home.models / "own" / "unet").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-8:] = bytes(8)
    file.write_bytes(data)
    kept = run.kept()
    assert "sha256" not in kept["base"][f"unet/{file.name}"]
    assert provenance.base_changes(kept["base"], sources(home)) == [f"unet/{file.name}"]


def test_a_list_of_texts_is_said_in_a_row_in_each_language():
    parts = [["set_changes.gone", {"count": 1, "names": "a"}], ["set_changes.added", {"count": 2, "names": "b, c"}]]
    assert t("notes.set_changed", language="en", changes=parts).count("; ") == 1
    assert "なくなった画像: a (1 枚)、増えた画像: b, c (2 枚)" in t("notes.set_changed", language="ja", changes=parts)
