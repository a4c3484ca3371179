"""Every optimiser behind the guard: it learns, goes on exactly, and has a stand-in where it does not work."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest
import torch

from trainer.config import load
from trainer.config.options import option
from trainer.config.train import TrainConfig
from trainer.engine.optim.ema import Ema
from trainer.engine.optim.optimizer import OptimizerStepper

CPU = torch.device("cpu")
OPTIMIZERS = [name for name in option("optimizer.name").choices if "8bit" not in name]


class Layers:
    """Four matrices in two parts that are to become given ones: the smallest thing with groups."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weights = [torch.nn.Parameter(torch.randn(8, 24, generator=generator) * 0.1) for _ in range(4)]
        self.aims = [torch.randn(8, 24, generator=generator) * 0.1 for _ in range(4)]

    def groups(self):
        return [{"name": "unet", "params": self.weights[:2]}, {"name": "text_encoder", "params": self.weights[2:]}]

    def parameters(self):
        return self.weights

    def after_step(self) -> None:
        """No dropout here and no cap."""

    def loss(self) -> torch.Tensor:
        return sum((w - aim).pow(2).mean() for w, aim in zip(self.weights, self.aims, strict=True))  # type: ignore[return-value]


def stepper(config: TrainConfig, layers: Layers) -> OptimizerStepper:
    """An OptimizerStepper over what is no adapter, but has all of one that it asks for."""
    return OptimizerStepper(config, cast(Any, layers), CPU)


def steps(guard: OptimizerStepper, layers: Layers, start: int, end: int, look_at: tuple[int, ...] = ()) -> None:
    for step in range(start, end):
        loss = layers.loss()
        loss.backward()
        assert guard.update(loss.detach(), 1.0 - step / 100)
        if step in look_at:
            with guard.final_weights():
                layers.loss()


def everything(layers: Layers) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in layers.weights])


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_learns_and_goes_on_exactly(name, ema):
    config = load.build({}, overrides=[f"optimizer.name={name}", f"run.ema_decay={ema}"])
    layers = Layers()
    before = float(layers.loss().detach())
    guard = stepper(config, layers)
    assert guard.fallback_reason == ""
    steps(guard, layers, 0, 20, look_at=(3, 11))  # saving in between must leave no trace
    assert float(layers.loss().detach()) < before
    straight = everything(layers)
    with guard.final_weights():
        saved = everything(layers)
    assert torch.equal(everything(layers), straight)
    assert torch.equal(saved, straight) is (ema == 0 and name != "schedule_free")

    first = Layers()
    guard = stepper(config, first)
    steps(guard, first, 0, 9)
    for begin, end in ((9, 15), (15, 20)):
        state, values = guard.state(), [w.detach().clone() for w in first.weights]
        second = Layers()
        for weight, value in zip(second.weights, values, strict=True):
            weight.data.copy_(value)
        guard = stepper(config, second)
        guard.load(state, 1.0)
        steps(guard, second, begin, end)
        first = second
    assert torch.equal(everything(first), straight)
    with guard.final_weights():
        assert torch.equal(everything(first), saved)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_block_learns_so_many_times_as_fast_with_every_optimiser(name):
    """Four matrices alike, in groups of their own ratio: the first step is that share of the first one's."""
    ratios = [1.0, 0.5, 2.0, 0.0]

    class Alike(Layers):
        def __init__(self) -> None:
            super().__init__()
            self.aims = [self.aims[0]] * 4
            for weight in self.weights[1:]:
                weight.data.copy_(self.weights[0])

        def groups(self):
            return [{"name": "unet", "params": [w], "ratio": r} for w, r in zip(self.weights, ratios, strict=True)]

    layers = Alike()
    guard = stepper(load.build({}, overrides=[f"optimizer.name={name}", "optimizer.weight_decay=0"]), layers)
    before = layers.weights[0].detach().clone()
    steps(guard, layers, 0, 1)
    moves = [weight.detach() - before for weight in layers.weights]
    assert moves[0].abs().max() > 0
    for move, ratio in zip(moves, ratios, strict=True):
        assert torch.allclose(move, ratio * moves[0], rtol=1e-3, atol=1e-7), ratio
    steps(guard, layers, 1, 6)
    assert torch.equal(layers.weights[3].detach(), before)


@pytest.mark.parametrize("name", ["adamw8bit", "paged_adamw8bit", "lion8bit"])
def test_a_missing_library_gives_adamw_and_the_reason(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    guard = stepper(load.build({}, overrides=[f"optimizer.name={name}"]), Layers())
    assert isinstance(guard.optimizer, torch.optim.AdamW) and guard.fallback_reason.startswith("ModuleNotFoundError")
    assert guard.learning_rates() == {"unet": 2e-4, "text_encoder": 5e-5}


def test_an_optimiser_without_usable_numbers_gives_adamw(monkeypatch):
    from trainer.config.strategies.optimizers import Lion

    class Broken(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.fill_(float("nan"))

    monkeypatch.setattr(Lion, "build", lambda self, groups: Broken(groups, lr=1.0))
    layers = Layers()
    guard = stepper(load.build({}, overrides=["optimizer.name=lion"]), layers)
    assert isinstance(guard.optimizer, torch.optim.AdamW) and "usable" in guard.fallback_reason
    assert torch.isfinite(everything(layers)).all()


def test_a_bad_step_moves_nothing_with_any_optimiser():
    for name in OPTIMIZERS:
        layers = Layers()
        guard = stepper(load.build({}, overrides=[f"optimizer.name={name}"]), layers)
        steps(guard, layers, 0, 2)
        before = everything(layers)
        loss = layers.loss()
        loss.backward()
        layers.weights[1].grad[0, 0] = float("inf")  # type: ignore[index]
        assert not guard.update(loss.detach(), 1.0)
        assert torch.equal(everything(layers), before), name


def test_the_average_is_the_formula():
    weight = torch.nn.Parameter(torch.zeros(3))
    average, expected = Ema([weight], 0.9), torch.zeros(3)
    for n in range(1, 200):
        weight.data.fill_(float(n))
        average.update()
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight.detach()
    average.copy_to()
    assert torch.allclose(weight.detach(), expected, rtol=1e-5) and 180 < float(expected[0]) < 199
