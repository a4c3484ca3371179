"""export, merge, resize, extract and bake as a person types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.adapters.making import factors
from trainer import bases
from trainer.__main__ import main
from trainer.adapters import file as lora_file
from trainer.home import Home
from trainer.texts import set_language


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    set_language("en")
    layers = bases.layers(bases.find(Home.find(tmp_path), "mini"))
    return lora_file.write(tmp_path / "fox.safetensors", factors(layers, 2), {"ss_output_name": "fox"}, "fp16")


def test_the_five_commands_make_files_and_print_their_names(lora: Path, tmp_path: Path, capsys) -> None:
    there = tmp_path / "there.safetensors"
    for words in (
        ["export", str(lora), "--to", "diffusers", "--out", str(there)],
        ["export", str(there), "--to", "kohya", "--out", str(tmp_path / "back.safetensors")],
        ["merge", f"{lora}:0.5:0.2", str(lora), "--out", str(tmp_path / "both.safetensors")],
        ["resize", str(lora), "--rank", "1", "--out", str(tmp_path / "small.safetensors")],
        ["bake", "mini", str(lora), "--out", str(tmp_path / "models" / "foxy")],
        ["extract", "mini", str(tmp_path / "models" / "foxy"), "--rank", "2", "--out", str(tmp_path / "again.safetensors")],
    ):
        (tmp_path / "models").mkdir(exist_ok=True)
        assert main([*words, "--home", str(tmp_path)]) == 0, words
        assert capsys.readouterr().out.strip() == words[words.index("--out") + 1]
    assert (tmp_path / "back.safetensors").read_bytes() == lora.read_bytes()
    assert {layer.rank for layer in lora_file.normalise(tmp_path / "both.safetensors").modules.values()} == {4}
    assert len(lora_file.normalise(tmp_path / "again.safetensors").modules) == len(lora_file.normalise(lora).modules)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "FOX", "--to", "onnx", "--out", "x.safetensors"], "onnx is no layout"),
        (["export", "FOX", "--to", "kohya", "--out", "FOX"], "is there already"),
        (["merge", "FOX", "--out", "x.safetensors"], "at least two"),
        (["resize", "FOX", "--out", "x.safetensors"], "how small"),
        (["resize", "nowhere", "--rank", "2", "--out", "x.safetensors"], "nowhere"),
        (["bake", "mini", "FOX", "--out", "FOLDER"], "is there already"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(lora: Path, tmp_path: Path, capsys, words: list[str], sentence: str) -> None:
    named = {"FOX": str(lora), "FOLDER": str(tmp_path), "x.safetensors": str(tmp_path / "x.safetensors")}
    assert main([*(named.get(word, word) for word in words), "--home", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "x.safetensors").exists()
