"""What captioners say: the judge on the example sets, BLIP's own class made tiny, a tagger made of three sums."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainer.bases.test_hub import COMMIT, Hub, server  # noqa: F401
from trainer.bases import catalog
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.images import captioners
from trainer.images.captioners import CAPTIONERS, CaptionRequest
from trainer.images.captioners.blip import tidy
from trainer.images.captioners.tagger import prepared, spoken
from trainer.images.set.image_set import ImageSet


def refusal(home: Home, name: Path | str) -> str:
    with pytest.raises(Problem) as caught:
        captioner, folder = captioners.find(home, str(name))
        captioner.load(folder or Path())
    assert caught.value.sentence("en") and caught.value.sentence("ja") != f"problems.{caught.value.code}"
    return caught.value.code


def test_the_judge_names_the_mascot_and_every_background_and_seldom_guesses(home: Home) -> None:
    """The figures that docs/features.md states."""
    judge, folder = captioners.find(home, "judge")
    assert folder is not None
    model = judge.load(folder)
    right = {"thing": 0, "background": 0, "named": 0}
    for name in ("example-character", "example-style"):
        pictures = ImageSet(PROJECT / "datasets" / name, read_only=True).pictures()
        captions = model([item.load() for item in pictures], CaptionRequest("style"))
        for picture, text in zip(pictures, captions, strict=True):
            *thing, ground = text.split(", ")
            right["background"] += ground in picture.caption
            right["named"] += bool(thing)
            right["thing"] += bool(thing) and thing[0] in picture.caption
    assert right["background"] == 32
    assert right["thing"] >= 30  # the mascot 15 times and all 16 things in the ink-stamp style
    assert right["named"] - right["thing"] <= 1  # rather than something wrong


def test_the_judge_says_the_style_of_a_concept_alone_and_guesses_anew_when_asked_again(home: Home) -> None:
    judge, folder = captioners.find(home, "judge")
    assert folder is not None
    model = judge.load(folder)
    picture = [ImageSet(PROJECT / "datasets" / "example-style", read_only=True).find("0001").load()]
    assert model(picture, CaptionRequest("concept")) == ["a bear, inkstamp style, white background"]
    again = [model(picture, CaptionRequest("style", variant=n))[0] for n in (1, 2, 3)]
    assert len({*again}) == 3 and all(text.endswith(", white background") for text in again)


def tiny_blip(folder: Path) -> Path:
    """transformers' own BLIP with two small layers and twenty words, saved as a hub has it."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(vocabulary) + 1, "encoder_hidden_size": 16, "max_position_embeddings": 64,
            "bos_token_id": len(vocabulary), "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}  # fmt: skip
    torch.manual_seed(1)
    config = BlipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.25]}')
    return folder


def test_blip_writes_a_sentence_from_a_folder_and_another_when_asked_again(home: Home, tmp_path: Path) -> None:
    folder = tiny_blip(tmp_path / "blip")
    captioner, folder_ = captioners.find(home, str(folder))
    assert (captioner.name, folder_) == ("blip", folder)
    model = captioner.load(folder)
    pictures = [Image.new("RGB", (40, 20), "white"), Image.new("RGB", (20, 40), "red")]
    first = model(pictures, CaptionRequest())
    assert len(first) == 2 and all(set(text.split()) <= set(WORDS) for text in first) and any(first)
    assert model(pictures, CaptionRequest()) == first
    assert model(pictures, CaptionRequest(variant=1)) != model(pictures, CaptionRequest(variant=2))
    pixels = model._pixels(pictures)  # type: ignore[attr-defined]
    assert pixels.shape == (2, 3, 32, 32)
    assert pixels[0, :, 0, 0].tolist() == [1, 1, 2] and pixels[1, :, 0, 0].tolist() == [1, -1, -2]


WORDS = ("a", "an", "the", "red", "blue", "cat", "dog", "on", "in", "of", "house", "tree", "picture", "drawing")


@pytest.mark.parametrize(
    ("text", "kept"),
    [("araffes in a field", "in a field"), ("an arafed image of a cat .", "image of a cat"),
     ("a cat , asleep", "a cat, asleep"), ("a giraffe", "a giraffe")],
)  # fmt: skip
def test_words_blip_made_up_are_left_out(text: str, kept: str) -> None:
    assert tidy(text) == kept


def test_a_folder_that_is_no_captioner_says_why(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    assert refusal(home, "nothing-here") == "captioner_missing"
    assert refusal(home, folder) == "captioner_unknown"
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02hostile")
    assert refusal(home, folder) == "captioner_pickle"
    (folder / "model.safetensors").write_bytes(b"")
    assert refusal(home, folder) == "captioner_parts"
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    assert refusal(home, folder) == "captioner_unknown"
    (folder / "words.json").write_text('{"things": []}')
    assert refusal(home, folder) == "captioner_parts"


TAGS = [("general", 9), ("blue_sky", 0), ("green_leaf", 0), ("red_dress", 0), ("0_0", 0), ("red_hood_(tale)", 4)]


def tiny_tagger(folder: Path) -> Path:
    """A real .onnx file that answers with the mean of each channel: rating and face always, a character for red."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    weights = np.zeros((3, len(TAGS)), np.float32)
    weights[0, 1] = weights[1, 2] = weights[2, 3] = weights[2, 5] = 1 / 255
    always = np.array([1, 0, 0, 0, 0.5, 0], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "sides"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["sum"]),
        helper.make_node("Add", ["sum", "always"], ["tags"]),
    ]
    numbers = [onnx.numpy_helper.from_array(value, name) for value, name in
               ((weights, "weights"), (always, "always"), (np.array([1, 2]), "sides"))]  # fmt: skip
    put = helper.make_tensor_value_info("pixels", kind.FLOAT, ["batch", 16, 16, 3])
    got = helper.make_tensor_value_info("tags", kind.FLOAT, ["batch", len(TAGS)])
    graph = helper.make_graph(nodes, "tagger", [put], [got], numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir()
    onnx.save(model, str(folder / "model.onnx"))
    with open(folder / "selected_tags.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("tag_id", "name", "category", "count"))
        table.writerows((number, name, category, 1) for number, (name, category) in enumerate(TAGS))
    return folder


def test_a_tagger_reads_blue_green_red_on_a_white_square_and_leaves_ratings_out(home: Home, tmp_path: Path) -> None:
    folder = tiny_tagger(tmp_path / "tagger")
    captioner, folder_ = captioners.find(home, str(folder))
    assert (captioner.name, folder_) == ("tagger", folder)
    model = captioner.load(folder)
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("blue", "red", (40, 100, 10))]
    assert model(pictures, CaptionRequest()) == ["blue sky, 0_0", "red hood (tale), red dress, 0_0", "0_0, green leaf"]
    assert model(pictures[2:], CaptionRequest(threshold=0.45)) == ["0_0"]
    assert model([Image.new("RGB", (16, 4), "red")], CaptionRequest())[0].startswith("red hood (tale), red dress, blue sky")


def test_what_a_tagger_is_given() -> None:
    wide = prepared(Image.new("RGB", (32, 16), (10, 20, 30)), 16)
    assert wide.shape == (1, 16, 16, 3) and wide.dtype == np.float32
    assert wide[0, 8, 8].tolist() == [30, 20, 10] and wide[0, 0, 8].tolist() == [255, 255, 255]
    assert [spoken(tag) for tag in ("long_hair", ">_<", "0_0", "^_^")] == ["long hair", ">_<", "0_0", "^_^"]


def test_a_broken_or_foreign_tagger_says_so(home: Home, tmp_path: Path) -> None:
    folder = tiny_tagger(tmp_path / "tagger")
    lines = (folder / "selected_tags.csv").read_text().splitlines()
    (folder / "selected_tags.csv").write_text("\n".join(lines[:-1]))
    assert refusal(home, folder) == "captioner_unknown"
    (folder / "model.onnx").write_bytes(b"not a model")
    assert refusal(home, folder) == "captioner_parts"


def test_a_missing_package_is_named_with_the_command_that_helps() -> None:
    needs = replace(CAPTIONERS[2], package="no-such-runtime==1.0")
    with pytest.raises(Problem, match=r"pip install no-such-runtime==1\.0"):
        needs.load(Path())


def test_a_captioner_is_fetched_once_by_its_commit_and_is_no_base(home: Home, server: Hub) -> None:  # noqa: F811
    server.files = {"model.onnx": b"\x08", "selected_tags.csv": b"tag_id", "model.msgpack": b"x", "model.bin": b"\x80"}
    captioner = replace(CAPTIONERS[2], hub="owner/name", commit=COMMIT)
    assert captioner.folder(home) is None and "0.4 GB" in captioner.cost("en") and "Apache-2.0" in captioner.cost("ja")
    progress: list[tuple[int, int]] = []
    folder = captioner.fetch(home, lambda done, of: progress.append((done, of)))
    assert sorted(file.name for file in folder.iterdir()) == ["atelier-hub.json", "model.onnx", "selected_tags.csv"]
    assert progress[-1] == (7, 7)
    requests = len(server.asked)
    assert captioner.fetch(home) == folder == captioner.folder(home) and len(server.asked) == requests
    assert [base.id for base in catalog.list_bases(home)] == ["mini"] and catalog.refused_bases(home) == []


def test_without_a_network_one_sentence_says_so(home: Home, server: Hub) -> None:  # noqa: F811
    server.shutdown()
    server.server_close()
    with pytest.raises(Problem) as caught:
        replace(CAPTIONERS[1], hub="owner/name", commit=COMMIT).fetch(home)
    assert caught.value.code == "hub_offline" and str(caught.value).startswith("The model hub cannot be reached")
