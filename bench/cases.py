"""What is measured, as data. Called by bench/__main__.py and by both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.config.sections.lora import Lora
from trainer.core.problem import Problem
from trainer.hardware import memory


@dataclass(frozen=True)
class Case:
    """One measurement."""

    name: str
    kind: Literal["train", "rung", "startup", "preview", "prepare", "growth", "steady"] = "train"
    base: Literal["mini", "tiny", "sd1", "sdxl"] = "mini"
    """`mini` is the embedded base, `tiny` a UNet of half a million numbers; the others have the family's real size. All but
    the embedded one have random weights."""
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["fp32", "bf16"] = "fp32"
    batch: int = 1
    resolution: int = 128
    checkpointing: bool = False
    precision: str = "full"
    offload: float = 0.0
    text_encoder: bool = True
    """Whether the text encoders learn; where they do not, both sides keep what they gave."""
    rounds: int = 6
    """How often the two sides take turns; the median round counts, so that a busy machine is fair to both."""
    steps: int = 3
    """Optimiser steps a round, or in all."""
    pictures: int = 64
    """In the set, where a set is prepared."""

    @property
    def large(self) -> bool:
        """Whether the base has its family's real size."""
        return self.base in ("sd1", "sdxl")


SIDES = {"sd1": 512, "sdxl": 1024}
NAMES = {"sd1": "sd15", "sdxl": "sdxl"}


def _gpu(base: Literal["sd1", "sdxl"], batch: int, checkpointing: bool) -> Case:
    name = f"{NAMES[base]}-gpu-b{batch}{'-checkpointing' if checkpointing else ''}"
    return Case(
        name,
        base=base,
        device="cuda",
        dtype="bf16",
        batch=batch,
        resolution=SIDES[base],
        checkpointing=checkpointing,
        text_encoder=base == "sd1",
        steps=20,
    )


def _rungs(base: Literal["sd1", "sdxl"], reads: bool) -> list[Case]:
    """The memory ladder at batch 1, and its lower end without fewer bits."""
    found = [(r.checkpointing, r.precision, r.offload) for r in memory.plans(base, SIDES[base], Lora(train_text_encoder=reads))]
    cases = []
    for checkpointing, precision, share in dict.fromkeys([*found, (True, "full", 0.5), (True, "full", 1.0)]):
        words = [
            "checkpointing" if checkpointing else "plain",
            *([precision] if precision != "full" else []),
            *([f"away{share * 100:.0f}"] if share else []),
            *(["text"] if reads else []),
        ]
        cases.append(
            Case(
                f"{NAMES[base]}-rung-{'-'.join(words)}",
                "rung",
                base,
                "cuda",
                "bf16",
                1,
                SIDES[base],
                checkpointing,
                precision,
                share,
                reads,
                steps=10,
            )
        )
    return cases


CASES = (
    Case("mini-cpu-b1", batch=1, rounds=8, steps=10),
    Case("mini-cpu-b4", batch=4, rounds=8, steps=10),
    Case("mini-cpu-b4-bf16", batch=4, dtype="bf16", rounds=8, steps=10),
    Case("sd15-cpu-b1", base="sd1", batch=1, resolution=256, rounds=4, steps=2),
    Case("start-up", kind="startup", rounds=3),
    Case("preview", kind="preview", rounds=15),
    Case("prepare", kind="prepare"),
    Case("prepare-1000", kind="prepare", pictures=1000),
    Case("growth", kind="growth", base="tiny", resolution=64, rounds=20),
    Case("steady", kind="steady", base="tiny", resolution=64, steps=10_000),
    *(_gpu("sd1", batch, checkpointing) for batch in (1, 4, 16) for checkpointing in (False, True)),
    *(_gpu("sdxl", batch, checkpointing) for batch in (1, 4) for checkpointing in (False, True)),
    *_rungs("sd1", True),
    *_rungs("sd1", False),
    *_rungs("sdxl", True),
    *_rungs("sdxl", False),
    Case("start-up-gpu", kind="startup", device="cuda", dtype="bf16", rounds=3),
    Case("preview-gpu", kind="preview", device="cuda", dtype="bf16", rounds=15),
    Case("prepare-gpu", kind="prepare", device="cuda", dtype="bf16", pictures=1000),
    Case("growth-gpu", kind="growth", base="tiny", device="cuda", dtype="bf16", resolution=64, rounds=20),
    Case("steady-gpu", kind="steady", base="tiny", device="cuda", dtype="bf16", resolution=64, steps=10_000),
)
HERE = tuple(case.name for case in CASES if case.device == "cpu" and not case.large and max(case.steps, case.pictures) < 1000)
"""What runs where nothing is asked for."""
ON_GPU = tuple(case.name for case in CASES if case.device == "cuda")
"""What `--gpu` runs."""


def case(name: str) -> Case:
    """The case called `name`, or a Problem naming those there are."""
    for known in CASES:
        if known.name == name:
            return known
    raise Problem("bench_unknown", case=name, cases=", ".join(c.name for c in CASES))
