"""Which picture is looked at when, and how. Every choice is a pure function of (seed, step), so resuming needs no state."""

from __future__ import annotations

import random
from collections.abc import Iterator

from trainer.config import plan
from trainer.config.train import TrainConfig
from trainer.core.problem import Problem
from trainer.images.captions.files import read_lines
from trainer.images.geometry import buckets
from trainer.images.geometry.augment import AugmentationSettings
from trainer.images.set import subsets
from trainer.images.set.examples import NO_AUGMENTATION, Example, Size, View, augmentation_of, derive_seed


def load_examples(config: TrainConfig, resolution: int) -> list[Example]:
    """The pictures of `config.images` with the format each is trained in, once for every training size.

    Problem where there are none.
    """
    pictures = subsets.pictures(config.images)
    if not pictures:
        raise Problem("no_pictures", field="images.folder", folder=config.images.folder or "–")
    captions = {
        p: (read_lines(p.caption_file, p.encoding) if config.captions.one_per_line else ()) or (p.caption,) for p in pictures
    }
    items = []
    for side in sizes(config, resolution):
        step = buckets.step_for(side, config.images.bucket_resolution_step)
        images = config.images
        formats = buckets.buckets(side, step, images.bucket_ratio, images.bucket_dense) if images.buckets else [(side, side)]
        for p in pictures:
            bucket = buckets.assign(p.width, p.height, formats, upscale=config.images.upscale, step=step)
            items.append(Example(p, bucket, captions[p], p.weight))
    return list(dict.fromkeys(items))  # a small picture that is not enlarged has the same format at every size


def sizes(config: TrainConfig, resolution: int) -> tuple[int, ...]:
    """The training sizes, the main one first."""
    return tuple(dict.fromkeys((resolution, *config.images.extra_resolutions)))


class BucketBatchSampler:
    """The order of looks: full batches of one format each, every picture equally often in the long run.

    Each format has its own endless stream of shuffled rounds; a batch is the next `batch` entries of one stream. Formats
    take turns by stride: always the one furthest behind its share, so batch n is the same however often the run resumed.
    """

    def __init__(
        self,
        items: list[Example],
        batch: int,
        seed: int,
        flip: bool,
        crops: int = 1,
        forms: AugmentationSettings = NO_AUGMENTATION,
    ) -> None:
        self.batch, self.seed, self.flip, self.crops, self.forms = batch, seed, flip, crops, forms
        self.streams: dict[Size, list[Example]] = {}
        for item in items:
            self.streams.setdefault(item.bucket, []).extend([item] * max(1, item.picture.repeats))
        self.length = sum(map(len, self.streams.values()))
        self.orders: dict[Size, tuple[int, list[int]]] = {}
        """Each format's newest round and its shuffled order: shuffled once a round, not once a look."""

    def batches(self, start: int = 0) -> Iterator[list[View]]:
        """Batches number `start`, `start + 1`, … without end."""
        done = dict.fromkeys(self.streams, 0)
        count = 0
        while True:
            size = max(self.streams, key=lambda s: (len(self.streams[s]) * (count + 1) / self.length - done[s], s))
            if count >= start:
                yield self._batch(size, done[size])
            done[size] += 1
            count += 1

    def _batch(self, size: Size, number: int) -> list[View]:
        return [self._look(size, number * self.batch + i) for i in range(self.batch)]

    def _look(self, size: Size, position: int) -> View:
        stream = self.streams[size]
        turn, place = divmod(position, len(stream))
        order = self._order(size, turn)
        flipped = self.flip and random.Random(derive_seed(self.seed, "flip", size, position)).random() < 0.5
        cut = random.Random(derive_seed(self.seed, "cut", size, position)).randrange(self.crops)
        number = random.Random(derive_seed(self.seed, "form", size, position)).randrange(self.forms.count)
        return View(stream[order[place]], flipped, cut, augmentation_of(stream[order[place]], number, self.forms))

    def _order(self, size: Size, turn: int) -> list[int]:
        known, order = self.orders.get(size, (-1, []))
        if known != turn:
            order = list(range(len(self.streams[size])))
            random.Random(derive_seed(self.seed, "order", size, turn)).shuffle(order)
            self.orders[size] = turn, order
        return order


def total_steps(config: TrainConfig, items: list[Example]) -> int:
    """The optimizer steps of a run over `items`. An image of several sizes is several items and counts once an epoch."""
    repeats = {item.picture.file: item.picture.repeats for item in items}
    return plan.total_steps(config, plan.epoch_images(config, list(repeats.values())))
