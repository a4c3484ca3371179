"""Long captions in pieces and clip skip, against the encoder's own states."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import tiny
from trainer.bases.families import loading
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.data.latents import LatentCache
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.text import encode

LONG = "red, " * 60 + "a cat"


def test_a_long_caption_is_read_in_pieces_side_by_side(bench):
    parts = load_base(bench.config(), bench.home)
    encoder, tokenizer = parts.text_encoders["text_encoder"], parts.tokenizers["text_encoder"]
    got = encode.encode(parts, [LONG, "a cat"], 225)["hidden"]
    assert got.shape == (2, 231, 32)
    ids = tokenizer(LONG, truncation=False, add_special_tokens=False).input_ids
    assert 75 < len(ids) <= 150
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = [[start, *ids[:75], end], [start, *ids[75:], end] + [pad] * (150 - len(ids)), [start, end] + [pad] * 75]
    for index, row in enumerate(rows):
        wanted = encoder(torch.tensor([row])).last_hidden_state[0]
        assert torch.allclose(got[0, 77 * index : 77 * index + 77], wanted, atol=1e-6)
    short = encode.encode(parts, ["a cat"], 75)["hidden"][0]
    assert torch.allclose(got[1, :77], short, atol=1e-6)
    assert encode.count_long(parts, [LONG, "a cat"], 75) == 1 and encode.count_long(parts, [LONG, "a cat"], 150) == 0


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


@pytest.mark.parametrize("limit", [75, 150])
def test_a_weighted_word_counts_so_much_and_the_mean_stays(bench, limit):
    """z · w · mean(z) / mean(z · w) in each piece, written out; the base's own words are those without brackets."""
    parts = load_base(bench.config(), bench.home)
    encoder, tokenizer = parts.text_encoders["text_encoder"], parts.tokenizers["text_encoder"]
    with torch.no_grad():
        encoder.final_layer_norm.bias.fill_(0.1)  # trained encoders have a mean; this one is random
        front = "red, " * (70 if limit == 150 else 1)
        got = encode.encode(parts, [f"{front}(a cat:1.5) \\(thing\\)", "a cat"], limit, True)["hidden"]
        plain = encode.encode(parts, [f"{front}a cat (thing)", "a cat"], limit)["hidden"]
    before, between = (len(tokenizer(words, add_special_tokens=False).input_ids) for words in (front, "a cat"))
    weights = torch.ones(limit // 75, 77)
    for place in range(before, before + between):
        weights[place // 75, 1 + place % 75] = 1.5
    assert before + between > 75 or limit == 75
    for piece, weight in enumerate(weights):
        z = plain[0, 77 * piece : 77 * piece + 77]
        expected = z * weight[:, None] * z.mean() / (z * weight[:, None]).mean()
        assert torch.allclose(got[0, 77 * piece : 77 * piece + 77], expected, atol=1e-5)
    assert torch.equal(got[1], plain[1]) and not torch.allclose(got[0], plain[0], atol=1e-2)
    assert encode.count_long(parts, ["(a:1.2) [b]"], 2, True) == 0 and encode.count_long(parts, ["(a:1.2) [b]"], 2) == 1


def test_without_a_mean_to_restore_words_are_scaled_alone():
    hidden = torch.randn(2, 77, 16, generator=torch.Generator().manual_seed(0))
    hidden = hidden - hidden.mean((1, 2), keepdim=True)
    weights = torch.ones(2, 77)
    weights[0, 3] = 0.5
    made = encode.emphasise(hidden, weights)
    assert torch.allclose(made[0, 3], hidden[0, 3] / 2) and torch.equal(made[1], hidden[1])
    hidden[1] += 1.0
    weights[1] = -50.0  # far beyond sense: held, not blown up
    assert torch.allclose(encode.emphasise(hidden, weights)[1], hidden[1] * -50 * 0.5)


def test_with_kohyas_reckoning_a_weighted_word_is_scaled_alone(bench):
    config = bench.config("captions.weighted=true", "run.compat=kohya", "lora.train_text_encoder=false")
    parts = load_base(config, bench.home)
    with torch.no_grad():
        parts.text_encoders["text_encoder"].final_layer_norm.bias.fill_(0.1)
        plain = encode.encode(parts, ["a cat"], 75)["hidden"]
    maker = TrainingObjective(config, parts, Adapter(parts, config), LatentCache(parts, bench.home.cache / "latents"))
    weights = torch.ones(1, 77, 1)
    count = len(parts.tokenizers["text_encoder"]("a cat", add_special_tokens=False).input_ids)
    weights[0, 1 : count + 1] = 1.5
    assert torch.equal(maker.condition(["(a cat:1.5)"])["hidden"], plain * weights)


def test_the_two_encoders_of_sdxl_are_weighed_each_by_itself_and_the_summary_stays(tmp_path):
    from tests.helpers import tiny
    from trainer.bases import catalog
    from trainer.bases.families import family
    from trainer.core.home import Home

    facts = catalog.find(Home(tmp_path), str(tiny.make(tmp_path / "base", "sdxl", words=4096)))
    parts = loading.load(family("sdxl"), facts, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        got, plain = encode.encode(parts, ["a (cat:0.5)"], 75, True), encode.encode(parts, ["a cat"], 75)
    weights = torch.ones(1, 77)
    weights[0, 2] = 0.5
    first, second = (encode.emphasise(state, weights) for state in plain["hidden"].split(tiny.XL_WIDTHS, dim=-1))
    assert torch.equal(got["pooled"], plain["pooled"]) and torch.equal(got["hidden"], torch.cat([first, second], -1))


@pytest.mark.parametrize("words", [(), ("captions.weighted=true",)])
def test_kept_encodings_are_those_made_anew(bench, words):
    config = bench.config("lora.train_text_encoder=false", "captions.max_token_length=150", *words)
    parts = load_base(config, bench.home)
    maker = TrainingObjective(config, parts, Adapter(parts, config), LatentCache(parts, bench.home.cache / "latents"))
    cat = "a (cat:1.4)"
    first = maker.condition([cat, LONG, cat])["hidden"]
    again = maker.condition([LONG, "", cat])["hidden"]
    anew = encode.encode(parts, [LONG, "", cat], 150, bool(words))["hidden"]
    assert torch.equal(first[1], again[0]) and torch.equal(first[0], again[2])
    assert torch.allclose(again, anew, atol=1e-6)


def test_break_begins_a_new_piece_where_brackets_are_weights(bench):
    parts = load_base(bench.config(), bench.home)
    tokenizer = parts.tokenizers["text_encoder"]

    def piece(said: str) -> list[int]:
        ids = tokenizer(said, add_special_tokens=False).input_ids
        return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * (75 - len(ids))]

    assert encode.pieces_of(parts, ["a cat BREAK a dog", ""], True) == 2 and encode.pieces_of(parts, ["a BREAK b"]) == 1
    ids, weights = encode.pieces(tokenizer, ["(a cat BREAK a dog:1.5), red"], 3, True)
    assert ids[0].tolist() == [piece("a cat"), piece("a dog, red"), piece("")]
    dog = len(tokenizer("a dog", add_special_tokens=False).input_ids)
    assert weights[0, 1, 1 : dog + 1].tolist() == [1.5] * dog and weights[0, 1, dog + 1 :].eq(1).all()
    assert encode.count_long(parts, ["a BREAK b"], 75, True) == 1 and encode.count_long(parts, ["a BREAK b"], 150, True) == 0


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_words_change_while_a_picture_is_drawn(bench, tmp_path, family):
    """What the UNet is told at each step, the pooled state of SDXL too, is what it is told for either prompt alone."""
    if family == "sdxl":
        tiny.make(tmp_path / "xl", "sdxl", words=4096)
        bench.base = tmp_path / "xl"
    parts = load_base(bench.config(), bench.home)
    heard: list[torch.Tensor] = []
    studio = ImageSampler(parts)

    def draw(prompt: str, weights: bool = True) -> list[torch.Tensor]:
        heard.clear()
        _ = list(studio.draw(GenerateRequest(prompt, "ugly", 1, 4, 3.0, 64, 64, weights=weights)))
        return list(heard)

    def listening(*given, **named):
        heard.append(named["encoder_hidden_states"].clone())
        if named.get("added_cond_kwargs"):
            heard[-1] = torch.cat([heard[-1].flatten(1), named["added_cond_kwargs"]["text_embeds"]], dim=1)

    parts.unet.register_forward_pre_hook(lambda module, given, named: listening(**named), with_kwargs=True)
    cat, dog, both, turns = (draw(said) for said in ("a cat", "a dog", "a [cat:dog:0.5]", "a [cat|dog]"))
    assert len(cat) == 4 and not torch.equal(cat[0], dog[0])
    assert all(torch.equal(a, b) for a, b in zip(both, [*cat[:2], *dog[2:]], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(turns, [cat[0], dog[1], cat[2], dog[3]], strict=True))
    assert torch.equal(draw("a [cat:dog:0.5]", weights=False)[0], draw("a [cat:dog:0.5]", weights=False)[3])
