"""Masks for the pictures of a set, piece by piece. Called by the command `mask` and by the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images import masking
from trainer.images.masking.found import Found
from trainer.images.set.picture import Picture

AT_ONCE = 4
Tell = Callable[..., None]


def make(home: Home, given: str, pictures: Sequence[Picture], word: str, tell: Tell) -> Iterator[tuple[Picture, Found]]:
    """Each picture that got a mask, with it. `tell(event, **facts)` hears `fetching` (done, of: bytes), `loading`, and
    `refused` (picture, problem) of one that gets none. Problem where the way itself cannot be used."""
    tell("loading")
    masker = masking.load(home, given, lambda done, of: tell("fetching", done=done, of=of))
    for start in range(0, len(pictures), AT_ONCE):
        read = []
        for picture in pictures[start : start + AT_ONCE]:
            try:
                read.append((picture, picture.load()))
            except Problem as problem:
                tell("refused", picture=picture, problem=problem)
        answers = masker([image for _, image in read], word) if read else []
        for (picture, _), answer in zip(read, answers, strict=True):
            if isinstance(answer, Problem):
                tell("refused", picture=picture, problem=answer)
            else:
                yield picture, answer
