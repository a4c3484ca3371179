"""Captions for the pictures of a set by a captioner, piece by piece. Called by the command `caption` and by the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images import captioners
from trainer.images.captioners import CaptionRequest
from trainer.images.set.picture import Picture

BATCH_SIZE = 4
"""Pictures in one go of the model: enough for a card, and progress is still seen on a CPU."""

Emit = Callable[..., None]


def to_caption(pictures: Sequence[Picture], overwrite: bool) -> list[Picture]:
    """The pictures a captioner may write for: those without a caption, or all."""
    return [picture for picture in pictures if overwrite or not picture.caption]


def describe(
    home: Home, name: str, pictures: Sequence[Picture], request: CaptionRequest, emit: Emit
) -> Iterator[tuple[Picture, str]]:
    """Each picture with what the captioner `name` says of it. `emit(event, **facts)` gets `fetching` (done, of: bytes),
    `loading`, and `skipped` (picture) of one that cannot be read. Problem where there is no such captioner."""
    captioner, folder = captioners.find(home, name)
    if captioner.missing_package():
        raise Problem("captioner_package", package=captioner.package)
    if folder is None:
        folder = captioner.fetch(home, lambda done, of: emit("fetching", done=done, of=of))
    emit("loading")
    model = captioner.load(folder)
    for start in range(0, len(pictures), BATCH_SIZE):
        read = []
        for picture in pictures[start : start + BATCH_SIZE]:
            try:
                read.append((picture, picture.load()))
            except Problem:
                emit("skipped", picture=picture.file.name)
        if read:
            texts = model([image for _, image in read], request)
            yield from zip((picture for picture, _ in read), texts, strict=True)
