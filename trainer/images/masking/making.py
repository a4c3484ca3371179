"""Masks for the pictures of a set, piece by piece. Called by the command `mask` and by the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images import masking
from trainer.images.masking.result import MaskResult
from trainer.images.set.picture import Picture

BATCH_SIZE = 4
Emit = Callable[..., None]


def make(home: Home, way: str, pictures: Sequence[Picture], word: str, emit: Emit) -> Iterator[tuple[Picture, MaskResult]]:
    """Each picture that got a mask, with it. `emit(event, **facts)` gets `fetching` (done, of: bytes), `loading`, and
    `refused` (picture, problem) of one that gets none. Problem where the way itself cannot be used."""
    emit("loading")
    masker = masking.load(home, way, lambda done, of: emit("fetching", done=done, of=of))
    for start in range(0, len(pictures), BATCH_SIZE):
        read = []
        for picture in pictures[start : start + BATCH_SIZE]:
            try:
                read.append((picture, picture.load()))
            except Problem as problem:
                emit("refused", picture=picture, problem=problem)
        answers = masker([image for _, image in read], word) if read else []
        for (picture, _), answer in zip(read, answers, strict=True):
            if isinstance(answer, Problem):
                emit("refused", picture=picture, problem=answer)
            else:
                yield picture, answer
