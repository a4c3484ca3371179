"""What is measured, as data. Called by bench/__main__.py and by both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.problem import Problem


@dataclass(frozen=True)
class Case:
    """One measurement."""

    name: str
    kind: Literal["train", "preview", "prepare", "growth", "steady"] = "train"
    base: Literal["mini", "tiny", "sd1", "sdxl"] = "mini"
    """`mini` is the embedded base, `tiny` a UNet of half a million numbers; the others have the family's real size. All but
    the embedded one have random weights."""
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["fp32", "bf16"] = "fp32"
    batch: int = 1
    resolution: int = 128
    checkpointing: bool = False
    rounds: int = 6
    """How often the two sides take turns; the median round counts, so that a busy machine is fair to both."""
    steps: int = 3
    """Optimiser steps a round, or in all."""
    pictures: int = 64
    """In the set, where a set is prepared."""


def _gpu(base: Literal["sd1", "sdxl"], batch: int, resolution: int, checkpointing: bool) -> Case:
    name = f"{'sd15' if base == 'sd1' else base}-gpu-b{batch}{'-checkpointing' if checkpointing else ''}"
    return Case(name, base=base, device="cuda", dtype="bf16", batch=batch, resolution=resolution,
                checkpointing=checkpointing, steps=20)


CASES = (
    Case("mini-cpu-b1", batch=1),
    Case("mini-cpu-b4", batch=4),
    Case("mini-cpu-b4-bf16", batch=4, dtype="bf16"),
    Case("sd15-cpu-b1", base="sd1", batch=1, resolution=256, rounds=2, steps=1),
    Case("preview", kind="preview", rounds=15),
    Case("prepare", kind="prepare"),
    Case("prepare-1000", kind="prepare", pictures=1000),
    Case("growth", kind="growth", base="tiny", resolution=64, rounds=20),
    Case("steady", kind="steady", base="tiny", resolution=64, steps=10_000),
    *(_gpu("sd1", batch, 512, checkpointing) for batch in (1, 4, 16) for checkpointing in (False, True)),
    *(_gpu("sdxl", batch, 1024, checkpointing) for batch in (1, 4) for checkpointing in (False, True)),
)
HERE = tuple(
    case.name for case in CASES
    if case.device == "cpu" and case.base in ("mini", "tiny") and max(case.steps, case.pictures) < 1000
)
"""What runs where nothing is asked for."""


def case(name: str) -> Case:
    """The case called `name`, or a Problem naming those there are."""
    for known in CASES:
        if known.name == name:
            return known
    raise Problem("bench_unknown", case=name, cases=", ".join(c.name for c in CASES))
