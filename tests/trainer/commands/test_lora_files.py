"""export, merge, resize, extract and bake as a person types them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.lora_files import factors, raw
from trainer.__main__ import main
from trainer.adapters import file as lora_file
from trainer.adapters.export import export
from trainer.bases import catalog
from trainer.core.home import Home
from trainer.core.texts import set_language


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    set_language("en")
    layers = catalog.layers(catalog.find(Home.find(tmp_path), "mini"))
    bare = lora_file.write(tmp_path / "bare.safetensors", factors(layers, 2), {"ss_output_name": "fox"}, "fp16")
    return export(bare, "kohya", tmp_path / "fox.safetensors")


def test_the_five_commands_make_files_and_print_their_names(lora: Path, tmp_path: Path, capsys) -> None:
    converted = tmp_path / "there.safetensors"
    for argv in (
        ["export", str(lora), "--to", "diffusers", "--out", str(converted)],
        ["export", str(converted), "--to", "kohya", "--out", str(tmp_path / "back.safetensors")],
        ["merge", f"{lora}:0.5:0.2", str(lora), "--out", str(tmp_path / "both.safetensors")],
        ["resize", str(lora), "--rank", "1", "--out", str(tmp_path / "small.safetensors")],
        ["bake", "mini", str(lora), "--out", str(tmp_path / "models" / "foxy")],
        ["extract", "mini", str(tmp_path / "models" / "foxy"), "--rank", "2", "--out", str(tmp_path / "again.safetensors")],
    ):
        (tmp_path / "models").mkdir(exist_ok=True)
        assert main([*argv, "--home", str(tmp_path)]) == 0, argv
        output = capsys.readouterr()
        assert output.out.strip() == argv[argv.index("--out") + 1]
        assert re.search(r"\b([1-9]\d*) of \1 layers", output.err), output.err  # how much was read, in every tool
    assert (tmp_path / "back.safetensors").read_bytes() == lora.read_bytes()
    assert {layer.rank for layer in lora_file.normalise(tmp_path / "both.safetensors").modules.values()} == {4}
    assert len(lora_file.normalise(tmp_path / "again.safetensors").modules) == len(lora_file.normalise(lora).modules)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["export", "FOX", "--to", "onnx", "--out", "x.safetensors"], "onnx is no layout"),
        (["export", "FOX", "--to", "kohya", "--out", "FOX"], "is there already"),
        (["merge", "FOX", "--out", "x.safetensors"], "at least two"),
        (["resize", "FOX", "--out", "x.safetensors"], "how small"),
        (["resize", "nowhere", "--rank", "2", "--out", "x.safetensors"], "nowhere"),
        (["bake", "mini", "FOX", "--out", "FOLDER"], "is there already"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(lora: Path, tmp_path: Path, capsys, argv: list[str], sentence: str) -> None:
    named = {"FOX": str(lora), "FOLDER": str(tmp_path), "x.safetensors": str(tmp_path / "x.safetensors")}
    assert main([*(named.get(word, word) for word in argv), "--home", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert sentence in output.err and output.err.count("\n") == 1 and not output.out
    assert not (tmp_path / "x.safetensors").exists()


def test_a_file_mostly_unknown_is_refused_with_names_unless_asked(lora: Path, tmp_path: Path, capsys) -> None:
    named = {"lora_unet_": "unet.elsewhere."}
    tensors = lora_file.read_tensors(lora)
    strange = {next((new + key.removeprefix(old) for old, new in named.items() if key.startswith(old)), key): array
               for key, array in tensors.items()}  # fmt: skip
    path = raw(tmp_path / "half.safetensors", strange)
    (tmp_path / "models").mkdir()
    known_layers = len([place for place in lora_file.normalise(lora).modules if place[0] != "unet"])
    total = len(lora_file.normalise(lora).modules)
    for argv in (
        ["export", str(path), "--to", "kohya", "--out", str(tmp_path / "e.safetensors")],
        ["merge", str(path), str(lora), "--rank", "2", "--out", str(tmp_path / "m.safetensors")],
        ["resize", str(path), "--rank", "1", "--out", str(tmp_path / "r.safetensors")],
        ["bake", "mini", str(path), "--out", str(tmp_path / "models" / "b")],
        ["sample", str(path), "--base", "mini", "--steps", "2", "--out", str(tmp_path / "pictures")],
    ):
        out = Path(argv[argv.index("--out") + 1])
        assert main([*argv, "--home", str(tmp_path)]) == 2, argv
        output = capsys.readouterr().err
        assert f"Only {known_layers} of {total} layers of half" in output
        assert "unet.elsewhere." in output and "--partial" in output
        assert not out.exists()
        assert main([*argv, "--partial", "--home", str(tmp_path)]) == 0, argv
        output = capsys.readouterr().err
        assert f"half: {known_layers} of {total} layers" in output and "unet.elsewhere." in output and out.exists()


def test_a_bake_that_changes_nothing_is_refused_and_leaves_nothing(lora: Path, tmp_path: Path, capsys) -> None:
    still = {place: (down, up * 0, alpha) for place, (down, up, alpha) in _factors(lora).items()}
    path = lora_file.write(tmp_path / "still.safetensors", still, {}, "fp16")
    (tmp_path / "models").mkdir()
    for argv in ([str(path)], [f"{lora}:0"]):
        assert main(["bake", "mini", *argv, "--out", str(tmp_path / "models" / "b"), "--home", str(tmp_path)]) == 2
        assert capsys.readouterr().err.strip()
        assert not list((tmp_path / "models").iterdir())


def _factors(path: Path) -> dict:
    return {place: (np.asarray(layer.down), np.asarray(layer.up), layer.alpha)
            for place, layer in lora_file.normalise(path).modules.items()}  # fmt: skip
