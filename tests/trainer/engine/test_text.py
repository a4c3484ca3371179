"""Long captions in pieces and clip skip, against the encoder's own states."""

from __future__ import annotations

import pytest
import torch

from trainer.engine import text
from trainer.engine.cache import Latents
from trainer.engine.inject import Adapter
from trainer.engine.step import StepMaker
from trainer.engine.train import load_base
from trainer.problem import Problem

LONG = "red, " * 60 + "a cat"


def test_a_long_caption_is_read_in_pieces_side_by_side(bench):
    parts = load_base(bench.config(), bench.home)
    encoder, tokenizer = parts.text_encoders["text_encoder"], parts.tokenizers["text_encoder"]
    got = text.encode(parts, [LONG, "a cat"], 225)["hidden"]
    assert got.shape == (2, 231, 32)
    ids = tokenizer(LONG, truncation=False, add_special_tokens=False).input_ids
    assert 75 < len(ids) <= 150
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = [[start, *ids[:75], end], [start, *ids[75:], end] + [pad] * (150 - len(ids)), [start, end] + [pad] * 75]
    for index, row in enumerate(rows):
        wanted = encoder(torch.tensor([row])).last_hidden_state[0]
        assert torch.allclose(got[0, 77 * index : 77 * index + 77], wanted, atol=1e-6)
    short = text.encode(parts, ["a cat"], 75)["hidden"][0]
    assert torch.allclose(got[1, :77], short, atol=1e-6)
    assert text.count_long(parts, [LONG, "a cat"], 75) == 1 and text.count_long(parts, [LONG, "a cat"], 150) == 0


def test_clip_skip_reads_the_layer_before_the_last_through_the_final_norm(bench):
    plain, early = load_base(bench.config(), bench.home), load_base(bench.config("captions.clip_skip=2"), bench.home)
    tokens = plain.family.tokens(plain, ["a cat"])
    encoder = plain.text_encoders["text_encoder"]
    states = encoder(tokens["text_encoder"], output_hidden_states=True).hidden_states
    assert torch.allclose(early.family.encode(early, tokens)["hidden"], encoder.final_layer_norm(states[-2]), atol=1e-6)
    assert not torch.allclose(plain.family.encode(plain, tokens)["hidden"], encoder.final_layer_norm(states[-2]), atol=1e-3)
    adapter = Adapter(early, bench.config("captions.clip_skip=2"))
    assert {name.split(".layers.")[1][0] for part, name in adapter.layers if part == "text_encoder"} == {"0"}
    with pytest.raises(Problem) as problem:
        load_base(bench.config("captions.clip_skip=3"), bench.home)
    assert problem.value.code == "clip_skip_layers" and problem.value.params == {"layers": 2}


def test_kept_encodings_are_those_made_anew(bench):
    config = bench.config("lora.text_encoder=false", "captions.max_tokens=150")
    parts = load_base(config, bench.home)
    maker = StepMaker(config, parts, Adapter(parts, config), Latents(parts, bench.home.cache / "latents"))
    first = maker._condition(["a cat", LONG, "a cat"])["hidden"]
    again = maker._condition([LONG, "", "a cat"])["hidden"]
    anew = text.encode(parts, [LONG, "", "a cat"], 150)["hidden"]
    assert torch.equal(first[1], again[0]) and torch.equal(first[0], again[2])
    assert torch.allclose(again, anew, atol=1e-6)
