"""A trigger word with token vectors of its own: learnt, saved, read back and drawn, on every family, the base untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.helpers import tiny
from tests.helpers.training_home import make_tiny
from trainer.adapters import embedding
from trainer.adapters.compat.inspect import inspect
from trainer.adapters.file import write_tensors
from trainer.adapters.fold import LoraStrength
from trainer.adapters.weights import normalise
from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.text import embeddings, encode
from trainer.formats.header import Header, read_header
from trainer.library.library import Library

PIVOTAL = (
    "lora.embedding_tokens=3",
    "lora.embedding_init=red fox",
    "optimizer.embedding_lr=0.01",
    "run.steps=4",
    "save.every=2",
)


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / request.param
    return make_tiny(folder) if request.param == "sd1" else tiny.make(folder, request.param, words=4096)


def pixels(studio: ImageSampler, *uses: LoraStrength, **how) -> list[np.ndarray]:
    request = GenerateRequest("a blobby, round", steps=2, width=64, height=64, loras=uses, **how)
    return [np.asarray(one.image).astype(int) for one in studio.draw(request)]


def test_pivotal_tuning_learns_saves_resumes_and_draws(bench, base: Path) -> None:
    bench.base = base
    config = bench.config(*PIVOTAL)
    straight = bench.train(config, "straight")
    losses = bench.losses()

    def stop(event, run):
        if isinstance(event, events.Step) and event.step == 3:
            run.ask("stop")

    bench.train(config, "broken", stop)
    first = bench.losses()
    resumed = bench.train(config, "broken")
    assert first + bench.losses() == losses
    ((word,), (again,)) = (embedding.read_embeddings(file) for file in (straight, resumed))
    assert all(np.array_equal(word.vectors[part], again.vectors[part]) for part in word.vectors)
    assert read_header(straight).metadata["sshs_model_hash"] == read_header(resumed).metadata["sshs_model_hash"]

    parts = load_base(config, bench.home)
    before = base_hash(parts)
    start = embeddings.begin(parts, "blobby", 3, "red fox")
    assert (word.name, word.count) == ("blobby", 3) and set(word.vectors) == set(parts.tokenizers)
    assert all(np.abs(rows - start.vectors[part].detach().numpy()).mean() > 1e-3 for part, rows in word.vectors.items())
    assert inspect(straight).embedding_names == ["blobby"] and inspect(straight).programs["diffusers"].loads

    beside = load_file(straight.parent / "embeddings" / "blobby.safetensors")
    assert set(beside) == ({"clip_l", "clip_g"} if "text_encoder_2" in word.vectors else {"emb_params"})
    studio = ImageSampler(parts)
    (plain,) = pixels(studio)
    zero, full = pixels(studio, LoraStrength(straight), strengths=(0.0, 1.0))
    assert np.array_equal(zero, plain) and np.abs(full - plain).mean() > 0.01
    assert np.array_equal(pixels(studio)[0], plain) and base_hash(parts) == before and parts.token_embeddings is None


def test_what_is_drawn_is_what_was_learnt(bench, base: Path) -> None:
    """The conditioning of the run's own adapter and of its file are equal; without the word the base reads as ever."""
    bench.base = base
    config = bench.config(
        "lora.embedding_tokens=2", "lora.train_text_encoder=false", "captions.max_token_length=150", "run.steps=2"
    )
    said = ["a blobby, Blobby and blobbyish", "two words"]
    file = bench.train(config)
    parts = load_base(config, bench.home)
    bare = encode.encode(parts, said)
    adapter = Adapter(parts, config)
    assert adapter.token_embedding is not None
    for limit in (75, 150):
        at_first = encode.encode(parts, said, limit)
        assert torch.equal(at_first["hidden"][1, :77], bare["hidden"][1])
    for part, rows in adapter.token_embedding.vectors.items():
        rows.data.copy_(torch.from_numpy(embedding.read_embeddings(file)[0].vectors[part]))
    learnt = encode.encode(parts, said)
    with adapter.disabled():
        off = encode.encode(parts, said)
        with embeddings.lent(parts, embeddings.of_files(parts, [file])):
            drawn = encode.encode(parts, said)
            assert embeddings.spelt(parts, said[:1])[0].count("word-0") == 2
    assert all(torch.equal(off[name], bare[name]) and torch.equal(drawn[name], learnt[name]) for name in bare)
    assert not torch.equal(learnt["hidden"][0], bare["hidden"][0]) and torch.equal(learnt["hidden"][1], bare["hidden"][1])
    torch.stack([state.sum() for state in learnt.values()]).sum().backward()
    assert all(rows.grad is not None and rows.grad.abs().sum() > 0 for rows in adapter.token_embedding.vectors.values())


def test_diffusers_reads_the_embedding_as_we_do(bench, base: Path) -> None:
    bench.base = base
    bench.train(bench.config("lora.embedding_tokens=2", "run.steps=1"))
    file = bench.home.loras / "embeddings" / "blobby.safetensors"
    parts = load_base(bench.config(), bench.home)
    with embeddings.lent(parts, embeddings.of_files(parts, [bench.home.loras / "blob.safetensors"])):
        ours = encode.encode(parts, ["a blobby, round"])["hidden"]
    pipe = parts.family.pipeline(parts)
    rows = load_file(file)
    pipe.load_textual_inversion({"emb_params": torch.from_numpy(rows.get("emb_params", rows.get("clip_l")))}, token="blobby")
    if "clip_g" in rows:
        pipe.load_textual_inversion({"emb_params": torch.from_numpy(rows["clip_g"])}, token="blobby",
                                    text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)  # fmt: skip
    theirs = pipe.encode_prompt("a blobby, round", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)[0]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_bundled_tensors_are_named_as_others_name_them_and_win_over_the_note(bench) -> None:
    file = bench.train(bench.config("lora.embedding_tokens=2", "run.steps=1", "save.bundle_embedding=true", "save.dtype=fp32"))
    with safe_open(file, "np") as tensors:
        assert tensors.get_tensor("bundle_emb.blobby.string_to_param.*").shape == (2, 32)
    (bundled,), (noted,) = embedding.read_embeddings(file), embedding.from_metadata(read_header(file))
    assert bundled.name == noted.name and np.array_equal(bundled.vectors["text_encoder"], noted.vectors["text_encoder"])
    seen = inspect(file)
    assert seen.embedding_names == ["blobby"] and seen.programs["diffusers"].reason == "strange_keys"
    assert normalise(file).unknown == ()


def test_going_on_from_a_lora_its_trigger_goes_on_too(bench) -> None:
    first = bench.train(bench.config(*PIVOTAL, "save.dtype=fp32"))
    (learnt,) = embedding.read_embeddings(first)
    parts = load_base(bench.config(), bench.home)
    more = bench.config("lora.embedding_tokens=4", "lora.embedding_init=owl")
    word, fresh = Adapter(parts, more, first).token_embedding, embeddings.begin(parts, "blobby", 4, "owl")
    assert word is not None
    for part, rows in learnt.vectors.items():
        assert np.array_equal(word.vectors[part][:3].detach(), rows)
        assert torch.equal(word.vectors[part][3], fresh.vectors[part][3]) and word.vectors[part].requires_grad
    parts = load_base(bench.config(), bench.home)
    other = Adapter(parts, bench.config("lora.embedding_tokens=3", "captions.trigger=owlet"), first).token_embedding
    assert other is not None
    assert not np.array_equal(other.vectors["text_encoder"][:3].detach(), learnt.vectors["text_encoder"])


def test_without_a_trigger_the_layers_learn_alone_and_the_run_says_so(bench) -> None:
    file = bench.train(bench.config("lora.embedding_tokens=2", "preservation.base_prior=1", "captions.trigger=", "run.steps=1"))
    said = [note.code for note in bench.events if isinstance(note, events.Note)]
    assert said.count("no_trigger_no_vectors") == said.count("no_trigger_no_prior") == 1
    assert embedding.read_embeddings(file) == [] and not list((bench.home.loras / "embeddings").glob("*"))


def test_without_a_trigger_or_with_a_broken_note_one_sentence_or_nothing(bench) -> None:
    parts = load_base(bench.config(), bench.home)
    with pytest.raises(Problem) as told:
        Adapter(
            parts,
            bench.config(
                "lora.embedding_tokens=1", "captions.trigger=", "lora.train_unet=false", "lora.train_text_encoder=false"
            ),
        )
    assert told.value.code == "embedding_no_trigger" and told.value.field == "captions.trigger"
    for nonsense in ("", "[]", '{"name": "x", "vectors": {"text_encoder": [2, "AAAA"]}}', '{"name": "", "vectors": {}}', "{"):
        assert embedding.from_metadata(Header({embedding.KEY: nonsense}, {}, 0, 0)) == []
    alien = embedding.Embedding("x", {"text_encoder": np.ones((1, 7), np.float32)})
    path = bench.home.loras / "alien.safetensors"
    write_tensors(path, {"a": np.zeros(1, np.float32)}, embedding.to_metadata(alien))
    assert [one.name for one in embedding.read_embeddings(path)] == ["x"]
    assert embeddings.of_files(parts, [path]) == []


def test_the_word_alone_can_be_learnt_without_a_lora(bench) -> None:
    config = bench.config(
        "lora.embedding_tokens=2", "lora.train_unet=false", "lora.train_text_encoder=false", "run.steps=2", "samples.every=1"
    )
    file = bench.train(config)
    assert len(bench.losses()) == 2
    with safe_open(file, "np") as tensors:
        assert list(tensors.keys()) == ["bundle_emb.blobby.string_to_param.*"]
    seen = inspect(file)
    assert seen.embedding_names == ["blobby"] and seen.modules == {"unet": 0, "text_encoder": 0, "text_encoder_2": 0}
    (card,) = Library(bench.home).cards()
    assert card.broken is None and card.trigger == "blobby"
    studio = ImageSampler(load_base(config, bench.home))
    (plain,), (drawn,) = pixels(studio), pixels(studio, LoraStrength(file))
    assert np.abs(drawn - plain).mean() > 0
    assert studio.notes == []
