"""The optimiser behind a guard: a step whose loss or gradient is not finite changes nothing. Called once a step."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config.train import TrainConfig
from trainer.engine.inject import Adapter


class Guard:
    """Clips, checks and steps. On CUDA with fused AdamW the check stays on the device: no host sync."""

    def __init__(
        self, config: TrainConfig, adapter: Adapter, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.adapter, self.clip, self.device = adapter, config.run.max_grad_norm, device
        self.scale = 4096.0 if dtype == torch.float16 else 1.0
        """What the loss is multiplied by, so that small gradients survive fp16 (Micikevicius et al. 2018)."""
        self._good_in_row = 0
        self.optimizer = config.optimizer.build(adapter.groups())
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.rate_factor = 1.0
        """Halved once after a breakdown; kept in checkpoints."""
        self.on_device = device.type == "cuda" and isinstance(self.optimizer, torch.optim.AdamW) and self.scale == 1.0
        if isinstance(self.optimizer, torch.optim.AdamW) and device.type in ("cuda", "cpu"):
            for group in self.optimizer.param_groups:
                group["fused"], group["foreach"] = True, False  # one call for all tensors instead of ten for each

    def update(self, loss: torch.Tensor, factor: float) -> torch.Tensor:
        """One optimiser step at `factor` times the rates; returns a 0-dim bool on the device: whether it was made."""
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor * self.rate_factor
        parameters = [p for p in self.adapter.parameters() if p.grad is not None]
        if self.scale != 1.0:
            for gradient in (p.grad for p in parameters if p.grad is not None):
                gradient.mul_(1 / self.scale)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = torch.isfinite(norm) & torch.isfinite(loss)
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        if self.on_device:
            self.optimizer.grad_scale, self.optimizer.found_inf = None, (~finite).float()
            self.optimizer.step()
        elif bool(finite):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.scale != 1.0:
            self._rescale(bool(finite))
        return finite

    def _rescale(self, finite: bool) -> None:
        """Half the scale after an overflow, twice after 500 good steps in a row."""
        self._good_in_row = self._good_in_row + 1 if finite else 0
        if not finite:
            self.scale = max(2.0, self.scale / 2)
        elif self._good_in_row % 500 == 0:
            self.scale = min(65536.0, self.scale * 2)

    def rates(self) -> dict[str, float]:
        """The learning rates now, by part; Prodigy's with its own estimate in."""
        return {g["name"]: float(g["lr"]) * float(g.get("d", 1.0)) for g in self.optimizer.param_groups}

    def state(self) -> dict[str, Any]:
        """The optimiser's state for a checkpoint, on the CPU."""
        return _to_cpu(self.optimizer.state_dict())

    def load(self, state: dict[str, Any], rate_factor: float) -> None:
        """Go on from a checkpoint's state."""
        self.optimizer.load_state_dict(state)
        self.rate_factor = rate_factor


def _to_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _to_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to_cpu(inner) for inner in value]
    return value
