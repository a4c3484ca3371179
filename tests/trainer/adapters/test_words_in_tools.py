"""Token vectors of a word of its own stay with a file that is resized, merged, or made ready for a hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import studio
from tests.helpers.lora_files import factors
from tests.trainer.adapters.test_tools import SMALL
from trainer.adapters import embedding
from trainer.adapters import file as lora_file
from trainer.adapters.embedding import Embedding
from trainer.adapters.fold import LoraStrength
from trainer.adapters.tools.merge import merge, resize
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.formats.header import read_header
from trainer.library import model_card
from trainer.library.library import Library


def word(name: str, seed: int = 0) -> Embedding:
    rows = np.random.default_rng(seed).standard_normal((2, 32)).astype(np.float16).astype(np.float32)
    return Embedding(name, {"text_encoder": rows})


def file(path: Path, own: Embedding | None = None, bundled: bool = False) -> Path:
    tensors = lora_file.kohya_tensors(factors(SMALL, 4, 2.0, ("attention",)))
    tensors |= embedding.to_tensors(own) if own and bundled else {}
    return lora_file.write_tensors(path, tensors, embedding.to_metadata(own) if own else {}, "fp32")


def words(path: Path) -> dict[str, np.ndarray]:
    return {one.name: one.vectors["text_encoder"] for one in embedding.read_embeddings(path)}


@pytest.mark.parametrize("bundled", [False, True])
def test_a_resized_file_keeps_its_word_as_it_was_carried(tmp_path: Path, bundled: bool) -> None:
    own = word("zibbo")
    out = resize(file(tmp_path / "a.safetensors", own, bundled), tmp_path / "small.safetensors", rank=2)
    assert np.array_equal(words(out)["zibbo"], own.vectors["text_encoder"]) and len(words(out)) == 1
    held = [key for key in read_header(out).tensors if key.startswith(embedding.BUNDLE)]
    assert bool(held) == bundled and embedding.from_metadata(read_header(out))[0].name == "zibbo"
    assert len(lora_file.normalise(out).modules) == len(factors(SMALL, 4, 2.0, ("attention",)))


def test_a_merged_file_brings_every_word_along_and_refuses_one_with_two_meanings(tmp_path: Path) -> None:
    one, two = (file(tmp_path / f"{name}.safetensors", word(name, seed)) for seed, name in enumerate(("zibbo", "robby")))
    plain = file(tmp_path / "plain.safetensors")
    both = merge([LoraStrength(one), LoraStrength(two)], tmp_path / "both.safetensors")
    assert {name: rows[0, 0] for name, rows in words(both).items()} == {
        name: word(name, seed).vectors["text_encoder"][0, 0] for seed, name in enumerate(("zibbo", "robby"))
    }
    alone = merge([LoraStrength(plain), LoraStrength(two)], tmp_path / "alone.safetensors")
    assert list(words(alone)) == ["robby"]
    assert not any(key.startswith(embedding.BUNDLE) for key in read_header(alone).tensors)
    assert list(words(merge([LoraStrength(two), LoraStrength(alone)], tmp_path / "twice.safetensors"))) == ["robby"]
    assert words(merge([LoraStrength(plain), LoraStrength(plain)], tmp_path / "none.safetensors")) == {}
    other = file(tmp_path / "other.safetensors", word("zibbo", 9))
    with pytest.raises(Problem) as told:
        merge([LoraStrength(one), LoraStrength(other)], tmp_path / "no.safetensors")
    assert told.value.code == "merge_words" and "“zibbo”" in told.value.sentence("en")
    assert not (tmp_path / "no.safetensors").exists()


def test_a_hub_gets_the_vectors_as_a_file_and_the_card_names_them(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    path, own = studio.lora(home), word("inkfox")
    lora_file.rewrite(path, path, embedding.to_metadata(own))
    card = Library(home).cards()[0]
    readme = model_card.write(card, tmp_path / "hub")
    there = embedding.read_header(tmp_path / "hub" / "embeddings" / "inkfox.safetensors")
    assert there.tensors["emb_params"].shape == (2, 32) and there.metadata["name"] == "inkfox"
    assert "in `embeddings/`, for: `inkfox`" in readme.read_text("utf-8")
