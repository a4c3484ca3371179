"""The commands as a person types them, in processes of their own: files, names, status, sentences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer import bases
from trainer.adapters import file as lora_file
from trainer.commands.sample import lora_use, read_strengths
from trainer.commands.sample import main as sample
from trainer.commands.train import trials
from trainer.home import PROJECT, Home
from trainer.problem import Problem


def trainer(home: Path, *words: str, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ATELIER_HOME": str(home), "ATELIER_LANG": "en"}
    return subprocess.run([sys.executable, "-m", "trainer", *words], cwd=PROJECT, env=environment, text=True,
                          capture_output=True, timeout=timeout, check=False)


@pytest.mark.slow
def test_demo_leaves_what_it_promises(tmp_path):
    out = tmp_path / "out"
    done = trainer(tmp_path / "home", "demo", "--out", str(out), "run.steps=30", "run.batch_size=2")
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    assert result["base"] == "mini" and result["steps"] == 30 and result["seconds"] > 0
    assert result["strengths"] == [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    difference = [result["mean_abs_diff_to_base"][f"{s:.2f}"] for s in result["strengths"]]
    assert difference[0] == 0 and difference[1] < difference[2] < difference[3] < difference[4]
    for k in range(4):
        for strength in result["strengths"]:
            assert (out / "pictures" / f"p{k}_s{strength:.2f}.png").is_file()
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 7 * 128 and sheet.height > 4 * 128
    again = tmp_path / "again"
    words = ("--prompt", result["prompts"][0], "--seed", "7", "--steps", "4", "--out", str(again))
    use = f"{out / 'lora.safetensors'}:0.5:0.25"
    assert trainer(tmp_path / "home", "sample", use, *words, "--strengths", "0,1").returncode == 0
    assert trainer(tmp_path / "home", "sample", *words).returncode == 0
    pictures = {p.name: np.asarray(Image.open(p)) for p in again.iterdir()}
    assert set(pictures) == {"p0_s0.00.png", "p0_s1.00.png", "p0_base.png"}
    assert np.array_equal(pictures["p0_s0.00.png"], pictures["p0_base.png"])
    assert not np.array_equal(pictures["p0_s1.00.png"], pictures["p0_base.png"])


@pytest.mark.slow
def test_train_makes_a_lora_from_a_folder_one_for_each_value_of_a_sweep(tmp_path):
    home = tmp_path / "home"
    done = trainer(home, "train", "--images", str(PROJECT / "datasets" / "example-style"), "--name", "tuschе", "--rights",
                   "run.steps=3", "samples.steps=1", "--sweep", "lora.rank=4,2")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Training 1 of 2: tuschе rank 4" in done.stdout and "Training 2 of 2: tuschе rank 2" in done.stdout
    file, other = sorted((home / "outputs" / "loras").glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    assert json.loads(trainer(home, "inspect", str(other), "--json").stdout)["rank"] == 2
    inspected = json.loads(trainer(home, "inspect", str(file), "--json").stdout)
    assert inspected["rank"] == 4 and inspected["trigger"] == "inkstamp style"
    layers = [key for key in bases.layers(bases.find(Home.find(home), "mini")) if key[0] == "text_encoder"]
    assert inspected["modules"]["text_encoder"] == len(layers) and inspected["modules"]["text_encoder_2"] == 0


def test_two_sweeps_are_every_pair_and_none_is_one_training():
    assert trials([]) == [("", [])]
    assert trials(["optimizer.lr=1e-4, 3e-4", "lora.rank=4,8"]) == [
        (f" lr {rate} rank {rank}", [f"optimizer.lr={rate}", f"lora.rank={rank}"])
        for rate in ("1e-4", "3e-4") for rank in (4, 8)]


@pytest.mark.parametrize(("words", "part"), [
    (("fly",), "no command fly"), (("sample", "nowhere.safetensors", "--prompt", "x", "--out", "o"), "nowhere.safetensors"),
    (("sample", "--prompt", "x"), "--out"), (("train", "--name", "x", "lora.rank=0"), "lora.rank"),
    (("train", "--name", "x", "--sweep", "optimizer.lr=1e-4"), "no choice of values"),
    (("train", "--name", "x", "--sweep", "lora.rank=4,0"), "lora.rank"),
    (("train", "--name", "x", "--images", "/nowhere"), "/nowhere"), (("train", "--preset", "hat"), "hat"),
    (("train", "--name", "x", "--base", "http://evil"), ""), (("inspect", "/nowhere.safetensors"), "nowhere"),
])
def test_a_mistake_is_one_sentence_and_status_2(tmp_path, words, part):
    done = trainer(tmp_path, *words)
    assert done.returncode == 2 and part in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) <= 3


def test_a_lora_of_another_family_or_a_pickle_is_refused_before_the_base_is_loaded(tmp_path, monkeypatch):
    from trainer.engine.sampling import Studio

    monkeypatch.setattr(Studio, "load", lambda *_: pytest.fail("the base was loaded"))
    place = ("text_encoder_2", "encoder.layers.0.self_attn.q_proj")
    layer = (np.ones((4, 1280), np.float32), np.ones((1280, 4), np.float32), 4.0)
    file = lora_file.write(tmp_path / "xl.safetensors", {place: layer}, {}, family="sdxl")
    words = ["--prompt", "x", "--out", str(tmp_path / "o"), "--home", str(tmp_path)]
    with pytest.raises(Problem) as told:
        sample([str(file), *words])
    assert told.value.code == "lora_other_family" and "Stable Diffusion XL" in told.value.sentence("en")
    pickled = tmp_path / "old.pt"
    pickled.write_bytes(b"\x80\x02")
    with pytest.raises(Problem) as told:
        sample([str(pickled), *words])
    assert told.value.code == "lora_pickle" and not (tmp_path / "o").exists()


def test_a_lora_word_is_split_from_the_right(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"x")
    home = Home(tmp_path)
    for ending, unet, text in (("", 1, 1), (":0.8", 0.8, 0.8), (":0.8:0.3", 0.8, 0.3), (":-1:2", -1, 2)):
        use = lora_use(f"{file}{ending}", home)
        assert (use.path, use.unet, use.text_encoder) == (file, unet, text)
    with pytest.raises(Problem):
        lora_use("C:\\x.safetensors:0.8", home)


def test_strengths_are_read_or_refused():
    assert read_strengths("0, 0.5,1") == (0.0, 0.5, 1.0) and read_strengths(None) is None
    for bad in ("", "a", "0,b"):
        with pytest.raises(Problem):
            read_strengths(bad)
