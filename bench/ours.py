"""Our side of a training case: the calls the recipe makes between two polls, nothing left out and nothing added."""

from __future__ import annotations

import time
from typing import Any

import torch

from bench import setting
from bench.cases import Case
from trainer.engine import device, graphs, kernels
from trainer.engine.guard import Guard
from trainer.engine.inject import Adapter
from trainer.engine.outcome import Outcome
from trainer.engine.step import StepMaker
from trainer.engine.train import checkpoint_gradients


class Ours:
    """Trains; `step()` makes one optimiser step and returns its loss."""

    def __init__(self, case: Case) -> None:
        self.notes: list[str] = []
        self.config = setting.config_of(case)
        parts = setting.load_parts(case)
        device.choose_attention(parts.unet, self.config.memory, parts.device, parts.dtype)
        device.choose_layout(parts.unet, parts.device, parts.dtype)
        adapter = Adapter(parts, self.config)
        if case.checkpointing:
            checkpoint_gradients(parts)
        kernels.quicken(parts)
        self.adapter = adapter
        self.guard = Guard(self.config, adapter, parts.device, parts.dtype)
        maker = StepMaker(self.config, parts, adapter, setting.ReadyLatents(parts))
        self.taker, self.graphs = graphs.choose(self.config, maker, self.guard, self.notes.append)
        self.batches = setting.batches(case, self.config)
        self.told: list[Any] = []
        self.outcome = Outcome(1000, self.told.append, parts.device)
        self.number = 0

    def step(self) -> float:
        begun = time.perf_counter()
        looks = [next(self.batches)]
        self.adapter.begin(self.number, 1000, self.config.run.seed)
        loss, finite = self.taker.take(self.number, looks, self.config.schedule.factor(self.number, 1000))
        self.number += 1
        self.outcome.add(self.number, loss, finite, self.guard.rates(), time.perf_counter() - begun)
        return float(loss) if loss.device.type == "cpu" else float("nan")

    def losses(self) -> list[float]:
        """All losses so far."""
        self.outcome.flush()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return [event.loss for event in self.told]
