"""Masked training: the masks of a batch at the size of its latents. Used by the step where `loss.masked` is on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from trainer.images.geometry import augment
from trainer.images.geometry.masks import mask_of
from trainer.images.set.examples import View


class Masks:
    """How much each latent pixel counts, from `floor` to 1. Kept in memory: a mask takes 16 KB at 512 px."""

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self.kept: dict[tuple[View, int, int], torch.Tensor] = {}

    def of(self, looks: list[View], height: int, width: int) -> torch.Tensor:
        """`[batch, 1, height, width]` float32 on the CPU, mirrored where the look is; all ones without a mask."""
        return torch.stack([self._one(look, height, width) for look in looks])

    def _one(self, look: View, height: int, width: int) -> torch.Tensor:
        key = (replace(look, flipped=False), height, width)
        if key not in self.kept:
            self.kept[key] = self._read(look, height, width)
        return self.kept[key].flip(-1) if look.flipped else self.kept[key]

    def _read(self, look: View, height: int, width: int) -> torch.Tensor:
        """Cut and turned as the picture is, then averaged over what each latent pixel covers."""
        mask = mask_of(look.item.picture)
        if mask is None:
            return torch.ones(1, height, width)
        cut = augment.cut(mask, look.item.bucket, look.focus, look.form).resize((width, height), Image.Resampling.BOX)
        marked = torch.from_numpy(np.asarray(cut, np.float32).copy()) / 255
        return (self.floor + (1 - self.floor) * marked).clamp(min=1e-6)[None]
