"""A finished LoRA reaches the library once and whole, wherever its trainer is killed while it is put there."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from tests.chaos.kill_points import killed_at
from trainer.adapters import embedding
from trainer.adapters import file as lora_file
from trainer.core import files
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.formats.header import read_header
from trainer.library.library import Library
from trainer.library.publication import Publication

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a forked child is killed")


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def run(home) -> RunDir:
    """A run whose test pictures of steps 0 and 10 are there."""
    made = RunDir(home.runs / "20261130-101010-abcdef")
    made.samples.mkdir(parents=True)
    for step, colour in ((0, (0, 0, 0)), (10, (200, 30, 40)), (30, (9, 9, 9))):
        Image.new("RGB", (16, 16), colour).save(made.sample(step, 0))
    return made


def writer(run, step, word=None):
    """Writes a small LoRA of that step, as the engine hands it to `publish`."""
    tensors = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight": np.ones((2, 8), np.float32),
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight": np.ones((8, 2), np.float32),
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.alpha": np.float32(2),
    }

    def write(path, stem):
        metadata = {
            "ss_steps": str(step),
            "atelier.run": json.dumps({"id": run.id}),
            "atelier.version": "1",
            "ss_output_name": stem,
        }
        if word:
            metadata |= embedding.to_metadata(embedding.Embedding(word, {"text_encoder": np.ones((2, 4), np.float32)}))
        lora_file.write_tensors(path, tensors, metadata)

    return write


def seen(home):
    """What a person finds in the library: (names of LoRAs, of words), each LoRA with its card and its picture."""
    loras = sorted(path.stem for path in home.loras.glob("*.safetensors"))
    for stem in loras:
        assert read_header(home.loras / f"{stem}.safetensors").tensors
        assert files.read_json(home.loras / f"{stem}.json")["atelier"]["state"] == "trying"
        with Image.open(home.loras / f"{stem}.png") as picture:
            assert picture.getpixel((0, 0)) == (200, 30, 40)
    for folder in (home.loras, home.loras / "embeddings"):
        files.sweep_temporaries(folder, older=-1)
    names = {path.name for path in home.loras.iterdir()} - {"embeddings"}
    assert names == {f"{stem}{end}" for stem in loras for end in (".safetensors", ".json", ".png")}
    return loras, sorted(path.name for path in (home.loras / "embeddings").glob("*"))


@pytest.mark.parametrize("who", ["going on", "the supervisor"])
def test_killed_anywhere_while_publishing_it_is_there_once_with_card_and_picture(home, run, who):
    write, at = writer(run, 10, "myword"), 0
    while True:
        at += 1
        killed = killed_at(at, [str(home.root)], lambda: Publication(run, home.loras).publish(10, "red", write))
        if who == "the supervisor":
            before = sorted(home.loras.glob("*.safetensors"))
            Publication(run, home.loras).complete()
            assert sorted(home.loras.glob("*.safetensors")) == before
            if before:
                assert (before[0].with_suffix(".json").exists(), before[0].with_suffix(".png").exists()) == (True, True)
        file = Publication(run, home.loras).publish(10, "red", write)
        assert (file.name, seen(home)) == ("red.safetensors", (["red"], ["myword.safetensors"]))
        if not killed:
            break
        for path in [*home.loras.glob("*.*"), *(home.loras / "embeddings").glob("*"), run.published]:
            path.unlink(missing_ok=True)
    assert at > 12


def test_each_stop_and_the_end_are_files_of_their_own(home, run):
    publication = Publication(run, home.loras)
    names = [publication.publish(step, "red", writer(run, step)).stem for step in (10, 10, 20, 10, 20)]
    assert names == ["red", "red", "red_v2", "red", "red_v2"] and seen(home)[0] == ["red", "red_v2"]
    assert read_header(home.loras / "red_v2.safetensors").metadata["ss_output_name"] == "red_v2"


def test_a_name_another_training_took_meanwhile_stays_theirs(home, run):
    files.write_json(run.published, {"10": {"lora": "red", "whole": False}})  # decided, and then killed
    other = RunDir(home.runs / "other")
    other.samples.mkdir(parents=True)
    Image.new("RGB", (16, 16), (200, 30, 40)).save(other.sample(10, 0))
    first = Publication(other, home.loras).publish(10, "red", writer(other, 10))
    before = first.read_bytes()
    second = Publication(run, home.loras).publish(10, "red", writer(run, 10))
    assert (first.stem, second.stem, first.read_bytes()) == ("red", "red_v2", before)


def test_a_name_taken_in_the_very_moment_is_not_overwritten(home, run):
    write = writer(run, 10)

    def slow(path, stem):
        write(path, stem)
        if not (home.loras / "red.safetensors").exists():
            (home.loras / "red.safetensors").write_bytes(b"somebody's")

    file = Publication(run, home.loras).publish(10, "red", slow)
    assert file.name == "red_v2.safetensors" and (home.loras / "red.safetensors").read_bytes() == b"somebody's"


def test_one_renamed_in_the_library_before_the_run_ended_is_not_published_again(home, run):
    file = Publication(run, home.loras).publish(10, "red", writer(run, 10))
    Library(home).rename(file.stem, "my red")
    again = Publication(run, home.loras).publish(10, "red", writer(run, 10))
    assert again.stem == "my_red" and seen(home)[0] == ["my_red"]


def test_one_an_earlier_version_published_without_card_gets_it(home, run):
    writer(run, 10)(home.loras / "red.safetensors", "red")
    assert Publication(run, home.loras).publish(10, "red", writer(run, 10)).stem == "red"
    assert seen(home) == (["red"], [])


def test_one_thrown_away_is_published_anew_with_its_card(home, run):
    publication = Publication(run, home.loras)
    publication.publish(10, "red", writer(run, 10))
    Library(home).trash("red")
    assert publication.publish(10, "red", writer(run, 10)).stem == "red" and seen(home)[0] == ["red"]
