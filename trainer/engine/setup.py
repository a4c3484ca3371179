"""The set-up of a training, written once: what is timed by the forecast and by bench is what runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.bases.families import ModelComponents
from trainer.config.plan import is_slider
from trainer.config.train import TrainConfig
from trainer.engine.base import main_size
from trainer.engine.data.batches import BucketBatchSampler, total_steps
from trainer.engine.data.latents import LatentCache
from trainer.engine.data.regularization import RegularizationSampler
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective import slider
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.speed import compiled, cuda_graphs, device, offload, onednn, quantize
from trainer.engine.speed.gradient_checkpointing import checkpoint_gradients
from trainer.engine.speed.step_graph import EagerStepper
from trainer.images.set.examples import Example, View, augmentations_of


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on. `config` is the run's own, or that of a slider with the images it generated as its folder."""

    config: TrainConfig
    examples: list[Example]
    held_out: list[Example]
    """Kept back for validation."""
    latents: LatentCache
    classes: RegularizationSampler | None = None


Source = Callable[[ModelComponents, Adapter], TrainingData]
"""Where the data comes from once base and adapter are there: encoded pictures, a measurement, or random latents."""


class TrainingRun:
    """A training set up to its first step: base, adapter, data, objective and optimizer, on their device.

    Called by the recipe (train.py), by the forecast (probes/forecast.py) and by bench (bench/ours.py), which hand in data of
    their own. `choose_stepper` comes last, when a checkpoint has been read: it may capture CUDA graphs and compile.
    """

    def __init__(
        self, config: TrainConfig, components: ModelComponents, source: Source, continue_from: Path | None = None
    ) -> None:
        self.components = components
        device_, dtype = components.device, components.dtype
        self.attention, self.attention_why = device.choose_attention(components.unet, config.memory, device_, dtype)
        self.layout = device.choose_layout(components.unet, device_, dtype)
        self.adapter = Adapter(components, config, continue_from)
        self.quantized, self.offloaded = place_base(config, components)
        self.data = source(components, self.adapter)
        self.config = self.data.config
        self.total = total_steps(self.config, self.data.examples)
        self.onednn = onednn.enable_onednn(components)
        self.optimizer = OptimizerStepper(self.config, self.adapter, device_, dtype)
        make = slider.maker(self.config)
        self.objective = make(self.config, components, self.adapter, self.data.latents, self.data.classes)
        self.idle = offload.rest(components, self.config, self.objective.text_learns)
        self.stepper: EagerStepper = EagerStepper(self.objective, self.optimizer)
        self.graphs = self.blocks = ""

    def choose_stepper(self, steps: int, lost: Callable[[str], None]) -> None:
        """How the `steps` that are left are taken: as CUDA graphs, with compiled blocks, or op by op. `lost` is called with
        the reason where graphs are given up later."""
        self.stepper, self.graphs = cuda_graphs.choose(self.config, self.objective, self.optimizer, lost)
        graphed = "graph" in self.graphs.split(":")[0]
        self.blocks = "eager: graphs are on" if graphed else self._compile(steps)

    def step(self, step: int, views: list[list[View]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Optimizer step number `step`, from one list of views a micro-batch: the mean loss and whether all was finite, both
        scalars on the device."""
        self.adapter.before_step(step, self.total, self.config.run.seed)
        return self.stepper.take(step, views, self.config.schedule.factor(step, self.total))

    def sampler(self) -> BucketBatchSampler:
        """The batches of the run, in an order that follows from its seed."""
        run, images = self.config.run, self.config.images
        shown = (images.flip_augment, images.random_crops, augmentations_of(images))
        return BucketBatchSampler(self.data.examples, run.batch_size, run.seed, *shown)

    def facts(self) -> dict[str, Any]:
        """How the run is set up, for the `started` event and for comparing two set-ups."""
        where = self.components.device
        return {
            "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
            "dtype": str(self.components.dtype).removeprefix("torch."),
            "attention": self.attention,
            "attention_why": self.attention_why,
            "products": "onednn" if self.onednn else "torch",
            "graphs": self.graphs,
            "blocks": self.blocks,
            "layout": self.layout,
            "trainable": sum(parameter.numel() for parameter in self.adapter.parameters()),
            "pictures": len(self.data.examples),
            "base_precision": self.config.memory.quantize_base,
            "layers_in_few_bits": self.quantized,
            "modules": len(self.adapter.layers),
            "offload": self.offloaded,
            "resting": self.idle,
            "resolution": main_size(self.config, self.components),
            "held_out": len(self.data.held_out),
            "base": self.components.facts.id,
            "torch": torch.__version__,
        }

    def _compile(self, steps: int) -> str:
        """Compile the UNet's repeated blocks where asked for; timed on the bucket that most pictures have."""
        memory, objective = self.config.memory, self.objective
        if memory.compile == "off":
            return "eager: asked"
        if memory.offload_fraction:
            return "eager: blocks that wait in main memory come and go"
        if is_slider(self.config):
            return "eager: a slider's step has two signs"
        buckets = Counter(example.bucket for example in self.data.examples)
        common, _ = buckets.most_common(1)[0]
        views = [View(next(e for e in self.data.examples if e.bucket == common), False)] * self.config.run.batch_size
        batch = objective.draw(0, 0, views).to(self.components.device)
        return compiled.choose(
            self.components.unet,
            memory.compile,
            steps * self.config.run.gradient_accumulation,
            len(buckets),
            lambda: objective.predict(batch, batch.captions),
            objective.autocast,
        )


def place_base(config: TrainConfig, parts: ModelComponents) -> tuple[int, str]:
    """The frozen base, with the adapter in it, as it is held from here on: in few bits, partly in main memory, its activations
    computed twice. Returns how many layers are in few bits, and which blocks wait, for the log."""
    away = offload.chosen(parts, config.memory.offload_fraction)
    few = quantize.settle(parts, config.memory.quantize_base, away)
    if config.memory.checkpoints:
        checkpoint_gradients(parts)
    return few, offload.settle(parts, away)
