"""The pictures a training looks at: its main folder and further ones, each with what its pictures count. Used by the engine and
by the Train page's forecast.

A further folder is a line: `backgrounds = 0.5` (what an error counts), or `backgrounds = 0.5, 3` (shown thrice a round).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.lines import MAX_REPEATS, MAX_WEIGHT, read_subset
from trainer.core import files
from trainer.core.problem import Problem
from trainer.images.captions.encodings import requested
from trainer.images.intake.names import repeats_of
from trainer.images.set.image_set import ImageSet
from trainer.images.set.picture import Picture

if TYPE_CHECKING:
    from trainer.config.sections.images import Images
    from trainer.config.train import TrainConfig


def pictures(images: Images) -> list[Picture]:
    """All pictures in order, with the weight and the repeats that hold for them. Problem where a folder is missing."""
    encoding = requested(images.encoding, "images.encoding")
    result = ImageSet(Path(images.folder), encoding=encoding).pictures() if images.folder else []
    for subset in map(read_subset, images.subsets):
        folder = find(images.folder, subset.folder)
        times = subset.repeats or (repeats_of(folder.name) or (1, ""))[0]
        result += [
            replace(p, weight=min(p.weight * subset.weight, MAX_WEIGHT), repeats=min(p.repeats * times, MAX_REPEATS))
            for p in ImageSet(folder, encoding=encoding).pictures()
        ]
    return result


def folders(images: Images) -> list[Path]:
    """Where the further folders lie. Problem where one is missing."""
    return [find(images.folder, read_subset(line).folder) for line in images.subsets]


def check(config: TrainConfig) -> None:
    """Problem, beside its field, where a further folder is not there, or the one of what is to be kept is missing or empty."""
    _ = folders(config.images)
    if kept := config.preservation.regularization_folder:
        folder = files.expanded(kept)
        if not folder.is_dir():
            raise Problem("folder_missing", field="preservation.regularization_folder", folder=kept)
        if not ImageSet(folder, read_only=True).pictures():
            raise Problem("no_pictures", field="preservation.regularization_folder", folder=kept)


def find(main: str, folder: str) -> Path:
    """Where a further folder lies: inside the main one, beside it, or at a path of its own."""
    for place in (Path(main) / folder, Path(main).parent / folder, files.expanded(folder)):
        if place.is_dir():
            return place
    raise Problem("folder_missing", field="images.subsets", folder=folder)
