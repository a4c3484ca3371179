"""Captions for the pictures of a set by a captioner, piece by piece. Called by the command `caption` and by the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images import captioners
from trainer.images.captioners import Ask
from trainer.images.set.picture import Picture

AT_ONCE = 4
"""Pictures in one go of the model: enough for a card, and progress is still seen on a CPU."""

Tell = Callable[..., None]


def empty(pictures: Sequence[Picture], overwrite: bool) -> list[Picture]:
    """The pictures a captioner may write for: those without a caption, or all."""
    return [one for one in pictures if overwrite or not one.caption]


def describe(home: Home, given: str, pictures: Sequence[Picture], ask: Ask, tell: Tell) -> Iterator[tuple[Picture, str]]:
    """Each picture with what the captioner `given` says of it. `tell(event, **facts)` hears `fetching` (done, of: bytes),
    `loading`, and `skipped` (picture) of one that cannot be read. Problem where there is no such captioner."""
    captioner, folder = captioners.find(home, given)
    if captioner.missing_package():
        raise Problem("captioner_package", package=captioner.package)
    if folder is None:
        folder = captioner.fetch(home, lambda done, of: tell("fetching", done=done, of=of))
    tell("loading")
    model = captioner.load(folder)
    for start in range(0, len(pictures), AT_ONCE):
        read = []
        for picture in pictures[start : start + AT_ONCE]:
            try:
                read.append((picture, picture.load()))
            except Problem:
                tell("skipped", picture=picture.file.name)
        if read:
            texts = model([image for _, image in read], ask)
            yield from zip((picture for picture, _ in read), texts, strict=True)
