"""Learning-rate (LR) schedulers as pure functions of the step, so that resuming needs no state. Factors multiply the rates."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from trainer.core.schema import Section


class Schedule(Section):
    """A learning-rate schedule with warm-up: `shape` is all that differs."""

    warmup: float = Field(default=0.05, ge=0, le=0.9)
    """The fraction of the run in which the learning rate rises from zero, which avoids large changes in the first steps.
    0.05 is plenty."""

    def factor(self, step: int, total: int) -> float:
        """The factor at `step` (0-based) of `total`: warm-up first, then this schedule's own shape."""
        warm = round(self.warmup * total)
        if step < warm:
            return (step + 1) / (warm + 1)
        return self.shape((step - warm) / max(1, total - warm))

    def shape(self, progress: float) -> float:
        """The factor on the learning rate, 0..1, at `progress` 0..1 of what follows the warm-up."""
        return 1.0


class Constant(Schedule):
    """The same rate to the end. What Prodigy wants."""

    name: Literal["constant"] = "constant"
    """The scheduler: how the learning rate changes over the run. Cosine ends gently, constant stays, linear falls
    evenly."""


class Linear(Schedule):
    """Falls evenly to nothing."""

    name: Literal["linear"] = "linear"
    """The scheduler: how the learning rate changes over the run. Cosine ends gently, constant stays, linear falls
    evenly."""

    def shape(self, progress: float) -> float:
        return 1.0 - progress


class Cosine(Schedule):
    """Half a cosine from full to nothing (Loshchilov & Hutter 2017): a gentle end."""

    name: Literal["cosine"] = "cosine"
    """The scheduler: how the learning rate changes over the run. Cosine ends gently, constant stays, linear falls
    evenly."""

    def shape(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


class CosineWithRestarts(Schedule):
    """Several half cosines one after another (SGDR, Loshchilov & Hutter 2017): each restart shakes the run loose."""

    name: Literal["cosine_with_restarts"] = "cosine_with_restarts"
    """The scheduler: how the learning rate changes over the run. Cosine ends gently, constant stays, linear falls
    evenly."""
    cycles: int = Field(default=3, ge=1, le=100)
    """The number of cycles: how many times the learning rate falls from full to zero. Best with a checkpoint at the end of
    each cycle."""

    def shape(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * (progress * self.cycles % 1.0)))


class Polynomial(Schedule):
    """(1 - progress) to a power: 1 is linear, more falls earlier."""

    name: Literal["polynomial"] = "polynomial"
    """The scheduler: how the learning rate changes over the run. Cosine ends gently, constant stays, linear falls
    evenly."""
    power: float = Field(default=2.0, gt=0, le=10)
    """The power of the polynomial: above 1 the learning rate falls early and ends long and gently, below 1 it stays high
    and falls late."""

    def shape(self, progress: float) -> float:
        return (1.0 - progress) ** self.power


class Rex(Schedule):
    """(1 - p) / (1 - p/2) (REX, Chen et al. 2022): stays high and falls late, good for short runs."""

    name: Literal["rex"] = "rex"
    """The scheduler: how the learning rate changes over the run. Cosine ends gently, constant stays, linear falls
    evenly."""

    def shape(self, progress: float) -> float:
        return (1.0 - progress) / (1.0 - progress / 2)
