"""The optimiser behind a guard: a step whose loss or gradient is not finite changes nothing. Called once a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.config.strategies.optimizers import AdamW
from trainer.config.train import TrainConfig
from trainer.engine.networks.adapter import Adapter
from trainer.engine.optim.ema import Ema


class OptimizerStepper:
    """Clips, checks and steps. On CUDA with fused AdamW the check stays on the device: no host sync."""

    def __init__(self, config: TrainConfig, adapter: Adapter, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.adapter, self.clip, self.device = adapter, config.run.max_grad_norm, device
        self.scale = 4096.0 if dtype == torch.float16 else 1.0
        """What the loss is multiplied by, so that small gradients survive fp16 (Micikevicius et al. 2018)."""
        self._good_in_row = 0
        self.optimizer, self.fallback_reason = build(config, adapter, device)
        """`fallback_reason`: why AdamW stands in for the optimiser asked for; empty where it does not."""
        group_ratios = [(group, group.get("ratio", 1.0)) for group in self.optimizer.param_groups]
        single_lr = config.optimizer.single_lr and not self.fallback_reason
        self.base_lrs = [group["lr"] * (1.0 if single_lr else ratio) for group, ratio in group_ratios]
        self.lr_ratios = [(p, ratio) for group, ratio in group_ratios for p in group["params"] if single_lr and ratio != 1.0]
        """What takes only a share of the step an optimiser with one rate for all makes, or more than that."""
        self.lrs, self.lr_in_tensors = list(self.base_lrs), False
        self.state_version = 0
        """Counts how often the optimiser's tensors were replaced by a checkpoint's."""
        self.ema = Ema(adapter.parameters(), config.run.ema_decay) if config.run.ema_decay else None
        self.lr_factor = 1.0
        """Halved once after a breakdown; kept in checkpoints."""
        self.on_device = device.type == "cuda" and isinstance(self.optimizer, torch.optim.AdamW) and self.scale == 1.0
        if isinstance(self.optimizer, torch.optim.AdamW) and device.type in ("cuda", "cpu"):
            for group in self.optimizer.param_groups:
                group["fused"], group["foreach"] = True, False  # one call for all tensors instead of ten for each

    def update(self, loss: torch.Tensor, factor: float) -> torch.Tensor:
        """One optimiser step at `factor` times the rates; returns a 0-dim bool on the device: whether it was made."""
        self.set_lr(factor)
        return self.after(self.step(loss))

    def set_lr(self, factor: float) -> None:
        """The learning rates of the next step: `factor` times the ones asked for."""
        self.lrs = [lr * factor * self.lr_factor for lr in self.base_lrs]
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Clip, check and step with the rates as they are set. With `on_device`, nothing here waits for the host."""
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
            self._step()
        return finite

    def after(self, finite: torch.Tensor) -> torch.Tensor:
        """What follows a step, made or not; returns `finite`."""
        self.adapter.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update()
        if self.scale != 1.0:
            self._rescale(bool(finite))
        return finite

    @torch.no_grad()
    def _step(self) -> None:
        before = [p.clone() for p, _ in self.lr_ratios]
        self.optimizer.step()
        for (parameter, share), value in zip(self.lr_ratios, before, strict=True):
            parameter.copy_(value + share * (parameter - value))

    def _rescale(self, finite: bool) -> None:
        """Half the scale after an overflow, twice after 500 good steps in a row."""
        self._good_in_row = self._good_in_row + 1 if finite else 0
        if not finite:
            self.scale = max(2.0, self.scale / 2)
        elif self._good_in_row % 500 == 0:
            self.scale = min(65536.0, self.scale * 2)

    @contextmanager
    def final_weights(self) -> Iterator[None]:
        """The adapter inside the block as it is saved, sampled and validated: averaged where an average is kept (EMA or a
        schedule-free optimiser). Afterwards every tensor is what it was, to the bit."""
        averages = self.ema is not None or hasattr(self.optimizer, "eval")
        parameters = self.adapter.parameters()
        before = [p.detach().clone() for p in parameters] if averages else []
        if hasattr(self.optimizer, "eval"):
            self.optimizer.eval()
        if self.ema is not None:
            self.ema.copy_to()
        try:
            yield
        finally:
            if hasattr(self.optimizer, "train"):
                self.optimizer.train()
            for parameter, value in zip(parameters, before, strict=False):
                parameter.data.copy_(value)

    def learning_rates(self) -> dict[str, float]:
        """The learning rates of this step, by part; with its own estimate in where an optimiser finds one."""
        groups = zip(self.optimizer.param_groups, self.lrs, strict=True)
        return {group["name"]: lr * float(group.get("d", 1.0)) for group, lr in groups}

    def keep_lr_in_tensors(self) -> None:
        """Keep the rates where a CUDA graph finds them: what is captured as a number stays that number."""
        self.lr_in_tensors = True
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = torch.tensor(lr, dtype=torch.float32, device=self.device)
            group["capturable"] = self.device.type == "cuda"

    def state(self) -> dict[str, Any]:
        """The state of the optimiser and of the average for a checkpoint, on the CPU."""
        state = {"optimizer": _plain(self.optimizer.state_dict())}
        if self.ema is not None:
            state["average"] = self.ema.state()
        return _to_cpu(state)

    def load(self, state: dict[str, Any], lr_factor: float) -> None:
        """Go on from a checkpoint's state."""
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:  # an estimate kept as a tensor: torch moves those of parameters alone
            group |= {k: v.to(self.device) for k, v in group.items() if isinstance(v, torch.Tensor) and v.ndim}
        self.state_version += 1
        if self.lr_in_tensors:
            self.keep_lr_in_tensors()
        if self.ema is not None:
            self.ema.load(state["average"])
        self.lr_factor = lr_factor


def build(config: TrainConfig, adapter: Adapter, device: torch.device) -> tuple[Any, str]:
    """The optimiser asked for, or AdamW and the reason. What stands on a library of its own makes a step on trial first."""
    options = config.optimizer
    why = options.optional and _failure(options, device)
    if not why:
        return options.build(adapter.groups()), ""
    return AdamW().build(adapter.groups()), str(why)


def _failure(options: Any, device: torch.device) -> str:
    """Why `wanted` cannot learn on this device, in its library's own words; empty where it can."""
    # Zeros show the smallest step; bitsandbytes uses 8 bits only above a certain size.
    weight = torch.nn.Parameter(torch.zeros(16, 512, device=device))
    before = weight.detach().clone()
    try:
        optimizer = options.build([{"name": "unet", "params": [weight]}])
        for _ in range(2):
            weight.grad = torch.linspace(-1, 1, weight.numel(), device=device).view_as(weight)
            optimizer.step()
    except (ImportError, OSError, RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
    if not bool(torch.isfinite(weight).all()) or torch.equal(weight, before):
        return "its steps give no usable numbers here"
    return ""


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state without what a CUDA graph needs, so that it goes on anywhere."""
    off = {"capturable": False}
    return state | {
        "param_groups": [
            group | {"lr": float(group["lr"])} | (off if "capturable" in group else {}) for group in state["param_groups"]
        ]
    }


def _to_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _to_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to_cpu(inner) for inner in value]
    return value
