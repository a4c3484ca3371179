"""One step's arithmetic: from views to loss and gradients, with gradient accumulation. All chance follows from (seed, step)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from trainer.bases.families import ModelComponents
from trainer.config.train import TrainConfig
from trainer.engine.data.latents import LatentCache
from trainer.engine.data.masks import Masks
from trainer.engine.data.regularization import RegularizationSampler
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective import losses
from trainer.engine.objective.noise import NoiseSchedule, draw_noise, draw_timesteps
from trainer.engine.text import encode
from trainer.images.captions.captions import training_caption, without_trigger
from trainer.images.set.examples import View, derive_seed

CAPTION_BYTES = 512 * 2**20
"""How much memory encoded captions may take: about 850 of SDXL's in fp32, twice as many in bf16."""


@dataclass
class TrainingBatch:
    """One batch, drawn and not yet computed: tensors on the CPU with the looks along the first dimension."""

    looks: list[View]
    captions: list[str]
    x0: torch.Tensor
    """Clean latents `[batch, channels, h, w]`."""
    noise: torch.Tensor
    """The ε that is to be found."""
    shown: torch.Tensor
    """The ε mixed in: `noise`, or with input perturbation a little more."""
    t: torch.Tensor
    """Timesteps `[batch]`."""
    weight: torch.Tensor
    """What each picture counts `[batch]`."""
    mask: torch.Tensor | None = None
    """`[batch, 1, h, w]`."""
    told: dict[str, torch.Tensor] | None = None
    """What the model is told of words and pictures, where that is known already."""

    def __getitem__(self, piece: slice) -> TrainingBatch:
        return TrainingBatch(self.looks[piece], self.captions[piece], **self._each(lambda tensor: tensor[piece]))

    def to(self, device: torch.device) -> TrainingBatch:
        """The same on `device`."""
        return TrainingBatch(self.looks, self.captions, **self._each(lambda tensor: tensor.to(device, non_blocking=True)))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
        tensors = {name: getattr(self, name) for name in ("x0", "noise", "shown", "t", "weight", "mask")}
        return {name: None if tensor is None else change(tensor) for name, tensor in tensors.items()}


class TrainingObjective:
    """Makes losses for a run: holds what stays the same from step to step."""

    def __init__(
        self,
        config: TrainConfig,
        parts: ModelComponents,
        adapter: Adapter,
        latents: LatentCache,
        classes: RegularizationSampler | None = None,
    ) -> None:
        self.config, self.parts, self.latents, self.adapter, self.classes = config, parts, latents, adapter, classes
        self.noise = NoiseSchedule.of(parts.scheduler, parts.device)
        self.masks = Masks(config.loss.unmasked_weight) if config.loss.masked else None
        self.hold = config.preservation.base_prior if config.captions.trigger.strip() else 0.0
        """How strongly the base is held to. Without a trigger it would be held to where it shall learn."""
        self.text_learns = any(adapter.trains(part) for part in parts.family.text_parts)
        self.embedded: dict[str, dict[str, torch.Tensor]] = {}
        self.split = 1
        """Into how many pieces a batch is computed; doubled when memory runs out. The sum stays the same."""

    def backward(self, step: int, micro: list[list[View]], scale: float = 1.0) -> torch.Tensor:
        """Gradients of `scale` times the mean loss over `micro` batches, with what preservation adds to it.

        Returns the loss itself, unscaled, as a scalar on the device (no host sync).
        """
        total = torch.zeros((), device=self.parts.device)
        for index, looks in enumerate(micro):
            share = 1 / len(micro)
            batch = self.draw(step, index, looks)
            total += self._learn(batch, self.loss, share, scale)
            if self.hold:
                total += self._learn(batch, self._drift, share * self.hold, scale)
            if self.classes is not None:
                known = self.draw(step, index, self.classes.batch(step * len(micro) + index), "class")
                total += self._learn(known, self.loss, share * self.config.preservation.prior_loss_weight, scale)
        return total

    def _learn(self, batch: TrainingBatch, loss_of: Any, share: float, scale: float) -> torch.Tensor:
        """Gradients and value of `share` times the loss of `batch`, computed in as many pieces as memory allows."""
        total = torch.zeros((), device=self.parts.device)
        for piece, part in self.pieces(batch):
            loss = loss_of(piece) * (share * part)
            (loss * scale).backward()
            total += loss.detach()
        return total

    def pieces(self, batch: TrainingBatch) -> Iterator[tuple[TrainingBatch, float]]:
        """`batch` on the device in as many pieces as memory allows, each with its share of the whole."""
        size = -(-len(batch.looks) // self.split)
        for start in range(0, len(batch.looks), size):
            piece = batch[start : start + size]
            yield piece.to(self.parts.device), len(piece.looks) / len(batch.looks)

    def draw(self, step: int, index: int, looks: list[View], what: str = "") -> TrainingBatch:
        """Noise, timesteps and captions of micro batch `index`. Class pictures (`what`) keep their captions as they are."""
        seed, noise = self.config.run.seed, self.config.noise
        generator = torch.Generator().manual_seed(derive_seed(seed, f"noise{what}", step, index))
        x0 = self.latents.sample(looks, generator)
        epsilon = draw_noise(
            x0.shape, generator, noise.offset, noise.multires_iterations, noise.multires_discount, self.config.run.compat
        )
        t = draw_timesteps(len(looks), len(self.noise.alpha_bar), generator, noise)
        shown = epsilon
        if noise.input_perturbation:
            shown = epsilon + noise.input_perturbation * torch.randn(x0.shape, generator=generator)
        weight = torch.tensor([look.item.weight for look in looks])
        rng = random.Random(derive_seed(seed, f"caption{what}", step, index))
        captions = [self._caption(look, rng, what) for look in looks]
        mask = self.masks.of(looks, *x0.shape[-2:]) if self.masks and not what else None
        return TrainingBatch(looks, captions, x0, epsilon, shown, t, weight, mask)

    def _caption(self, look: View, rng: random.Random, what: str) -> str:
        choice = look.item.captions
        caption = choice[0] if len(choice) == 1 else rng.choice(choice)
        return caption if what else training_caption(caption, self.config.captions, rng)

    def loss(self, batch: TrainingBatch) -> torch.Tensor:
        """Mean over the batch of weight · w(t) · mean loss of (prediction - target), in float32."""
        return self.counted(self.predict(batch, batch.captions) - self.noise.target(batch.x0, batch.noise, batch.t), batch)

    def counted(self, error: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
        """What `error` `[batch, channels, h, w]` counts, by the kind of loss and the weights of noise levels and pictures."""
        wanted = self.config.loss
        threshold = self.noise.huber_threshold(batch.t, wanted.huber_schedule, wanted.huber_c)
        each = losses.per_picture(losses.pointwise(error, wanted.type, threshold), batch.mask)
        weight = self.noise.weight(batch.t, wanted.weighting, wanted.min_snr_gamma, self.config.run.compat)
        return (each * weight * batch.weight).mean()

    def _drift(self, batch: TrainingBatch) -> torch.Tensor:
        """Prior preservation: mean of (prediction - the untouched base's)² where the trigger is not said, on the same
        noisy pictures. No new pictures are needed: what the words meant before is the base's own answer."""
        trigger, word = self.config.captions.trigger, self.config.preservation.class_word
        plain = [without_trigger(caption, trigger, word) for caption in batch.captions]
        with torch.no_grad(), self.adapter.disabled():
            known = self.predict(batch, plain)
        return losses.per_picture((self.predict(batch, plain) - known).pow(2), None).mean()

    def predict(self, batch: TrainingBatch, captions: list[str]) -> torch.Tensor:
        """The model's answer `[batch, channels, h, w]` float32 to `batch` (on the device) under `captions`."""
        noisy = self.noise.noisy(batch.x0, batch.shown, batch.t)
        with self.autocast():
            condition = batch.told or self.condition(captions) | self.parts.family.added_conditioning(self.parts, batch.looks)
            return self.parts.family.predict(self.parts, noisy.to(self.parts.dtype), batch.t, condition).float()

    def autocast(self) -> Any:
        """16-bit products around 32-bit adapter weights where the base is 16-bit; nothing in fp32."""
        low = self.parts.dtype != torch.float32
        return torch.autocast(self.parts.device.type, self.parts.dtype, enabled=low)

    def condition(self, captions: list[str]) -> dict[str, torch.Tensor]:
        """The text conditioning: computed with gradients where the text encoder learns, else once per different caption."""
        limit, weighted = self.config.captions.max_token_length, self.config.captions.weighted
        restore = self.config.run.compat == "own"
        if self.text_learns:
            return encode.encode(self.parts, captions, limit, weighted, restore)
        for caption in set(captions) - self.embedded.keys():
            with torch.no_grad():
                found = encode.encode(self.parts, [caption], limit, weighted, restore)
            if len(self.embedded) * sum(tensor.nbytes for tensor in found.values()) > CAPTION_BYTES:
                self.embedded.clear()  # endless shuffles must not fill the memory
            self.embedded[caption] = found
        missing = set(captions) - self.embedded.keys()
        if missing:
            return self.condition(captions)
        rows = [self.embedded[caption] for caption in captions]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
