"""Masks by machine: the mascot against its drawn outline, CLIPSeg's own class made tiny, a U²-Net of one sum, undo."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tools.mini_base import mascot, poses
from tools.mini_base.render import rasterise
from trainer.commands import mask as command
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.images import masking
from trainer.images.geometry.masks import mask_file, mask_of, overlay
from trainer.images.masking.clipseg import ClipSeg, masked
from trainer.images.masking.job import Masking
from trainer.images.masking.plain import UNSURE, flooded, oklab, segment
from trainer.images.masking.result import MaskResult
from trainer.images.set.image_set import ImageSet


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def mine(home: Home) -> ImageSet:
    """Four mascot pictures as a person's own set; the last before a busy ground."""
    folder = home.datasets / "mine"
    folder.mkdir()
    for name in ("0001.png", "0002.png", "0006.png"):
        shutil.copy(PROJECT / "datasets" / "example-character" / name, folder / name)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((256, 256)).save(folder / "0009.png")
    return ImageSet(folder)


def masks(found_: ImageSet) -> dict[str, bool]:
    return {picture.id: mask_file(picture).is_file() for picture in found_.pictures()}


def overlap(mask_: np.ndarray, two: np.ndarray) -> float:
    """Intersection over union."""
    return float((mask_ & two).sum() / (mask_ | two).sum())


def test_the_mascot_is_cut_out_as_it_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of docs/features.md: all sixteen pictures, grounds with hills, floors and spots among them."""
    monkeypatch.setattr(mascot, "_ground", lambda pose: "")
    pictures = ImageSet(PROJECT / "datasets" / "example-character", read_only=True).pictures()
    overlaps = []
    for pose, picture in zip(poses.EXAMPLE_POSES, pictures, strict=True):
        drawn = np.asarray(rasterise(mascot.svg(pose, 512), 512).convert("RGBA"))[..., 3] > 127
        answer = segment(picture.load())
        assert isinstance(answer, MaskResult) and answer.sure > UNSURE, picture.id
        assert answer.mask.size == (512, 512) and answer.mask.mode == "L"
        overlaps.append(overlap(np.asarray(answer.mask) > 127, drawn))
    assert min(overlaps) > 0.9 and sum(overlaps) / 16 > 0.98, overlaps


def test_a_mask_has_a_soft_edge_and_whole_insides() -> None:
    ring = Image.new("RGB", (900, 600), (90, 160, 220))
    ImageDraw.Draw(ring).ellipse((250, 100, 650, 500), fill="white")
    ImageDraw.Draw(ring).ellipse((350, 200, 550, 400), fill=(90, 160, 220))  # the ground's colour, but inside
    answer = segment(ring)
    assert isinstance(answer, MaskResult) and answer.mask.size == (900, 600)
    row = np.asarray(answer.mask)[300]
    assert row[450] == 255 and row[100] == 0 and row[300] == 255
    assert 3 <= ((row > 10) & (row < 245)).sum() <= 24


def test_a_portrait_cut_off_below_is_no_ground() -> None:
    portrait = Image.new("RGB", (300, 400), (230, 230, 225))
    ImageDraw.Draw(portrait).ellipse((100, 60, 200, 180), fill=(190, 120, 90))
    ImageDraw.Draw(portrait).rectangle((60, 180, 240, 400), fill=(40, 60, 120))
    answer = segment(portrait)
    assert isinstance(answer, MaskResult)
    assert np.asarray(answer.mask)[399, 150] == 255 and np.asarray(answer.mask)[399, 20] == 0


@pytest.mark.parametrize(("make", "code"), [
    (lambda: np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8), "mask_ground"),
    (lambda: np.full((100, 100, 3), 200, np.uint8), "mask_nothing"),
    (lambda: np.linspace(0, 140, 256 * 256 * 3).reshape(256, 256, 3).astype(np.uint8), "mask_unsure"),
])  # fmt: skip
def test_where_the_ground_is_not_plain_a_sentence_says_so(make, code: str) -> None:
    answer = segment(Image.fromarray(make()))
    assert isinstance(answer, Problem) and answer.code == code
    assert answer.sentence("en").endswith(".") and not answer.sentence("ja").startswith("problems.")


def test_colours_are_those_of_oklab_and_the_flood_goes_round_corners() -> None:
    white, red = oklab(np.array([[[255, 255, 255], [255, 0, 0]]], np.uint8))[0] * [2, 1, 1]
    assert white == pytest.approx([1, 0, 0], abs=1e-3) and red == pytest.approx([0.628, 0.2249, 0.1258], abs=1e-3)
    maze = np.array([list(row) for row in ("##.##", "#...#", "#.###", "#..##", "##.##", "#####")]) == "."
    shut = maze.copy()
    shut[0, 2] = False
    assert np.array_equal(flooded(maze), maze) and not flooded(shut).any()


def test_masks_are_made_only_where_nobody_brought_one_and_all_taken_back(mine: ImageSet, home: Home, capsys) -> None:
    own = np.zeros((512, 512), np.uint8)
    own[:256] = 255
    Image.fromarray(own).save(mine.folder / "0002.mask.png")
    before = (mine.folder / "0002.mask.png").read_bytes()
    assert command.main([str(mine.folder), "--home", str(home.root)]) == 0
    output = capsys.readouterr()
    assert masks(mine) == {"0001": True, "0002": True, "0006": True, "0009": False}
    assert (mine.folder / "0002.mask.png").read_bytes() == before and "0001.png: mask made, 100 % sure" in output.out
    assert "0009.png: The background is not plain" in output.err and "2 masks made; 2 pictures left" in output.err
    assert len(mine.pictures()) == 4 and mask_of(mine.find("0001")) is not None
    assert [picture_.id for picture_ in mine.unmasked()] == ["0009"]
    assert [picture_.id for picture_ in mine.unmasked(again=True)] == ["0001", "0006", "0009"]
    film = overlay(mine.find("0001"), 128)
    assert film is not None and film[:4] == b"\x89PNG" and overlay(mine.find("0009"), 128) is None

    (mine.folder / "0006.mask.png").write_bytes(before)  # painted over by hand since
    act = mine.undo()
    assert act is not None and (act.what, act.count) == ("masks", 2)
    assert masks(mine) == {"0001": False, "0002": True, "0006": True, "0009": False}
    assert (mine.folder / "0006.mask.png").read_bytes() == before and mine.undo() is None
    assert mine.put_mask("0006", b"x") is None


def test_a_mask_made_anew_or_taken_away_comes_back_by_undo(mine: ImageSet) -> None:
    assert mine.put_mask("0001", b"first") and mine.put_mask("0001", b"second")
    file = mine.folder / "0001.mask.png"
    assert mine.take_mask("0001") and not file.exists() and mine.take_mask("0001") is None
    for content in (b"second", b"first", None):
        mine.undo()
        assert (file.read_bytes() if file.exists() else None) == content
    Image.new("RGBA", (64, 64), (255, 0, 0, 100)).save(mine.folder / "0010.png")
    assert mine.put_mask("0010", b"x") is None  # its transparency is its mask
    token = mine.put_mask("0001", b"a")
    mine.delete(["0001"])
    mine.undo()
    assert file.read_bytes() == b"a" and mine.put_mask("0001", b"b", token) == token
    mine.undo(token)
    assert not file.exists()


def tiny_clipseg(folder: Path) -> Path:
    """transformers' own CLIPSeg with small layers, saved as a hub has it, with the words of the embedded base."""
    import torch
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config={**small, "vocab_size": 3266, "eos_token_id": 3265, "bos_token_id": 3264, "pad_token_id": 3265},
        vision_config={**small, "image_size": 64, "patch_size": 16}, projection_dim=16, extract_layers=[1, 2, 3],
        reduce_dim=8, decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(PROJECT / "models" / "mini" / "judge" / name, folder / name)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 64, "width": 64}}'
    )
    return folder


def test_clipseg_looks_for_a_word_and_answers_at_the_pictures_size(home: Home, tmp_path: Path) -> None:
    folder = tiny_clipseg(home.models / "maskers" / "clipseg")
    assert masking.find(home, "clipseg") == ("clipseg", folder) and masking.available(home) == ["plain", "clipseg"]
    model = masking.load(home, "clipseg")
    assert isinstance(model, ClipSeg)
    pictures = [Image.new("RGB", (96, 64), colour) for colour in ("red", "blue")]
    chances = model.chances(pictures, "a zibbo mascot")
    assert chances.shape == (2, 64, 64) and (chances > 0).all() and (chances < 1).all()
    assert not np.array_equal(chances, model.chances(pictures, "an owl"))
    for answer in model(pictures, ""):
        if isinstance(answer, Problem):
            assert answer.code == "mask_unseen"
        else:
            assert answer.mask.size == (96, 64)


def test_probabilities_become_a_soft_mask_or_a_sentence() -> None:
    chance = np.zeros((10, 10), np.float32)
    chance[:, 5:] = 0.9
    answer = masked(chance, (40, 20), "hat")
    assert isinstance(answer, MaskResult) and answer.mask.size == (40, 20) and answer.sure == pytest.approx(0.9)
    assert np.asarray(answer.mask)[10, 2] == 0 and np.asarray(answer.mask)[10, 38] == 255
    nothing = masked(chance / 3, (40, 20), "hat")
    assert isinstance(nothing, Problem) and "“hat”" in nothing.sentence("en")


def test_a_u2net_file_is_squeezed_made_even_and_stretched(home: Home, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    node = helper.make_node("ReduceMean", ["in", "axes"], ["out"], keepdims=1)
    graph = helper.make_graph(
        [node], "u2net", [helper.make_tensor_value_info("in", kind.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("out", kind.FLOAT, [1, 1, 32, 32])], [axes],
    )  # fmt: skip
    file = tmp_path / "bright.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(file))
    assert masking.find(home, str(file)) == ("u2net", file)
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("white", (32, 0, 64, 64))
    answer, nothing = masking.load(home, str(file))([picture, Image.new("RGB", (8, 8))], "")
    assert isinstance(answer, MaskResult) and answer.mask.size == (64, 64)
    assert np.asarray(answer.mask)[5, 5] == 0 and np.asarray(answer.mask)[5, 60] == 255 and answer.sure > 0.9
    assert isinstance(nothing, Problem) and nothing.code == "mask_nothing"
    file.write_bytes(b"not a model")
    with pytest.raises(Problem) as caught:
        masking.load(home, str(file))
    assert caught.value.code == "masker_parts" and "bright.onnx" in caught.value.sentence("en")


def test_a_way_that_is_not_there_is_said(home: Home, tmp_path: Path) -> None:
    def code(name: str) -> str:
        with pytest.raises(Problem) as caught:
            masking.find(home, name)
        assert not caught.value.sentence("ja").startswith("problems.")
        return caught.value.code

    (tmp_path / "empty").mkdir()
    assert code("nothing") == code("") == "masker_missing" and code("owner/name") == "masker_commit"
    assert code(str(tmp_path / "empty")) == code(str(PROJECT / "models" / "mini" / "judge")) == "masker_unknown"
    assert masking.find(home, "owner/name@" + "0" * 40) == ("clipseg", None)


def test_a_job_in_its_own_process_puts_masks_as_they_come(mine: ImageSet, home: Home) -> None:
    making = Masking(home)
    job = making.start(mine, "plain", [picture_.id for picture_ in mine.unmasked()])
    with pytest.raises(Problem, match="already"):
        making.start(mine, "plain", ["0001"])
    job.wait(60)
    assert (job.state, job.looked, job.of) == ("done", 4, 4) and sorted(job.made) == ["0001", "0002", "0006"]
    assert job.refused["0009"].code == "mask_ground" and masks(mine)["0006"]
    act = mine.undo(job.token)
    assert act is not None and act.count == 3 and not any(masks(mine).values())
    again = making.start(mine, "no-such-model", ["0001"])
    again.wait(60)
    assert again.state == "failed" and again.problem is not None and again.problem.code == "masker_missing"
    making.close()
