"""What the judge learns in disguise: the shape stays, the colours and the edges do not."""

from __future__ import annotations

import torch

from tools.mini_base.disguises import bent, in_ink, in_one_colour, in_other_colours


def _discs(colour: tuple[float, float, float], many: int = 64, side: int = 64) -> torch.Tensor:
    """Opaque discs of one colour with a white hole, premultiplied."""
    line = torch.arange(side) - (side - 1) / 2
    far = (line[:, None] ** 2 + line[None] ** 2).sqrt()
    shape = (far < side * 0.35).float()
    paint = torch.tensor(colour).view(3, 1, 1) * shape
    paint = torch.where(far < side * 0.12, torch.ones(3, 1, 1), paint)
    return torch.cat([paint, shape[None]]).expand(many, 4, side, side).clone()


def _chance() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_other_colours_keep_the_shape_and_stay_premultiplied() -> None:
    discs = _discs((0.9, 0.2, 0.1))
    seen = in_other_colours(discs, _chance())
    assert torch.equal(seen[:, 3], discs[:, 3])
    assert (seen[:, :3] <= seen[:, 3:] + 1e-6).all() and (seen >= 0).all()
    colours = seen[:, :3, 32, 15]  # on the ring
    grey = (colours.max(1).values - colours.min(1).values) < 0.01
    assert 10 <= int(grey.sum()) <= 35, "about a third is grey"
    hues = colours[~grey].argmax(1)
    assert all((hues == k).sum() >= 4 for k in range(3)), "red, green and blue all lead"


def test_one_colour_leaves_the_outline_alone() -> None:
    discs = _discs((0.9, 0.2, 0.1))
    seen = in_one_colour(discs, _chance())
    assert torch.equal(seen[:, 3], discs[:, 3])
    assert (seen[:, :3, 32, 32] - seen[:, :3, 32, 15]).abs().max() < 1e-6, "the hole has the ring's colour"
    assert 8 <= int((seen[:, :3, 32, 32].max(1).values < 0.15).sum()) <= 40


def test_ink_keeps_what_is_dark_and_shows_the_ground_elsewhere() -> None:
    seen = in_ink(_discs((0.05, 0.05, 0.1)), _chance())
    assert (seen[:, 3, 32, 15] > 0.9).all(), "a dark ring is ink"
    assert (seen[:, 3, 32, 32] < 0.1).all(), "its white middle is not"
    light = in_ink(_discs((0.95, 0.95, 0.8)), _chance())
    assert (light[:, 3, 32, 15] < 0.1).all(), "nor is a light ring"


def test_bending_moves_the_edge_and_keeps_most_of_the_picture() -> None:
    discs = _discs((0.9, 0.2, 0.1))
    seen = bent(discs, _chance())
    moved = (seen[:, 3] - discs[:, 3]).abs().mean((1, 2)) / discs[:, 3].mean((1, 2))
    assert moved.min() > 0.02 and moved.max() < 0.5
    assert torch.equal(bent(discs, _chance()), seen)
