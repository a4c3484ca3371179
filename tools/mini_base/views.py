"""Views of the pack's drawings: turned, scaled and shifted a little, mirrored where that is harmless, on a background.

`vae.py`, `ldm.py` and `judge.py` draw their training pictures here, on whatever device the pixels lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .data import Pack
from .render import BACKGROUNDS

BACKGROUND_NAMES = tuple(BACKGROUNDS)


@dataclass(frozen=True)
class Wobble:
    """How far a view may stray from the drawing. `still` is the share of views that do not stray at all."""

    smallest: float = 0.8
    largest: float = 1.0
    shift: float = 0.05  # of the picture's side
    turn: float = 7.0  # degrees
    still: float = 0.35
    flip: bool = True


CALM = Wobble(0.88, 1.0, shift=0.03, turn=3.0, still=0.5, flip=False)  # where there is time for few looks
STILL = Wobble(1.0, 1.0, 0.0, 0.0, 1.0, False)


class Views:
    """The drawings' pixels on a device, premultiplied on demand."""

    def __init__(self, pack: Pack, device: torch.device | str, size: int = 128) -> None:
        self.pack = pack
        self.size = size
        self.device = torch.device(device)
        self.pixels = torch.from_numpy(pack.pixels).permute(0, 3, 1, 2).contiguous().to(self.device)  # (N, 4, S, S)
        self.may_flip = torch.tensor([pack.concept(d).may_flip for d in pack.drawings], device=self.device)
        self.colours = torch.tensor(list(BACKGROUNDS.values()), device=self.device).float() / 255  # (10, 3)

    def backgrounds(self, count: int, chance: torch.Generator, white: float = 0.4) -> torch.Tensor:
        """`count` places in BACKGROUND_NAMES: white with the given share, the others alike."""
        other = torch.randint(1, len(self.colours), (count,), generator=chance, device=self.device)
        return torch.where(torch.rand(count, generator=chance, device=self.device) < white, 0, other)

    def draw(
        self, places: torch.Tensor, ground: torch.Tensor, chance: torch.Generator, wobble: Wobble = Wobble()
    ) -> torch.Tensor:
        """Views (B, 3, size, size) in -1..1 of the drawings at `places` (B,) on the colours `ground`: (B, 3), or
        (B, 3, size, size) for a ground that is no plain colour."""
        return on_ground(self.cut_out(places, chance, wobble), ground)

    def cut_out(self, places: torch.Tensor, chance: torch.Generator, wobble: Wobble = Wobble()) -> torch.Tensor:
        """The same without a ground: (B, 4, size, size) in 0..1, colours premultiplied."""
        rgba = self.pixels[places].float() / 255
        alpha = rgba[:, 3:]
        paint = torch.cat([rgba[:, :3] * alpha, alpha], 1)  # premultiplied: edges keep their colour when resampled
        canvas = [len(places), 4, 2 * self.size, 2 * self.size]  # twice the size, then halved: no jagged edges
        grid = F.affine_grid(self._transforms(places, chance, wobble), canvas, align_corners=False)
        return F.avg_pool2d(F.grid_sample(paint, grid, mode="bilinear", padding_mode="zeros", align_corners=False), 2)

    def _transforms(self, places: torch.Tensor, chance: torch.Generator, wobble: Wobble) -> torch.Tensor:
        """One 2 x 3 matrix per view, from the view's plane to the drawing's (so scale appears inverted)."""
        count = len(places)

        def uniform(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(count, generator=chance, device=self.device)

        moves = (uniform(0, 1) >= wobble.still).float()
        scale = 1 + (uniform(wobble.smallest, wobble.largest) - 1) * moves
        angle = torch.deg2rad(uniform(-wobble.turn, wobble.turn)) * moves
        dx, dy = (uniform(-2 * wobble.shift, 2 * wobble.shift) * moves for _ in range(2))
        mirrored = (uniform(0, 1) < 0.5) & self.may_flip[places] & wobble.flip
        sign = torch.where(mirrored, -1.0, 1.0)
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
        rows = [torch.stack([cos * sign, sin * sign, -dx * sign], 1), torch.stack([-sin, cos, -dy], 1)]
        return torch.stack(rows, 1)


def on_ground(cut_out: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
    """Premultiplied cut-outs (B, 4, H, W) in 0..1 on colours (B, 3) or pictures (B, 3, H, W), in -1..1."""
    if ground.ndim == 2:
        ground = ground[:, :, None, None]
    return (cut_out[:, :3] + ground * (1 - cut_out[:, 3:])) * 2 - 1


def to_pictures(batch: torch.Tensor) -> list:
    """A batch in -1..1 as PIL pictures."""
    from PIL import Image

    array = ((batch.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(a) for a in array]
