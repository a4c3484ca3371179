"""Keeps what the base knows: class pictures looked at beside one's own, and captions for the comparison with the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from trainer.config.train import TrainConfig
from trainer.core import files
from trainer.core.problem import Problem
from trainer.engine.data.batches import BucketBatchSampler, load_examples
from trainer.engine.data.latents import LatentCache
from trainer.images.set.examples import Example, View


class RegularizationSampler:
    """The looks at class pictures, by batch number: batch n is the same however often a run resumed."""

    def __init__(self, items: list[Example], batch: int, seed: int, flip: bool) -> None:
        self.items = items
        self._plan = BucketBatchSampler(items, batch, seed, flip)
        self._next = 0
        self._batches: Iterator[list[View]] = self._plan.batches()

    def batch(self, number: int) -> list[View]:
        """Batch `number`, in any order; forwards one by one is quick."""
        if number != self._next:
            self._batches = self._plan.batches(number)
        self._next = number + 1
        return next(self._batches)


def class_looks(
    config: TrainConfig, resolution: int, latents: LatentCache, progress: Callable[[int, int], None]
) -> RegularizationSampler | None:
    """The class pictures of `config.preservation.regularization_folder`, encoded; None where there is none."""
    items = regularization_examples(config, resolution)
    if not items:
        return None
    good = latents.prepare(items, config.images.flip_augment, progress)
    return RegularizationSampler(good, config.run.batch_size, config.run.seed, config.images.flip_augment)


def regularization_examples(config: TrainConfig, resolution: int) -> list[Example]:
    """The class pictures with their captions, not encoded; none where no folder is asked for."""
    wanted = config.preservation
    if not wanted.regularization_folder:
        return []
    folder = files.expanded(wanted.regularization_folder)
    if not folder.is_dir():
        raise Problem("folder_missing", field="preservation.regularization_folder", folder=wanted.regularization_folder)
    images = config.images.model_copy(update={"folder": str(folder), "subsets": ()})
    try:
        items = load_examples(config.model_copy(update={"images": images}), resolution)
    except Problem as problem:
        raise Problem(problem.code, field="preservation.regularization_folder", **problem.params) from problem
    return [replace(item, captions=item.captions if any(item.captions) else (wanted.caption,)) for item in items]
