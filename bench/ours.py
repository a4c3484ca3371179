"""Our side of a training case: the calls the recipe makes between two polls, nothing left out and nothing added."""

from __future__ import annotations

import time
from typing import Any

import torch

from bench import setting
from bench.cases import Case
from trainer.engine.inference.vae import decode
from trainer.engine.output.metrics import StepMetrics
from trainer.engine.setup import TrainingRun
from trainer.engine.text import encode


class Ours:
    """Trains; `step()` makes one optimiser step and returns its loss."""

    def __init__(self, case: Case) -> None:
        self.notes: list[str] = []
        self.config = setting.config_of(case)
        parts = setting.load_parts(case)
        self.run = TrainingRun(self.config, parts, lambda components, _: setting.training_data(self.config, components))
        self.run.choose_stepper(setting.STEPS, self.notes.append)
        self.graphs = self.run.graphs
        self.batches = self.run.sampler().batches()
        self.told: list[Any] = []
        self.outcome = StepMetrics(setting.STEPS, self.told.append, parts.device)
        self.number = 0

    def step(self) -> float:
        begun = time.perf_counter()
        loss, finite = self.run.step(self.number, [next(self.batches)])
        self.number += 1
        self.outcome.add(self.number, loss, finite, self.run.optimizer.learning_rates(), time.perf_counter() - begun)
        return float(loss) if loss.device.type == "cpu" else float("nan")

    @torch.no_grad()
    def draw(self) -> None:
        """What a picture between two steps takes: words read, the UNet once, the VAE."""
        parts = self.run.components
        side = self.config.images.resolution or parts.facts.resolution
        noisy = torch.randn(2, parts.unet.config.in_channels, side // 8, side // 8, device=parts.device, dtype=parts.dtype)
        looks = [next(self.batches)[0]] * 2
        with self.run.objective.autocast():
            told = encode.encode(parts, ["", "a fox"]) | parts.family.added_conditioning(parts, looks)
            parts.family.predict(parts, noisy, torch.tensor([500, 500], device=parts.device), told)
        decode(parts.vae, noisy[:1].float())

    def losses(self) -> list[float]:
        """All losses so far."""
        self.outcome.flush()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return [event.loss for event in self.told]
