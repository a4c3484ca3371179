"""A running average of the adapter (EMA): what is saved where it is on. Held by the guard, fed after every step."""

from __future__ import annotations

from typing import Any

import torch


class Ema:
    """θ̄ ← d·θ̄ + (1-d)·θ with d = min(decay, (1+n)/(10+n)), so that the start is soon forgotten (Polyak & Juditsky 1992;
    the warm-up as TensorFlow's moving average has it)."""

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.taken = parameters, decay, 0
        self.values = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def take(self) -> None:
        """Take in the parameters as they are now; on the device, without a host sync."""
        self.taken += 1
        decay = min(self.decay, (1 + self.taken) / (10 + self.taken))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter.detach(), 1 - decay)

    def put(self) -> None:
        """Make the parameters what the average is."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.data.copy_(value)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"taken": self.taken, "values": self.values}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.taken = state["taken"]
        for value, kept in zip(self.values, state["values"], strict=True):
            value.copy_(kept)
