"""Optimisers to choose from. A new one is its fields plus `build`, and a name in TrainConfig.optimizer's union."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trainer.schema import Section


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): the dependable choice."""

    name: Literal["adamw"] = "adamw"
    """Which rule turns gradients into learning. AdamW is dependable; Prodigy finds its own rate."""
    lr: float = Field(default=2e-4, gt=0, le=1)
    """The learning rate of the part that draws. Too low learns nothing in the time given, too high turns pictures to noise.
    What counts is this times alpha / rank."""
    text_encoder_lr: float = Field(default=5e-5, gt=0, le=1)
    """The learning rate of the part that reads. Usually a quarter of the other or less."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Pulls the adapter gently back to nothing. Seldom worth changing."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How long past gradients are remembered. Seldom worth changing."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """How long the size of past gradients is remembered. 0.99 adapts faster in short runs."""

    def build(self, groups: list[dict[str, Any]]) -> Any:
        """A torch optimiser over `groups` = [{"name": "unet"|"text_encoder…", "params": [...]}]."""
        import torch

        for group in groups:
            group["lr"] = self.lr if group["name"] == "unet" else self.text_encoder_lr
        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay)


class Prodigy(Section):
    """Finds its own step size (Mishchenko & Defazio 2023). Keep alpha equal to rank and the schedule constant."""

    name: Literal["prodigy"] = "prodigy"
    """Which rule turns gradients into learning. AdamW is dependable; Prodigy finds its own rate."""
    lr: float = Field(default=1.0, gt=0, le=10)
    """A factor on the rate it finds. Leave at 1 and change the next field instead."""
    d_coef: float = Field(default=1.0, gt=0, le=10)
    """How bold the estimate is: 0.5 for careful, 2 for quick."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Pulls the adapter gently back to nothing."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How long past gradients are remembered. Seldom worth changing."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """How long the size of past gradients is remembered."""
    bias_correction: bool = True
    """Make up for the short memory of the first steps."""
    safeguard_warmup: bool = True
    """Keep the estimate from growing while the schedule is still warming up."""

    def build(self, groups: list[dict[str, Any]]) -> Any:
        """A prodigyopt optimiser; all groups share one estimate, as the algorithm requires."""
        import prodigyopt

        rule: Any = prodigyopt.Prodigy

        for group in groups:
            group["lr"] = self.lr
        return rule(
            groups, lr=self.lr, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay, decouple=True,
            d_coef=self.d_coef, use_bias_correction=self.bias_correction, safeguard_warmup=self.safeguard_warmup,
        )
