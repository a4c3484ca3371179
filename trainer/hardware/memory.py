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
    """Settings of one rung of the ladder, and the bytes they take. The base is in bf16 and latents are kept throughout, text
    encodings wherever no text encoder learns and captions are not `endless`; what is kept is not needed on the card. The
    optimiser is the one chosen (AdamW is counted)."""

    batch: int
    accumulation: int
    checkpointing: bool = False
    precision: str = "full"
    offload: float = 0.0
    text_encoder: bool = False
    endless: bool = False
    """Whether captions are new at every look (config.captions.endless): no option of the rung, but it needs the encoders."""
    bytes: int = 0

    def options(self) -> dict[str, Any]:
        """The rung as options by name."""
        return {
            "run.batch_size": self.batch, "run.gradient_accumulation": self.accumulation,
            "lora.train_text_encoder": self.text_encoder, "memory.gradient_checkpointing": self.checkpointing,
            "memory.quantize_base": self.precision,
            "memory.offload_fraction": self.offload,
        }  # fmt: skip


def needed(family: str, side: int, rung: MemoryPlan, numbers: int) -> int:
    """Bytes a training takes on a card: weights, what learns, and the largest of a step, a picture drawn between steps, and
    captions encoded.

    A step grows with the batch and with the area of the pictures (attention keeps no N x N matrix). Of the blocks that wait
    in main memory at most two are there at once, the one that computes and the next.
    """
    known = counted()[family]
    area = (side / known["side"]) ** 2
    step = known["step"]["checkpointed" if rung.checkpointing else "plain"]
    most = step["always"] + step["each"] * rung.batch * area + known["made_whole"].get(rung.precision, 0)
    weights = known["weights"][rung.precision]
    there, text = weights["unet"], weights["text"]
    if rung.offload:
        most += 2 * weights["largest"]
        there -= rung.offload * weights["blocks"]
    if rung.text_encoder:
        most += known["text_step"] * rung.batch
    if rung.text_encoder or (rung.endless and not rung.offload):
        there, text = there + text, 0
    most = max(most, known["vae"] + known["picture"] * (min(side, TILE) / known["side"]) ** 2, text)
    return round((there + STATE * numbers + most) * SHARE) + ASIDE


def ladder(
    family: str, side: int, lora: Lora, batch: int = 1, accumulation: int = 1, endless: bool = False
) -> Iterator[MemoryPlan]:
    """The rungs from the quickest to the smallest, all with the effective batch of `batch` x `accumulation`. The base loses 1 %
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


def propose(
    family: str, side: int, free: int, lora: Lora, batch: int = 1, accumulation: int = 1, endless: bool = False
) -> tuple[MemoryPlan, bool]:
    """The quickest rung that fits into `free` bytes and True, or the smallest there is and False."""
    rung = None
    for rung in ladder(family, side, lora, batch, accumulation, endless):
        if rung.bytes <= free:
            return rung, True
    assert rung is not None
    return rung, False


def below(config: TrainConfig, family: str, side: int, share: float) -> MemoryPlan | None:
    """The quickest rung that takes at most `share` of what the settings take, where they proved too large: as counted, so
    for a base and a device of any size. Else the least; None where the settings are the least already."""
    now = of_config(config, family, side)
    rungs = ladder(family, side, config.lora, config.run.batch_size, config.run.gradient_accumulation, config.captions.endless)
    lower = [rung for rung in rungs if rung.bytes < now.bytes]
    return next((rung for rung in lower if rung.bytes <= share * now.bytes), lower[-1] if lower else None)


def of_config(config: TrainConfig, family: str, side: int) -> MemoryPlan:
    """The rung a config stands on as it is."""
    lora, run, memory = config.lora, config.run, config.memory
    rung = MemoryPlan(
        run.batch_size,
        run.gradient_accumulation,
        memory.checkpoints,
        memory.quantize_base,
        memory.offload_fraction,
        lora.train_text_encoder,
        config.captions.endless,
    )
    return _counted(rung, family, side, lora)


def numbers_of(family: str, lora: Lora) -> int:
    """How many numbers learn: of OFT out / r blocks of r x r, of (IA)³ one a row, else plain LoRA factors r x (in + out)."""
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


def _counted(rung: MemoryPlan, family: str, side: int, lora: Lora) -> MemoryPlan:
    learns = lora.model_copy(update={"train_text_encoder": rung.text_encoder})
    return replace(rung, bytes=needed(family, side, rung, numbers_of(family, learns)))
