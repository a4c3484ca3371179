"""A new LoRA of those in the library: several become one, one becomes smaller. What the fold on the Library page does."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer import bases, files
from trainer.adapters.fold import Use
from trainer.adapters.tools.merge import merge, resize
from trainer.base_facts import BaseFacts
from trainer.home import Home
from trainer.library import Library, register
from trainer.problem import Problem


def make(home: Home, names: Sequence[str], strengths: str, rank: str, name: str) -> str:
    """Merge (several) or resize (one) into `name`, or the next free name like it; returns the name it got.

    `strengths` are numbers in the order of `names`, separated by commas; what is missing is 1. `rank` may be empty.
    Problem for every mistake.
    """
    if not names:
        raise Problem("merge_few", field="loras")
    if not name.strip():
        raise Problem("name_missing", field="save.name")
    size = _rank(rank.strip())
    library = Library(home)
    cards = [library.card(one) for one in names]
    paths = [card.file for card in cards]
    numbers = [_strength(word) for word in strengths.replace("、", ",").split(",") if word.strip()]
    if len(numbers) > len(names):
        raise Problem("strengths_many", field="strengths", given=len(numbers), names=len(names))
    numbers += [1.0] * (len(names) - len(numbers))
    target = files.free_name(home.loras, files.safe_name(name, "lora"), ".safetensors")
    if len(paths) == 1:
        resize(paths[0], target, rank=size)
    else:
        uses = [Use(path, number, number) for path, number in zip(paths, numbers, strict=True)]
        merge(uses, target, rank=size, base=_base_here(home, cards[0].base))
    register(target)
    return target.stem


def _base_here(home: Home, name: str) -> BaseFacts | None:
    """The base a LoRA names where it lies on this disk; DoRA and some other kinds can be merged on it alone."""
    try:
        base = bases.find(home, name)
    except Problem:
        return None
    return base if base.path else None


def _rank(word: str) -> int | None:
    try:
        return int(word) if word else None
    except ValueError:
        raise Problem("not_int", field="rank", given=word[:40]) from None


def _strength(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        raise Problem("not_float", field="strengths", given=word.strip()[:40]) from None
    if not math.isfinite(number) or abs(number) > 10:
        raise Problem("strength_range", field="strengths", given=word.strip()[:40])
    return number
