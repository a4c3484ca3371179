"""The same shape in other clothes: bent, in other colours, in one colour, in ink.

`judge.py` disguises a share of what it learns, so that a thing is known by its shape and not by the pixels of a few
drawings. All take and give premultiplied cut-outs (B, 4, H, W) in 0..1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_GREY = (0.299, 0.587, 0.114)  # Rec. 601 luma


def bent(cut_outs: torch.Tensor, chance: torch.Generator, far: float = 0.05) -> torch.Tensor:
    """Pushed about like rubber: five by five random displacements (normal, of `far` half sides), smooth in between."""
    count, device = len(cut_outs), cut_outs.device
    push = far * torch.randn(count, 2, 5, 5, generator=chance, device=device)
    push = F.interpolate(push, size=cut_outs.shape[-2:], mode="bicubic", align_corners=True)
    still = torch.eye(2, 3, device=device).expand(count, 2, 3)
    grid = F.affine_grid(still, list(cut_outs.shape), align_corners=False) + push.permute(0, 2, 3, 1)
    return F.grid_sample(cut_outs, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def in_other_colours(cut_outs: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Every hue turned by the same angle, more or less saturated, a third of them grey, lighter or darker."""
    count, device = len(cut_outs), cut_outs.device
    grey = torch.tensor(_GREY, device=device).expand(3, 3)
    angle = 2 * torch.pi * torch.rand(count, 1, 1, generator=chance, device=device)
    level = torch.ones(3, 3, device=device) / 3
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / 3**0.5  # about the axis of greys
    turn = level + angle.cos() * (torch.eye(3, device=device) - level) + angle.sin() * cross
    roll = torch.rand(count, 1, 1, generator=chance, device=device)
    saturation = torch.where(roll < 0.33, 0.0, 0.3 + 1.05 * roll)
    light = 0.6 + 0.8 * torch.rand(count, 1, 1, generator=chance, device=device)
    change = light * (saturation * turn + (1 - saturation) * grey)  # (B, 3, 3)
    paint = torch.einsum("bij,bjhw->bihw", change, cut_outs[:, :3])
    return torch.cat([torch.minimum(paint.clamp(min=0), cut_outs[:, 3:]), cut_outs[:, 3:]], 1)


def in_one_colour(cut_outs: torch.Tensor, chance: torch.Generator, black: float = 0.3) -> torch.Tensor:
    """Only the outline: all of it in one colour, black for a share of them."""
    return _painted(cut_outs[:, 3:], chance, black)


def in_ink(cut_outs: torch.Tensor, chance: torch.Generator, black: float = 0.7) -> torch.Tensor:
    """What is dark or on an edge becomes ink, the rest shows the ground."""
    count, device = len(cut_outs), cut_outs.device
    weights = torch.tensor(_GREY, device=device).view(1, 3, 1, 1)
    luma = (cut_outs[:, :3] * weights).sum(1, keepdim=True) + 1 - cut_outs[:, 3:]  # as on white
    limit = 0.15 + 0.5 * torch.rand(count, 1, 1, 1, generator=chance, device=device)
    sharp = 0.03 + 0.12 * torch.rand(count, 1, 1, 1, generator=chance, device=device)
    around = F.avg_pool2d(luma, 7, 1, 3, count_include_pad=False)
    ink = torch.maximum((limit - luma) * 12, (around - luma - sharp) * 25).clamp(0, 1)
    return _painted(ink, chance, black)


def _painted(shape: torch.Tensor, chance: torch.Generator, black: float) -> torch.Tensor:
    """A shape (B, 1, H, W) in one colour each, premultiplied."""
    count, device = len(shape), shape.device
    colour = torch.rand(count, 3, 1, 1, generator=chance, device=device)
    is_black = torch.rand(count, 1, 1, 1, generator=chance, device=device) < black
    return torch.cat([torch.where(is_black, colour * 0.15, colour) * shape, shape], 1)
