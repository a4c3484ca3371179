"""How much of a card's memory a training takes, and the settings that fit: plain arithmetic over counted bytes, no torch.

The bytes in memory_bytes.json were counted on models of real size without memory (engine/probes/count.py): computed, not
measured. Used by the Train page, the doctor, and the last sentence of a run that was short of memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.adapters.targets import choose
from trainer.formats.architectures import family_modules

if TYPE_CHECKING:
    from trainer.config.sections.lora import Lora
    from trainer.config.train import TrainConfig

COUNTED = Path(__file__).parent / "memory_bytes.json"
ASIDE, SHARE = 700_000_000, 1.1
"""What counting cannot see, a choice and no measurement: the CUDA context and the libraries' work spaces, and a tenth for gaps
between blocks."""
TILE = 512
"""Side of the pieces the VAE works in once a whole picture does not fit."""
STATE = 16
"""Bytes for each number that learns: itself, its gradient and AdamW's two averages, in fp32."""


@dataclass(frozen=True)
class MemoryPlan:
    """Settings of one plan, and the bytes they take. The base is in bf16 and latents are kept throughout, text
    encodings wherever no text encoder learns and captions are not `endless`; what is kept is not needed on the card. The
    optimiser is the one chosen (AdamW is counted)."""

    batch: int
    accumulation: int
    checkpointing: bool = False
    precision: str = "full"
    offload: float = 0.0
    text_encoder: bool = False
    endless: bool = False
    """Whether captions are new at every look (config.captions.endless): no option of the plan, but it needs the encoders."""
    bytes: int = 0

    def options(self) -> dict[str, Any]:
        """The plan as options by name."""
        return {
            "run.batch_size": self.batch, "run.gradient_accumulation": self.accumulation,
            "lora.train_text_encoder": self.text_encoder, "memory.gradient_checkpointing": self.checkpointing,
            "memory.quantize_base": self.precision,
            "memory.offload_fraction": self.offload,
        }  # fmt: skip


def needed(family: str, side: int, plan: MemoryPlan, trainable: int) -> int:
    """Bytes a training takes on a card: weights, what learns, and the largest of a step, a picture drawn between steps, and
    captions encoded. Pictures are `side` px wide and high; `trainable` counts the parameters that are trained.

    A step grows with the batch and with the area of the pictures (attention keeps no N x N matrix). Of the blocks that wait
    in main memory at most two are there at once, the one that computes and the next.
    """
    counts = counted()[family]
    area = (side / counts["side"]) ** 2
    step = counts["step"]["checkpointed" if plan.checkpointing else "plain"]
    most = step["always"] + step["each"] * plan.batch * area + counts["made_whole"].get(plan.precision, 0)
    weights = counts["weights"][plan.precision]
    resident, text = weights["unet"], weights["text"]
    if plan.offload:
        most += 2 * weights["largest"]
        resident -= plan.offload * weights["blocks"]
    if plan.text_encoder:
        most += counts["text_step"] * plan.batch
    if plan.text_encoder or (plan.endless and not plan.offload):
        resident, text = resident + text, 0
    most = max(most, counts["vae"] + counts["picture"] * (min(side, TILE) / counts["side"]) ** 2, text)
    return round((resident + STATE * trainable + most) * SHARE) + ASIDE


def plans(
    family: str, side: int, lora: Lora, batch: int = 1, accumulation: int = 1, endless: bool = False
) -> Iterator[MemoryPlan]:
    """The plans from the quickest to the smallest, all with the effective batch of `batch` x `accumulation`. The base loses 1 %
    before half of it waits, and 9 % only after all of it does."""
    first = MemoryPlan(batch, accumulation, text_encoder=lora.train_text_encoder, endless=endless)
    yield _counted(first, family, side, lora)
    small = replace(first, checkpointing=True)
    yield _counted(small, family, side, lora)
    while small.batch > 1:
        half = -(-small.batch // 2)
        small = replace(small, batch=half, accumulation=-(-batch * accumulation // half))
        yield _counted(small, family, side, lora)
    for precision, offload in (("int8", 0.0), ("int8", 0.5), ("int8", 1.0), ("int4", 1.0)):
        small = replace(small, precision=precision, offload=offload)
        yield _counted(small, family, side, lora)
    if lora.train_text_encoder and lora.train_unet:
        yield _counted(replace(small, text_encoder=False), family, side, lora)


def suggest(
    family: str, side: int, free: int, lora: Lora, batch: int = 1, accumulation: int = 1, endless: bool = False
) -> tuple[MemoryPlan, bool]:
    """The quickest plan that fits into `free` bytes and True, or the smallest there is and False."""
    plan = None
    for plan in plans(family, side, lora, batch, accumulation, endless):
        if plan.bytes <= free:
            return plan, True
    assert plan is not None
    return plan, False


def cheaper_than(config: TrainConfig, family: str, side: int, share: float) -> MemoryPlan | None:
    """The quickest plan that takes at most `share` of what the settings take, where they proved too large: as counted, so
    for a base and a device of any size. Else the least; None where the settings are the least already."""
    now = of_config(config, family, side)
    candidates = plans(
        family, side, config.lora, config.run.batch_size, config.run.gradient_accumulation, config.captions.endless
    )
    lower = [plan for plan in candidates if plan.bytes < now.bytes]
    return next((plan for plan in lower if plan.bytes <= share * now.bytes), lower[-1] if lower else None)


def of_config(config: TrainConfig, family: str, side: int) -> MemoryPlan:
    """The plan a config is as it stands."""
    lora, run, memory = config.lora, config.run, config.memory
    plan = MemoryPlan(
        run.batch_size,
        run.gradient_accumulation,
        memory.checkpoints,
        memory.quantize_base,
        memory.offload_fraction,
        lora.train_text_encoder,
        config.captions.endless,
    )
    return _counted(plan, family, side, lora)


def trainable_parameters(family: str, lora: Lora) -> int:
    """The trained parameters: of OFT out / r blocks of r x r, of (IA)³ one a row, else plain LoRA factors r x (in + out)."""
    layers = family_modules(family)

    def learns(shape: tuple[int, ...], rank: int) -> int:
        own = {"oft": shape[0] * rank, "ia3": shape[0], "full": prod(shape)}
        own["glora"] = rank * (shape[0] + prod(shape[1:]) + 2 * shape[1])
        return own.get(lora.type, rank * (shape[0] + prod(shape[1:])))

    return sum(learns(layers[key].shape, seat.rank) for key, seat in choose(layers, lora).items())


@cache
def counted() -> dict[str, Any]:
    """The counted bytes by family."""
    return json.loads(COUNTED.read_text("utf-8"))


def _counted(plan: MemoryPlan, family: str, side: int, lora: Lora) -> MemoryPlan:
    lora_of_plan = lora.model_copy(update={"train_text_encoder": plan.text_encoder})
    return replace(plan, bytes=needed(family, side, plan, trainable_parameters(family, lora_of_plan)))
