"""Judges a run on pictures it does not learn from: which they are, their loss against the untouched base's, and which
checkpoint is best. Called by the recipe; a judgement is a pure function of the weights.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from trainer.config.sections.learning import Validation
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.objective.step import TrainingBatch, TrainingObjective
from trainer.images.captions.captions import training_caption
from trainer.images.set.examples import Example, View, derive_seed

LEVELS = 8
"""Noise levels each picture is judged at, evenly over the schedule: the middles of eight equal parts."""
FIRST = 10
"""How many judgements a run has where nothing is asked."""


def held_out(config: TrainConfig, items: list[Example]) -> tuple[list[Example], list[Example]]:
    """(kept back, learnt from). Pictures are named by file, original name or id, or drawn by the seed; one picture is
    kept back in all its sizes. Raises Problem where a name is not there or nothing is left to learn from."""
    wanted = config.validation
    files = sorted({item.picture.file for item in items})
    if wanted.images:
        chosen = {file for name in wanted.images for file in _named(name, items)}
    elif wanted.split:
        count = max(1, round(wanted.split * len(files)))
        chosen = set(random.Random(derive_seed(config.run.seed, "held out")).sample(files, count))
    else:
        return [], items
    rest = [item for item in items if item.picture.file not in chosen]
    if not rest:
        raise Problem("validation_all", field=f"validation.{'images' if wanted.images else 'split'}")
    return [item for item in items if item.picture.file in chosen], rest


@dataclass(frozen=True)
class Judgement:
    """The loss on the held-out pictures at one step, as a share of the untouched base's: below 1 is better."""

    step: int
    ratio: float


class Validator:
    """Judges when it is time and remembers what it found. `seen` goes into checkpoints."""

    def __init__(
        self,
        wanted: Validation,
        held: list[Example],
        maker: TrainingObjective,
        total: int,
        tell: Callable[[events.Event], None],
    ) -> None:
        self.maker, self.tell, self.patience = maker, tell, wanted.patience
        self.every = wanted.every or max(1, math.ceil(total / FIRST))
        self.batches = [self._batch(number, item) for number, item in enumerate(held)]
        self.base: float | None = None
        self.seen: list[Judgement] = []

    def due(self, step: int, saved: bool) -> bool:
        """Whether `step` is to be judged: in its turn, and with every checkpoint."""
        return bool(self.batches) and (saved or step % self.every == 0)

    def judge(self, step: int) -> None:
        """Measure now and tell it. The adapter must stand as it would be saved (`Guard.finished`)."""
        if any(one.step == step for one in self.seen):
            return
        if self.base is None:
            with self.maker.adapter.disabled():
                self.base = self._loss()
        loss = self._loss()
        ratio = loss / self.base if self.base else float("nan")
        if math.isfinite(ratio):
            self.seen.append(Judgement(step, ratio))
            self.tell(events.Validated(step=step, loss=loss, base=self.base, ratio=ratio, best=self.best().step))

    def best(self) -> Judgement:
        """The judgement with the lowest ratio, the earliest of equals."""
        return min(self.seen, key=lambda one: one.ratio)

    def settled(self) -> bool:
        """Whether the last `patience` judgements brought nothing better. Those of checkpoints asked for in between do
        not count, so that a run that was stopped and went on ends where it would have ended."""
        ratios = [one.ratio for one in self.seen if one.step % self.every == 0]
        return bool(self.patience and ratios) and len(ratios) - 1 - ratios.index(min(ratios)) >= self.patience

    def go_back(self, seen: list[tuple[int, float]]) -> None:
        """Remember what a checkpoint remembers, no more."""
        self.seen = [Judgement(int(step), float(ratio)) for step, ratio in seen]

    def state(self) -> list[tuple[int, float]]:
        """For a checkpoint."""
        return [(one.step, one.ratio) for one in self.seen]

    def suggest(self, kept: list[int]) -> events.Note | None:
        """The end's word on which checkpoint to use, of those in `kept`; None where nothing was judged."""
        fit = [one for one in self.seen if one.step in kept]
        if not fit:
            return None
        best, last = min(fit, key=lambda one: one.ratio), fit[-1]
        told = {"step": best.step, "percent": _percent(best.ratio), "last": last.step, "last_percent": _percent(last.ratio)}
        if best.ratio >= 1:
            return events.Note(code="judged_none", params=told)
        if last.ratio <= best.ratio * 1.005:  # within half a per cent the difference says nothing
            return events.Note(code="judged_last", params=told)
        return events.Note(code="judged_earlier", params=told)

    def _batch(self, number: int, item: Example) -> TrainingBatch:
        """One picture at every noise level with noise of its own, the same at every judgement and in every run of a seed."""
        config, count = self.maker.config, len(self.maker.noise.alpha_bar)
        seed = derive_seed(config.run.seed, "judge", number)
        generator = torch.Generator().manual_seed(seed)
        looks = [View(item, False)] * LEVELS
        x0 = self.maker.latents.sample(looks, generator)
        noise = torch.randn(x0.shape, generator=generator)
        t = torch.tensor([(2 * level + 1) * count // (2 * LEVELS) for level in range(LEVELS)])
        plain = config.captions.model_copy(update={"dropout": 0.0, "tag_dropout": 0.0, "shuffle_tags": False})
        caption = training_caption(item.captions[0], plain, random.Random(seed))
        return TrainingBatch(looks, [caption] * LEVELS, x0, noise, noise, t, torch.ones(LEVELS))

    @torch.no_grad()
    def _loss(self) -> float:
        """Mean squared error over all held-out pictures and levels; reading it back is a host sync, between steps."""
        total = torch.zeros((), device=self.maker.parts.device)
        size = max(1, self.maker.config.run.batch_size)
        for batch in self.batches:
            for start in range(0, LEVELS, size):
                piece = batch[start : start + size].to(self.maker.parts.device)
                error = self.maker.predict(piece, piece.captions) - self.maker.noise.target(piece.x0, piece.noise, piece.t)
                total += error.pow(2).mean((1, 2, 3)).sum()
        return float(total) / (len(self.batches) * LEVELS)


def _named(name: str, items: list[Example]) -> set[Path]:
    found = {
        p.file
        for p in (item.picture for item in items)
        if name in (p.file.name, p.id, p.original, PurePosixPath(p.original).name)
    }
    if not found:
        raise Problem("validation_name", field="validation.images", picture=name)
    return found


def _percent(ratio: float) -> str:
    return f"{abs(1 - ratio) * 100:.1f}"
