"""The `inspect` command: its JSON is a contract, its text is for people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.lora_files import factors, facts, raw
from trainer.__main__ import main
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.adapters.compat.inspect import inspect
from trainer.config.train import TrainConfig


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    config = TrainConfig.model_validate({"captions": {"trigger": "inkfox"}, "rights": {"licence": "CC-BY-4.0"}})
    said = metadata.build(
        config,
        facts(),
        steps=1,
        total_steps=1,
        items=[("inkfox", (512, 512), 1)],
        loss=None,
        started=1e9,
        finished=1e9,
        name="Ink fox",
        run_id="r",
    )
    return lora_file.write(tmp_path / "Ink_fox.safetensors", factors(), said)


def test_the_json_keeps_the_contract(ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(ours), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {
        "family": "sd1",
        "kind": "lora",
        "rank": 4,
        "alpha": 2.0,
        "trigger": "inkfox",
        "base": "sd15",
        "licence": "CC-BY-4.0",
        "modules": {"unet": 128, "text_encoder": 48, "text_encoder_2": 0},
    }.items() <= told.items()
    assert set(told["programs"]) == {"a1111", "forge", "comfyui", "invokeai", "diffusers"}
    for verdict in told["programs"].values():
        assert set(verdict) == {"loads", "matched", "total", "why", "answer"} and verdict["answer"] == "yes"
        assert verdict["loads"] is True and verdict["matched"] == verdict["total"] == 176


@pytest.mark.parametrize(("language", "word"), [("en", "Loads completely."), ("ja", "すべて読み込めます。")])
def test_people_read_it_in_their_language(ours: Path, capsys: pytest.CaptureFixture[str], language: str, word: str) -> None:
    assert main(["inspect", str(ours), "--lang", language]) == 0
    told = capsys.readouterr().out
    assert told.count(word) == 5 and "4 / 2.0" in told and "inkfox" in told
    main(["inspect", str(ours), "--lang", "en"])


def test_a_file_from_elsewhere(tmp_path: Path) -> None:
    tensors = {
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": np.ones((8, 768), np.float32),
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight": np.ones((1280, 8), np.float32),
        "stray": np.ones(3, np.float32),
    }
    said = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "unet.r": 8})}
    found = inspect(raw(tmp_path / "a.safetensors", tensors, said))
    assert (found.format.layout, found.rank, found.alpha, found.unknown) == ("diffusers", 8, 4.0, 1)
    assert found.modules == {"unet": 1, "text_encoder": 0, "text_encoder_2": 0} and found.trigger == ""


def test_words_of_a_file_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"modelspec.trigger_phrase": "\x1b]0;owned\x07<img onerror=1>" + "x" * 9_000, "modelspec.license": "a\nb"}
    path = raw(tmp_path / "a.safetensors", {k: np.asarray(v) for k, v in lora_file.kohya_tensors(factors()).items()}, said)
    assert main(["inspect", str(path)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told and "\x07" not in told and "a\nb" not in told
    assert max(map(len, told.splitlines())) < 500
    assert main(["inspect", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trigger"]) == 4096


@pytest.mark.parametrize("words", [[], ["--json"], ["a", "b"], ["gone.safetensors"], ["lora.pt"]])
def test_mistakes_are_one_sentence_and_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *words, "--lang", "en"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.strip().splitlines()) == 1 and said.err.strip().endswith((".", "]"))
