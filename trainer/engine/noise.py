"""The forward process and the loss weights, as the base's own scheduler defines them.

Symbols as in Ho et al. 2020 and Salimans & Ho 2022: x0 clean latents, ε noise, ᾱ_t = `alphas_cumprod`, v velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class NoiseSchedule:
    """ᾱ_t of a base and what its UNet predicts."""

    alpha_bar: torch.Tensor
    """`[timesteps]` float32 on the training device."""
    prediction: str
    """`epsilon` or `v_prediction`."""

    @classmethod
    def of(cls, scheduler: Any, device: torch.device) -> NoiseSchedule:
        """Read from a diffusers scheduler, with its zero-terminal rescaling (Lin et al. 2024) where it has one."""
        from diffusers import DDPMScheduler  # pyright: ignore[reportPrivateImportUsage]

        ours: Any = DDPMScheduler.from_config(scheduler.config)
        return cls(ours.alphas_cumprod.float().to(device), str(ours.config.prediction_type))

    @property
    def zero_terminal(self) -> bool:
        """Whether the last timestep holds no signal at all."""
        return float(self.alpha_bar[-1]) < 1e-6

    def noisy(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t = √ᾱ_t x0 + √(1-ᾱ_t) ε."""
        a, b = self._roots(t, x0.ndim)
        return a * x0 + b * noise

    def target(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """ε, or v = √ᾱ_t ε - √(1-ᾱ_t) x0."""
        if self.prediction == "epsilon":
            return noise
        a, b = self._roots(t, x0.ndim)
        return a * noise - b * x0

    def weight(self, t: torch.Tensor, gamma: float | None) -> torch.Tensor:
        """min-SNR weights `[batch]` (Hang et al. 2023): ε min(s,γ)/s, v min(s,γ)/(s+1).

        With a zero-terminal schedule the v form would forget the last timestep, where sampling begins, so it is
        (min(s,γ)+1)/(s+1) there.
        """
        if gamma is None:
            return torch.ones_like(t, dtype=torch.float32)
        alpha = self.alpha_bar[t]
        snr = alpha / (1 - alpha).clamp(min=1e-12)
        capped = snr.clamp(max=gamma)
        if self.prediction == "epsilon":
            return torch.where(snr > 0, capped / snr.clamp(min=1e-12), torch.ones_like(snr))
        return (capped + 1) / (snr + 1) if self.zero_terminal else capped / (snr + 1)

    def _roots(self, t: torch.Tensor, ndim: int) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.alpha_bar[t].view(-1, *[1] * (ndim - 1))
        return alpha.sqrt(), (1 - alpha).sqrt()


def draw_noise(shape: torch.Size, generator: torch.Generator, offset: float) -> torch.Tensor:
    """ε ~ N(0, 1), with `offset` times a constant per channel added (noise offset, Guttenberg 2023), on the CPU."""
    noise = torch.randn(shape, generator=generator)
    if offset:
        noise = noise + offset * torch.randn((*shape[:2], 1, 1), generator=generator)
    return noise
