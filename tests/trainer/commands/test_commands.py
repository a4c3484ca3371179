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

from trainer.adapters import file as lora_file
from trainer.adapters.fold import LoraStrength
from trainer.bases import catalog
from trainer.commands.sample import lora_use, read_strengths
from trainer.commands.sample import main as sample
from trainer.commands.train import from_tree, trials
from trainer.commands.train import main as train
from trainer.config import load
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.images.report.check import main as check
from trainer.images.set import subsets


def trainer(home: Path, *argv: str, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ATELIER_HOME": str(home), "ATELIER_LANG": "en"}
    return subprocess.run(
        [sys.executable, "-m", "trainer", *argv],
        cwd=PROJECT,
        env=environment,
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


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
    argv = ("--prompt", result["prompts"][0], "--seed", "7", "--steps", "4", "--out", str(again))
    use = f"{out / 'lora.safetensors'}:0.5:0.25"
    assert trainer(tmp_path / "home", "sample", use, *argv, "--strengths", "0,1").returncode == 0
    assert trainer(tmp_path / "home", "sample", *argv).returncode == 0
    pictures = {p.name: np.asarray(Image.open(p)) for p in again.iterdir()}
    assert set(pictures) == {"p0_s0.00.png", "p0_s1.00.png", "p0_base.png"}
    assert np.array_equal(pictures["p0_s0.00.png"], pictures["p0_base.png"])
    assert not np.array_equal(pictures["p0_s1.00.png"], pictures["p0_base.png"])


@pytest.mark.slow
def test_train_makes_a_lora_from_a_folder_one_for_each_value_of_a_sweep(tmp_path):
    home = tmp_path / "home"
    done = trainer(
        home,
        "train",
        "--images",
        str(PROJECT / "datasets" / "example-style"),
        "--name",
        "tuschе",
        "--rights",
        "run.steps=3",
        "samples.steps=1",
        "--sweep",
        "lora.rank=4,2",
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Training 1 of 2: tuschе rank 4" in done.stdout and "Training 2 of 2: tuschе rank 2" in done.stdout
    file, other = sorted((home / "outputs" / "loras").glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    assert json.loads(trainer(home, "inspect", str(other), "--json").stdout)["rank"] == 2
    inspected = json.loads(trainer(home, "inspect", str(file), "--json").stdout)
    assert inspected["rank"] == 4 and inspected["trigger"] == "inkstamp style"
    layers = [key for key in catalog.layers(catalog.find(Home.find(home), "mini")) if key[0] == "text_encoder"]
    assert inspected["modules"]["text_encoder"] == len(layers) and inspected["modules"]["text_encoder_2"] == 0


def kohya_project(folder: Path) -> Path:
    for name, colour in (("img/10_sks girl/1.png", "red"), ("img/10_sks girl/2.png", "blue"), ("reg/1_girl/0.png", "green")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(folder / name)
    (folder / "img/10_sks girl/1.txt").write_text("sks girl")
    return folder


def test_a_kohya_project_is_trained_as_it_is_meant(tmp_path, capsys):
    tree = from_tree(kohya_project(tmp_path / "proj"))
    assert load.get(tree, "images.subsets") == ["img/10_sks girl = 1"]
    assert load.get(tree, "preservation.regularization_folder") == str(tmp_path / "proj/reg/1_girl")
    assert load.get(tree, "preservation.caption") == "girl"
    output = capsys.readouterr().err
    assert "10 times" in output and "1_girl" in output and "preservation.regularization_folder" in output
    config = load.build(load.preset("style"), tree, {"images": {"folder": str(tmp_path / "proj")}})
    assert [(p.caption, p.repeats) for p in subsets.pictures(config.images)] == [("sks girl", 10), ("", 10)]


@pytest.mark.slow
def test_train_takes_the_folder_above_those_called_10_name(tmp_path):
    done = trainer(
        tmp_path / "home",
        "train",
        "--images",
        str(kohya_project(tmp_path / "proj")),
        "--name",
        "girl",
        "--rights",
        "run.steps=2",
        "samples.steps=1",
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_check_takes_a_home_and_a_set_of_it_and_the_folders_of_a_project(tmp_path):
    home = tmp_path / "home"
    kohya_project(home / "datasets" / "proj")
    done = trainer(tmp_path / "other", "check", "proj", "--home", str(home), "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["pictures"] == 2, done.stderr
    assert "regularization images" in done.stderr
    assert trainer(home, "check", str(home / "datasets" / "proj"), "--json").returncode == 0


def test_captions_from_file_names_by_choice(tmp_path):
    for name in ("red_fox (2).png", "IMG_0001.png"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / name)
    done = trainer(tmp_path / "home", "caption", str(tmp_path), "--from-names", "--prefix", "xq")
    assert done.returncode == 0 and (tmp_path / "red_fox (2).txt").read_text() == "xq, red fox\n"
    assert not (tmp_path / "IMG_0001.txt").exists() and "IMG_0001.png" in done.stderr


def test_two_sweeps_are_every_pair_and_none_is_one_training():
    assert trials([]) == [("", [])]
    assert trials(["optimizer.lr=1e-4, 3e-4", "lora.rank=4,8"]) == [
        (f" lr {rate} rank {rank}", [f"optimizer.lr={rate}", f"lora.rank={rank}"])
        for rate in ("1e-4", "3e-4")
        for rank in (4, 8)
    ]


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (("fly",), "no command fly"),
        (("sample", "nowhere.safetensors", "--prompt", "x", "--out", "o"), "nowhere.safetensors"),
        (("sample", "--prompt", "x"), "--out"),
        (("train", "--name", "x", "lora.rank=0"), "lora.rank"),
        (("train", "--name", "x", "--sweep", "optimizer.lr=1e-4"), "no choice of values"),
        (("train", "--name", "x", "--sweep", "lora.rank=4,0"), "lora.rank"),
        (("train", "--name", "x", "--images", "/nowhere"), "/nowhere"),
        (("train", "--preset", "hat"), "hat"),
        (("sample", "--prompt", "a <lora:ikn:0.8> fox", "--out", "o"), "ikn"),
        (("sample", "--prompt", "x", "--steps", "0", "--out", "o"), "steps"),
        (("train", "--name", "x", "--base", "http://evil"), ""),
        (("inspect", "/nowhere.safetensors"), "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(tmp_path, argv, part):
    done = trainer(tmp_path, *argv)
    assert done.returncode == 2 and part in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) <= 3


def test_a_lora_of_another_family_or_a_pickle_is_refused_before_the_base_is_loaded(tmp_path, monkeypatch):
    from trainer.engine.inference.sampling import ImageSampler

    monkeypatch.setattr(ImageSampler, "load", lambda *_: pytest.fail("the base was loaded"))
    place = ("text_encoder_2", "encoder.layers.0.self_attn.q_proj")
    layer = (np.ones((4, 1280), np.float32), np.ones((1280, 4), np.float32), 4.0)
    file = lora_file.write(tmp_path / "xl.safetensors", {place: layer}, {}, family="sdxl")
    argv = ["--prompt", "x", "--out", str(tmp_path / "o"), "--home", str(tmp_path)]
    with pytest.raises(Problem) as caught:
        sample([str(file), *argv])
    assert caught.value.code == "lora_other_family" and "Stable Diffusion XL" in caught.value.sentence("en")
    pickled = tmp_path / "old.pt"
    pickled.write_bytes(b"\x80\x02")
    with pytest.raises(Problem) as caught:
        sample([str(pickled), *argv])
    assert caught.value.code == "lora_pickle" and not (tmp_path / "o").exists()


def _lora(home: Home, name: str) -> Path:
    """A LoRA of one layer of the embedded base, in the library."""
    place = ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    rows, columns = catalog.layers(catalog.find(home, "mini"))[place].shape[:2]
    layer = (np.ones((1, columns), np.float32), np.ones((rows, 1), np.float32), 1.0)
    return lora_file.write(home.create().loras / f"{name}.safetensors", {place: layer}, {}, family="sd1")


def test_a_prompt_names_its_lora_and_says_how_it_is_drawn(tmp_path, capsys):
    home = Home(tmp_path / "home")
    _lora(home, "foo:1")
    line = "a fox <lora:foo:1:0.5> --n red --s 1 --w 64 --h 72 --d 0"
    argv = ["--home", str(home.root), "--out", str(tmp_path / "o"), "--steps", "2", "--width", "64", "--height", "64"]
    assert sample(["--prompt", line, "--prompt", "a fox", "--guidance", "0", "--seed", "3", *argv]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.split()]
    assert names == ["p0_s1.00.png", "p1_base.png"]
    written, parameters = [], ""
    for name in names:
        with Image.open(tmp_path / "o" / name) as picture:
            written.append(json.loads(picture.info["atelier"]))
            parameters += picture.info["parameters"]
    keys = ("prompt", "negative", "steps", "width", "height", "seed", "guidance", "loras")
    assert [tuple(data[key] for key in keys) for data in written] == [
        ("a fox", "red", 1, 64, 72, 0, 0.0, [{"name": "foo:1", "unet": 0.5, "text_encoder": 0.5}]),
        ("a fox", "", 2, 64, 64, 3, 0.0, []),
    ]
    assert parameters.count("CFG scale: 0,") == 2


@pytest.mark.parametrize(
    ("argv", "code", "part"),
    [
        (("--prompt", "a <lora:inc:0.8> fox"), "lora_no_such_near", "ink"),
        (("--prompt", "<lora:zzz> fox"), "lora_no_such", "zzz"),
        (("--prompt", "a <lora:ink:2:0.8> fox"), "prompt_tag", "<lora:ink:2:0.8>"),
        (("inc:0.8", "--prompt", "x"), "lora_no_such_near", "ink"),
        (("--prompt", "a <lora:ink:much> fox"), "prompt_tag", "much"),
        (("--prompt", "x --ar 16:9"), "prompt_switch", "--ar"),
        (("--prompt", "x", "--steps", "0"), "steps_range", "0"),
        (("--prompt", "x", "--guidance", "nan"), "guidance_range", "nan"),
        (("--prompt", "x", "--guidance", "-1"), "guidance_range", "-1"),
        (("--prompt", "x", "--seed", "-1"), "seed_range", "-1"),
        (("--prompt", "x", "--height", "0"), "size_bad", "64"),
        (("--prompt", "x", "--base", ""), "option_empty", ""),
        (("--prompt", "x", "--strengths", ""), "strength_range", ""),
        (("ink:nan", "--prompt", "x"), "strength_range", "nan"),
    ],
)
def test_what_cannot_be_drawn_as_asked_is_one_sentence_before_anything_is_loaded(tmp_path, monkeypatch, argv, code, part):
    from trainer.engine.inference.sampling import ImageSampler

    monkeypatch.setattr(ImageSampler, "load", lambda *_: pytest.fail("the base was loaded"))
    home = Home(tmp_path / "home")
    for name in ("ink", "ink:2"):
        _lora(home, name)
    with pytest.raises(Problem) as caught:
        sample([*argv, "--out", str(tmp_path / "o"), "--home", str(home.root)])
    assert caught.value.code == code and part in caught.value.sentence("en") and part in caught.value.sentence("ja")


def test_a_file_named_with_a_colon_and_a_number_is_that_file(tmp_path):
    home = Home(tmp_path / "home")
    colon = _lora(home, "foo:1")
    for word, strength in (("foo:1", 1.0), ("foo:1:0.8", 0.8), (f"{colon}", 1.0), (f"{colon}:0", 0.0)):
        assert lora_use(word, home) == LoraStrength(colon, strength, strength)
    plain = _lora(home, "foo")
    assert lora_use("foo:1", home).path == colon and lora_use("foo:0.5", home) == LoraStrength(plain, 0.5, 0.5)


@pytest.mark.parametrize(
    ("argv", "code", "field"),
    [
        (("--base", ""), "option_empty", "base"),
        (("--images", ""), "option_empty", "images"),
        (("--run", ""), "option_empty", "run"),
        (("--preset", ""), "option_empty", "preset"),
        (("--run", "."), "file_missing", None),
        (("--base", "~no-such-account/x"), "base_missing", "model.base"),
        (("model.base=",), "base_missing", "model.base"),
    ],
)
def test_a_value_that_is_empty_or_nowhere_is_never_taken_for_none_given(tmp_path, argv, code, field):
    with pytest.raises(Problem) as caught:
        images = PROJECT / "datasets" / "example-style"
        train(["--name", "x", "--rights", "--home", str(tmp_path), "--images", str(images), *argv])
    assert (caught.value.code, caught.value.field) == (code, field)
    assert not list((tmp_path / "outputs" / "runs").glob("*"))


@pytest.mark.parametrize("size", ["0", "-5", "1000000"])
def test_a_training_size_that_is_none_is_a_sentence(capsys, size):
    assert check([str(PROJECT / "datasets" / "example-style"), "--resolution", size]) == 2
    assert "2048" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "code"), [({"rank": 0}, "rank_range"), ({"energy": 0.0}, "energy_range")])
def test_no_rank_and_no_energy_are_values_not_silence(tmp_path, options, code):
    from trainer.adapters.tools.extract import extract

    base = catalog.find(Home(tmp_path), "mini")
    with pytest.raises(Problem) as caught:
        extract(base, base, tmp_path / "x.safetensors", **options)
    assert caught.value.code == code


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
