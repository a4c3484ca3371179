"""The exponential moving average (EMA) of the adapter: what is saved where it is on. Updated by the OptimizerStepper."""

from __future__ import annotations

from typing import Any

import torch


class Ema:
    """θ̄ ← d·θ̄ + (1-d)·θ with d = min(decay, (1+n)/(10+n)), so that the start is soon forgotten (Polyak & Juditsky 1992;
    the warm-up as TensorFlow's moving average has it)."""

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.updates = parameters, decay, 0
        self.values = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now; on the device, without a host sync."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter.detach(), 1 - decay)

    def copy_to(self) -> None:
        """Make the parameters what the average is."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.data.copy_(value)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"taken": self.updates, "values": self.values}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.updates = state["taken"]
        for value, kept in zip(self.values, state["values"], strict=True):
            value.copy_(kept)
