"""One step's arithmetic: from looks to loss and gradients. Every random draw follows from (seed, step)."""

from __future__ import annotations

import random
from typing import Any

import torch

from trainer.config.train import TrainConfig
from trainer.engine.cache import Latents
from trainer.engine.data import Look, chance
from trainer.engine.inject import Adapter
from trainer.engine.noise import NoiseSchedule, draw_noise
from trainer.families import Parts
from trainer.images.captions import training_caption

CAPTION_BYTES = 512 * 2**20
"""How much memory encoded captions may take: about 850 of SDXL's in fp32, twice as many in bf16."""


class StepMaker:
    """Makes losses for a run: holds what stays the same from step to step."""

    def __init__(self, config: TrainConfig, parts: Parts, adapter: Adapter, latents: Latents) -> None:
        self.config, self.parts, self.latents = config, parts, latents
        self.noise = NoiseSchedule.of(parts.scheduler, parts.device)
        self.text_learns = any(adapter.trains(part) for part in parts.family.text_parts)
        self.embedded: dict[str, dict[str, torch.Tensor]] = {}
        self.split = 1
        """Into how many pieces a batch is computed; doubled when memory runs out. The sum stays the same."""

    def backward(self, step: int, micro: list[list[Look]], scale: float = 1.0) -> torch.Tensor:
        """Gradients of `scale` times the mean loss over `micro` batches.

        Returns the mean itself, unscaled, as a scalar on the device (no host sync).
        """
        total = torch.zeros((), device=self.parts.device)
        for index, looks in enumerate(micro):
            total += self._batch(step, index, looks, 1 / len(micro), scale)
        return total

    def _batch(self, step: int, index: int, looks: list[Look], share: float, scale: float) -> torch.Tensor:
        seed = self.config.run.seed
        generator = torch.Generator().manual_seed(chance(seed, "noise", step, index))
        x0 = self.latents.sample(looks, generator)  # [B, C, h, w]
        noise = draw_noise(x0.shape, generator, self.config.noise.offset)
        t = torch.randint(0, len(self.noise.alpha_bar), (len(looks),), generator=generator)
        rng = random.Random(chance(seed, "caption", step, index))
        captions = [training_caption(look.item.picture.caption, self.config.captions, rng) for look in looks]
        total = torch.zeros((), device=self.parts.device)
        size = -(-len(looks) // self.split)
        for start in range(0, len(looks), size):
            piece = slice(start, start + size)
            part = share * len(looks[piece]) / len(looks)
            loss = self._loss(x0[piece], noise[piece], t[piece], captions[piece], looks[piece]) * part
            (loss * scale).backward()
            total += loss.detach()
        return total

    def _loss(
        self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, captions: list[str], looks: list[Look]
    ) -> torch.Tensor:
        """Mean over the batch of w(t) · ‖prediction - target‖² / n, in float32."""
        device = self.parts.device
        x0, noise, t = (tensor.to(device, non_blocking=True) for tensor in (x0, noise, t))
        noisy = self.noise.noisy(x0, noise, t)
        with self.autocast():
            condition = self._condition(captions) | self.parts.family.describe(self.parts, looks)
            predicted = self.parts.family.predict(self.parts, noisy.to(self.parts.dtype), t, condition)
        error = (predicted.float() - self.noise.target(x0, noise, t)).pow(2).mean((1, 2, 3))  # [B]
        return (error * self.noise.weight(t, self.config.loss.min_snr_gamma)).mean()

    def autocast(self) -> Any:
        """16-bit products around 32-bit adapter weights where the base is 16-bit; nothing in fp32."""
        low = self.parts.dtype != torch.float32
        return torch.autocast(self.parts.device.type, self.parts.dtype, enabled=low)

    def _condition(self, captions: list[str]) -> dict[str, torch.Tensor]:
        """The text conditioning: computed with gradients where the text encoder learns, else once per different caption."""
        family, parts = self.parts.family, self.parts
        if self.text_learns:
            return family.encode(parts, family.tokens(parts, captions))
        for caption in set(captions) - self.embedded.keys():
            with torch.no_grad():
                found = family.encode(parts, family.tokens(parts, [caption]))
            if len(self.embedded) * sum(tensor.nbytes for tensor in found.values()) > CAPTION_BYTES:
                self.embedded.clear()  # endless shuffles must not fill the memory
            self.embedded[caption] = found
        missing = set(captions) - self.embedded.keys()
        if missing:
            return self._condition(captions)
        rows = [self.embedded[caption] for caption in captions]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
