"""Our side of a training case: the calls the recipe makes between two polls, nothing left out and nothing added."""

from __future__ import annotations

import time
from typing import Any

import torch

from bench import setting
from bench.cases import Case
from trainer.engine.inference.vae import decode
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.output.metrics import StepMetrics
from trainer.engine.speed import cuda_graphs, device, offload, onednn
from trainer.engine.text import encode
from trainer.engine.train import settle_base


class Ours:
    """Trains; `step()` makes one optimiser step and returns its loss."""

    def __init__(self, case: Case) -> None:
        self.notes: list[str] = []
        self.config = setting.config_of(case)
        parts = setting.load_parts(case)
        device.choose_attention(parts.unet, self.config.memory, parts.device, parts.dtype)
        device.choose_layout(parts.unet, parts.device, parts.dtype)
        adapter = Adapter(parts, self.config)
        settle_base(self.config, parts)
        onednn.enable_onednn(parts)
        self.adapter = adapter
        self.guard = OptimizerStepper(self.config, adapter, parts.device, parts.dtype)
        maker = TrainingObjective(self.config, parts, adapter, setting.ReadyLatents(parts))
        offload.rest(parts, self.config, maker.text_learns)
        self.taker, self.graphs = cuda_graphs.choose(self.config, maker, self.guard, self.notes.append)
        self.batches = setting.batches(case, self.config)
        self.told: list[Any] = []
        self.outcome = StepMetrics(1000, self.told.append, parts.device)
        self.number = 0

    def step(self) -> float:
        begun = time.perf_counter()
        looks = [next(self.batches)]
        self.adapter.begin(self.number, 1000, self.config.run.seed)
        loss, finite = self.taker.take(self.number, looks, self.config.schedule.factor(self.number, 1000))
        self.number += 1
        self.outcome.add(self.number, loss, finite, self.guard.rates(), time.perf_counter() - begun)
        return float(loss) if loss.device.type == "cpu" else float("nan")

    @torch.no_grad()
    def draw(self) -> None:
        """What a picture between two steps takes: words read, the UNet once, the VAE."""
        parts = self.taker.maker.parts
        side = self.config.images.resolution or parts.facts.resolution
        noisy = torch.randn(2, parts.unet.config.in_channels, side // 8, side // 8, device=parts.device, dtype=parts.dtype)
        looks = [next(self.batches)[0]] * 2
        with self.taker.maker.autocast():
            told = encode.encode(parts, ["", "a fox"]) | parts.family.describe(parts, looks)
            parts.family.predict(parts, noisy, torch.tensor([500, 500], device=parts.device), told)
        decode(parts.vae, noisy[:1].float())

    def losses(self) -> list[float]:
        """All losses so far."""
        self.outcome.flush()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return [event.loss for event in self.told]
