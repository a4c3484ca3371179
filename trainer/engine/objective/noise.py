"""The forward process, timestep sampling and loss weighting (min-SNR), as the base's own scheduler defines them.

Symbols as in Ho et al. 2020 and Salimans & Ho 2022: x0 clean latents, ε noise, ᾱ_t = `alphas_cumprod`, v velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from trainer.config.sections.learning import Noise
from trainer.core.problem import Problem


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

    @cached_property
    def zero_terminal(self) -> bool:
        """Whether the last timestep holds no signal at all; read from the device once."""
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

    def weight(self, t: torch.Tensor, weighting: str, gamma: float | None = 5.0, compat: str = "own") -> torch.Tensor:
        """Weights `[batch]` by s = SNR(t) = ᾱ/(1-ᾱ). With w the weight of an error in x0, an error in ε counts w/s and one
        in v counts w/(s+1) (Salimans & Ho 2022).

        `min_snr` (Hang et al. 2023): w = min(s, γ). `debiased` (Yu et al. 2024): w = √s. With a zero-terminal schedule
        the v form would forget the last timestep, where sampling begins, so it is (w+1)/(s+1) there.

        `compat` `kohya` weighs as sd-scripts does (`apply_snr_weight`, `apply_debiased_estimation`): min(s, γ)/(s+1) for v
        whatever the schedule, and debiased with s cut at 1000, 1/√s for ε and 1/(s+1) for v.
        """
        if weighting == "none" or (weighting == "min_snr" and gamma is None):
            return torch.ones_like(t, dtype=torch.float32)
        alpha = self.alpha_bar[t]
        s = alpha / (1 - alpha).clamp(min=1e-12)
        if compat == "kohya" and weighting == "debiased":
            s = s.clamp(max=1000)
            if self.prediction == "v_prediction":
                return 1 / (s + 1)
        w = s.sqrt() if weighting == "debiased" else s.clamp(max=gamma)
        if self.prediction == "epsilon":
            return torch.where(s > 0, w / s.clamp(min=1e-12), torch.ones_like(s))
        return (w + 1) / (s + 1) if self.zero_terminal and compat == "own" else w / (s + 1)

    def huber_threshold(self, t: torch.Tensor, schedule: str, c: float) -> torch.Tensor:
        """Where pseudo-Huber losses turn from squares to lines, `[batch]`, as kohya's sd-scripts compute it
        (`--huber_schedule`; the idea of a scheduled pseudo-Huber loss is Khrapov et al. 2024, arXiv 2403.16728).

        `constant` c. `exponential` c^(t/T), 1 at the clean end, c at the noisy one. `snr` (1-c)/(1+σ)² + c with
        σ = √((1-ᾱ)/ᾱ) the noise beside the picture, so ∞ where a zero-terminal schedule ends and the threshold c.
        """
        if schedule == "exponential":
            return torch.pow(c, t.float() / len(self.alpha_bar))
        if schedule == "snr":
            alpha = self.alpha_bar[t]
            return (1 - c) / (1 + ((1 - alpha) / alpha).sqrt()) ** 2 + c
        return torch.full_like(t, c, dtype=torch.float32)

    def _roots(self, t: torch.Tensor, ndim: int) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.alpha_bar[t].view(-1, *[1] * (ndim - 1))
        return alpha.sqrt(), (1 - alpha).sqrt()


def draw_noise(
    shape: torch.Size, generator: torch.Generator, offset: float, pyramid: int = 0, discount: float = 0.3, compat: str = "own"
) -> torch.Tensor:
    """ε ~ N(0, 1) on the CPU, with `offset` times a constant per channel added (noise offset, Guttenberg 2023) and
    `pyramid` coarser noises, each `discount` times the one before (multi-resolution noise, Whitaker 2023).

    Of `pyramid` sizes each is two to four times coarser than the one before. With `compat` `kohya` they are those of
    sd-scripts' `pyramid_noise_like`: number i of 0, 1, … is rⁱ times coarser than the picture, r drawn anew from 2 to 4,
    and counts discountⁱ; the first is as fine as the picture, so that the coarse ones have a smaller share.
    """
    noise = torch.randn(shape, generator=generator)
    if offset:
        noise = noise + offset * torch.randn((*shape[:2], 1, 1), generator=generator)
    if not pyramid:
        return noise
    if compat == "kohya":
        return _kohya_pyramid(noise, generator, pyramid, discount)
    high, wide = shape[-2:]
    for level in range(1, pyramid + 1):
        shrink = 2 + 2 * float(torch.rand((), generator=generator))
        high, wide = max(1, int(high / shrink)), max(1, int(wide / shrink))
        coarse = torch.randn((*shape[:2], high, wide), generator=generator)
        noise = noise + discount**level * torch.nn.functional.interpolate(coarse, shape[-2:], mode="bilinear")
        if high == wide == 1:
            break
    return noise / noise.std()


def _kohya_pyramid(noise: torch.Tensor, generator: torch.Generator, count: int, discount: float) -> torch.Tensor:
    size = noise.shape[-2:]
    for level in range(count):
        shrink = (2 + 2 * float(torch.rand((), generator=generator))) ** level
        high, wide = (max(1, int(side / shrink)) for side in size)
        coarse = torch.randn((*noise.shape[:2], high, wide), generator=generator)
        noise = noise + discount**level * torch.nn.functional.interpolate(coarse, size, mode="bilinear")
        if 1 in (high, wide):
            break
    return noise / noise.std()


def draw_timesteps(count: int, steps: int, generator: torch.Generator, rule: Noise) -> torch.Tensor:
    """`[count]` int64 timesteps of `steps`: evenly, or ⌊range · sigmoid(N(shift, spread²))⌋ (Esser et al. 2024)."""
    low, high = rule.min_timestep * steps // 1000, max(1, rule.max_timestep * steps // 1000)
    low = min(low, high - 1)
    if rule.timestep_sampling == "uniform":
        return torch.randint(low, high, (count,), generator=generator)
    place = torch.sigmoid(rule.logit_mean + rule.logit_std * torch.randn(count, generator=generator))
    return (low + place * (high - low)).long().clamp(max=high - 1)


def predicting(scheduler: Any, prediction: str) -> Any:
    """`scheduler` itself, or one like it that takes the model's answer for `prediction`."""
    if scheduler.config.prediction_type == prediction:
        return scheduler
    return type(scheduler).from_config(scheduler.config, prediction_type=prediction)


def stretched_to_zero(scheduler: Any) -> Any:
    """A scheduler like a base's own with the zero-terminal schedule (Lin et al. 2024), for training and test pictures.

    Raises Problem for a base that predicts ε: where no signal is left, ε says nothing.
    """
    from diffusers import DDIMScheduler  # pyright: ignore[reportPrivateImportUsage]

    if str(scheduler.config.prediction_type) == "epsilon":
        raise Problem("zero_terminal_epsilon", field="noise.zero_terminal_snr")
    return DDIMScheduler.from_config(
        scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False
    )
