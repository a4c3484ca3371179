"""The plain loop ours is measured against, in the manner of diffusers' own LoRA examples: diffusers, PEFT, Accelerate, eager.

Same base, rank, targets, batch, number format, cached latents, loss weights and learning rates; noise and token ids are handed
to it ready made, and it starts from the same adapter tensors, so that both must give the same losses.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler  # pyright: ignore[reportPrivateImportUsage]
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import setting
from bench.cases import Case
from trainer.config.train import TrainConfig
from trainer.engine.networks.adapter import Adapter


class Reference:
    """Trains; `step()` makes one optimiser step and returns its loss."""

    def __init__(self, case: Case) -> None:
        self.config = setting.config_of(case)
        start = _start(case, self.config)
        parts = setting.load_parts(case)
        self.latents, self.batches = setting.ReadyLatents(parts), setting.batches(case, self.config)
        low = case.dtype if case.dtype != "fp32" else "no"
        self.accelerator = Accelerator(mixed_precision=low, cpu=case.device == "cpu")
        self.scheduler: Any = DDPMScheduler.from_config(parts.scheduler.config)
        self.parts = parts
        self.trained = {part for part, _ in start}
        for part in self.trained:
            wanted = [name for where, name in start if where == part]
            lora = self.config.lora
            parts.module(part).add_adapter(LoraConfig(r=lora.rank, lora_alpha=int(lora.alpha), target_modules=wanted))
            parts.module(part).train()
        for (part, name), sides in start.items():
            mine = parts.module(part).get_submodule(name)
            for side, weight in sides.items():
                getattr(mine, side)["default"].weight.data = weight
        if case.checkpointing:
            parts.unet.enable_gradient_checkpointing()
            parts.unet.train()
            for encoder in parts.text_encoders.values():
                encoder.gradient_checkpointing_enable()
        rule = self.config.optimizer
        groups = [
            {
                "params": [p for p in parts.module(part).parameters() if p.requires_grad],
                "lr": getattr(rule, "lr" if part == "unet" else "text_encoder_lr", 1e-4),
            }
            for part in sorted(self.trained)
        ]
        self.parameters = [p for group in groups for p in group["params"]]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.config.schedule.factor(step, 1000))
        parts.unet, self.optimizer, self.schedule = self.accelerator.prepare(parts.unet, optimizer, schedule)
        for part in parts.text_encoders:
            parts.text_encoders[part] = self.accelerator.prepare(parts.text_encoders[part])
        self.number, self.seen = 0, []
        self.kept: dict[str, dict[str, torch.Tensor]] = {}

    def loss(self) -> torch.Tensor:
        """The loss of the next batch."""
        device, dtype = self.accelerator.device, self.parts.dtype
        looks = next(self.batches)
        x0, noise, t, captions = setting.drawn(self.config, self.latents, self.number, looks)
        x0, noise, t = x0.to(device), noise.to(device), t.to(device)
        noisy = self.scheduler.add_noise(x0, noise, t)
        with self.accelerator.autocast():
            condition = self.told(captions) | self.parts.family.added_conditioning(self.parts, looks)
            predicted = self.parts.family.predict(self.parts, noisy.to(dtype), t, condition)
        velocity = self.scheduler.config["prediction_type"] == "v_prediction"
        target = self.scheduler.get_velocity(x0, noise, t) if velocity else noise
        snr = compute_snr(self.scheduler, t)
        gamma = (self.config.loss.min_snr_gamma or 5.0) * torch.ones_like(t)
        capped = torch.stack([snr, gamma], dim=1).min(dim=1)[0]
        if self.scheduler.config["rescale_betas_zero_snr"]:  # the last timestep would weigh nothing otherwise
            weights = (capped + 1) / (snr + 1)
        else:
            weights = capped / (snr + 1 if velocity else snr)
        loss = torch.nn.functional.mse_loss(predicted.float(), target.float(), reduction="none")
        return (loss.mean(dim=list(range(1, len(loss.shape)))) * weights).mean()

    def told(self, captions: list[str]) -> dict[str, torch.Tensor]:
        """What the UNet is told of the words: as the examples do it, kept where no text encoder learns."""
        family = self.parts.family
        if self.trained - {"unet"}:
            return family.encode(self.parts, family.tokens(self.parts, captions))
        for caption in set(captions) - self.kept.keys():
            with torch.no_grad():
                self.kept[caption] = family.encode(self.parts, family.tokens(self.parts, [caption]))
        return {name: torch.cat([self.kept[caption][name] for caption in captions]) for name in self.kept[captions[0]]}

    def step(self) -> float:
        with self.accelerator.accumulate(self.parts.unet):
            loss = self.loss()
            losses = cast(torch.Tensor, self.accelerator.gather(loss.detach().repeat(self.config.run.batch_size)))
            gathered = losses.mean().item()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.parameters, self.config.run.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        self.number += 1
        self.seen.append(gathered)
        return gathered

    def losses(self) -> list[float]:
        """All losses so far."""
        return self.seen

    def flops(self) -> int:
        """Floating point operations of one step's forward pass and gradients, counted by torch; changes no number."""
        number, self.batches = self.number, setting.batches(self._case(), self.config)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            self.accelerator.backward(self.loss())
        self.optimizer.zero_grad()
        self.number = number
        return counter.get_total_flops()

    def _case(self) -> Case:
        config = self.config
        return Case("", batch=config.run.batch_size, resolution=config.images.resolution or 512)


def _start(case: Case, config: TrainConfig) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """The tensors ours begins with, {(part, module): {lora_A, lora_B}}; the base they were made in goes again."""
    layers = Adapter(setting.load_parts(case), config).layers
    return {
        key: {side: getattr(layer, side)["default"].weight.data.float().clone() for side in ("lora_A", "lora_B")}
        for key, layer in layers.items()
    }
