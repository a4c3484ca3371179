"""From an image set to encoded examples, with the report on the set. Called by the recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.bases.families import ModelComponents
from trainer.config.plan import is_slider
from trainer.config.train import TrainConfig
from trainer.core import events, files
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.engine.base import Emit, main_size
from trainer.engine.data import batches as data
from trainer.engine.data.latents import LatentCache
from trainer.engine.text import encode
from trainer.images.captions.encodings import requested
from trainer.images.report.report import report
from trainer.images.set import subsets
from trainer.images.set.examples import Example, augmentations_of
from trainer.images.set.image_set import ImageSet


def prepare_examples(
    run: RunDir, config: TrainConfig, parts: ModelComponents, home: Home, tell: Emit
) -> tuple[list[Example], LatentCache]:
    """Report on the set, sort the pictures into formats, encode what is not encoded yet; names what had to be left out."""
    resolution = main_size(config, parts)
    items = data.load_examples(config, resolution)
    if not run.report.exists() and not is_slider(config):
        places = (Path(config.images.folder), *subsets.folders(config.images))
        own, *more = (ImageSet(place, read_only=True, encoding=requested(config.images.encoding)) for place in places)
        found = report(
            own,
            resolution,
            config.run.kind,
            config.captions.trigger,
            further=more,
            ratio=config.images.bucket_ratio,
            dense=config.images.bucket_dense,
        )
        files.write_json(run.report, found.as_json())
    latents = LatentCache(parts, home.cache / "latents", config.memory.cache_latents)
    limit = config.captions.max_token_length
    captions = [caption for item in items for caption in item.captions]
    long = encode.count_long(parts, captions, limit, config.captions.weighted)
    if long:
        tell(events.Note(code="long_captions", params={"count": long, "limit": limit}))
    images = config.images
    good = latents.prepare(items, images.flip_augment, encoding(tell), images.random_crops, augmentations_of(images))
    for item in items:
        if item not in good:
            tell(events.Note(code="picture_dropped", params={"picture": item.picture.original or item.picture.id}))
    return good, latents


def encoding(tell: Emit) -> Callable[[int, int], None]:
    """What is told while pictures are encoded."""
    return lambda done, of: tell(events.Stage(name="encoding", done=done, of=of))
