"""What is done where memory runs out in a step: once half batches, then a Problem with figures. Called by the recipe."""

from __future__ import annotations

from dataclasses import replace

from trainer.bases.families import ModelComponents
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.base import Emit, main_size
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.speed import cuda_graphs, device
from trainer.engine.speed.gradient_checkpointing import checkpoint_gradients
from trainer.formats.architectures import ARCHITECTURES, UNet
from trainer.hardware import memory


def step_down(
    error: BaseException, maker: TrainingObjective, config: TrainConfig, parts: ModelComponents, adapter: Adapter, tell: Emit
) -> None:
    """Once: half batches twice and gradient checkpointing, with the same sum. A second time is a Problem with figures."""
    for parameter in adapter.parameters():
        parameter.grad = None
    cuda_graphs.drop(parts)
    held = device.peak_memory(parts.device)
    free = device.bytes_available(parts.device)
    if maker.split > 1 or (config.run.batch_size == 1 and parts.unet.is_gradient_checkpointing):
        needed = max(held + device.bytes_requested(error), free + device.bytes_requested(error), counted_bytes(config, parts))
        raise Problem("memory_short", needed=f"{needed / 1e9:.1f}", free=f"{free / 1e9:.1f}") from error
    maker.split = 2
    checkpoint_gradients(parts)
    batch = -(-config.run.batch_size // 2)
    tell(events.Note(code="memory_down", params={"batch": batch, "accumulation": config.run.gradient_accumulation * 2}))


def counted_bytes(config: TrainConfig, parts: ModelComponents) -> int:
    """What counting says the settings take as they were stepped down to, or 0 where the base is not of its family's size."""
    family_name = parts.family.name
    if parts.device.type != "cuda" or UNet.from_config(parts.unet.config) != ARCHITECTURES[family_name].unet:
        return 0
    lora, side = config.lora, main_size(config, parts)
    plan = replace(memory.of_config(config, family_name, side), batch=-(-config.run.batch_size // 2), checkpointing=True)
    return memory.needed(family_name, side, plan, memory.trainable_parameters(family_name, lora))
