"""Masks beside pictures and in them: where they come from, how they are cut, what is said when one is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.core.problem import Problem
from trainer.engine.data.masks import Masks
from trainer.images.set.examples import Example, View
from trainer.images.set.image_set import ImageSet


def paint(path, alpha=None, size=(64, 48)):
    image = Image.new("RGB", size, "red")
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    image.save(path)


def items(folder, bucket=(64, 48)):
    return [Example(picture, bucket) for picture in ImageSet(folder).pictures()]


def test_masks_come_from_a_file_or_from_transparency_and_are_cut_like_the_picture(tmp_path):
    left = np.zeros((48, 64), np.uint8)
    left[:, :32] = 255
    paint(tmp_path / "file.png")
    Image.fromarray(left).save(tmp_path / "file.mask.png")
    paint(tmp_path / "see.png", alpha=left)
    paint(tmp_path / "whole.png")
    paint(tmp_path / "other.mask.png")  # a picture of that name without a partner is a picture
    found = items(tmp_path)
    assert [i.picture.file.name for i in found] == ["file.png", "other.mask.png", "see.png", "whole.png"]
    masks = Masks(0.25)
    got = masks.of([View(item, False) for item in found], 6, 8)
    assert got.shape == (4, 1, 6, 8)
    half = torch.tensor([1.0] * 4 + [0.25] * 4).expand(6, 8)
    assert torch.equal(got[0, 0], half) and torch.equal(got[2, 0], half)
    assert torch.equal(got[1], torch.ones(1, 6, 8)) and torch.equal(got[3], torch.ones(1, 6, 8))
    assert torch.equal(masks.of([View(found[0], True)], 6, 8)[0, 0], half.flip(-1))
    square = Masks(0.0).of([View(Example(found[0].picture, (48, 48)), False)], 6, 6)[0, 0]
    assert torch.equal(square[:, :3].round(), torch.ones(6, 3)) and square[:, 3:].max() < 1e-3


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda p: Image.new("L", (64, 64), 255).save(p), "mask_shape"),
        (lambda p: Image.new("L", (64, 48), 0).save(p), "mask_empty"),
        (lambda p: p.write_bytes(b"not a picture"), "mask_broken"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(tmp_path, make, code):
    paint(tmp_path / "a.png")
    make(tmp_path / "a.mask.png")
    with pytest.raises(Problem) as problem:
        Masks(0.1).of([View(items(tmp_path)[0], False)], 6, 8)
    assert problem.value.code == code and problem.value.field == "loss.masked" and "a." in problem.value.params["picture"]
