"""New files of what is here: several LoRAs become one, one becomes smaller, two bases give a LoRA, a base takes LoRAs in.
What the two folds below the Library do.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.adapters.fold import LoraStrength
from trainer.adapters.reading import Note, silent
from trainer.adapters.tools import bake as baking
from trainer.adapters.tools import extract as tools
from trainer.adapters.tools.merge import merge, resize
from trainer.bases import catalog
from trainer.bases.facts import BaseFacts
from trainer.core import files, workplace
from trainer.core.home import Home
from trainer.core.locks import lock
from trainer.core.problem import Problem
from trainer.library.cards import Card
from trainer.library.library import Library

Progress = Callable[[int, int], None]
"""`progress(done, of)` while a tool goes through a base's layers."""


def make(home: Home, names: Sequence[str], strengths: str, rank: str, name: str, note: Note = silent) -> str:
    """Merge (several) or resize (one) into `name`, or the next free name like it; returns the name it got.

    `strengths` are numbers in the order of `names`, separated by commas; what is missing is 1. `rank` may be empty.
    `note` is told how much of each file was read. Problem for every mistake.
    """
    cards = _cards(home, names)
    _check_name(name)
    size = _rank(rank.strip())
    uses = _uses(cards, strengths)
    with workplace.temporary(home.cache / "making") as folder:
        target = _target(home, folder, name)
        if len(uses) == 1:
            resize(uses[0].path, target, rank=size, note=note)
        else:
            merge(uses, target, rank=size, base=_base_of(home, cards[0].base), note=note)
        return Library(home).add(target, target.stem)


def extract(
    home: Home, base: str, tuned: str, rank: str, name: str, progress: Progress = lambda done, of: None, note: Note = silent
) -> str:
    """A LoRA of the difference between two bases, into the library; returns the name it got. Problem for every mistake."""
    _check_name(name)
    size = _rank(rank.strip())
    old, new = _local_base(home, base), _local_base(home, tuned)
    with workplace.temporary(home.cache / "making") as folder:
        target = _target(home, folder, name)
        tools.extract(old, new, target, rank=size, progress=progress, note=note)
        return Library(home).add(target, target.stem)


def bake(
    home: Home, base: str, names: Sequence[str], strengths: str, name: str, progress: Progress = lambda done, of: None,
    note: Note = silent,
) -> str:  # fmt: skip
    """A new base in the models folder with LoRAs of the library inside; returns the name it got. The old base is only read.

    Problem for every mistake, and where there is no room for another base.
    """
    cards = _cards(home, names)
    _check_name(name)
    uses, old = _uses(cards, strengths), _local_base(home, base)
    free = shutil.disk_usage(home.models).free
    if free < old.size_bytes:
        raise Problem("job_disk_short", folder=str(home.models), needed=old.size_bytes >> 20)
    ending = ".safetensors" if old.layout == "file" else ""
    with lock(home.cache / "locks" / "bake.lock"):  # two at once would choose the same free name
        target = files.free_name(home.models, files.safe_name(name, "base"), ending)
        baking.bake(old, uses, target, progress, note=note)
    return target.stem if ending else target.name


def _target(home: Home, folder: Path, name: str) -> Path:
    """Where a LoRA is made before the library takes it in: in `folder`, under a name that is free in the library."""
    return folder / files.free_name(home.loras, files.safe_name(name, "lora"), ".safetensors").name


def _cards(home: Home, names: Sequence[str]) -> list[Card]:
    if not names:
        raise Problem("loras_unchosen", field="loras")
    library = Library(home)
    return [library.card(name) for name in names]


def _check_name(name: str) -> None:
    if not name.strip():
        raise Problem("name_missing", field="save.name")


def _uses(cards: list[Card], strengths: str) -> list[LoraStrength]:
    """The LoRAs, each at its strength."""
    numbers = [_strength(word) for word in strengths.replace("、", ",").split(",") if word.strip()]
    if len(numbers) > len(cards):
        raise Problem("strengths_many", field="strengths", given=len(numbers), names=len(cards))
    numbers += [1.0] * (len(cards) - len(numbers))
    return [LoraStrength(card.file, number, number) for card, number in zip(cards, numbers, strict=True)]


def _local_base(home: Home, name: str) -> BaseFacts:
    """A base that lies on this disk."""
    if not name.strip():
        raise Problem("base_unchosen", field="model.base")
    base = catalog.find(home, name)
    if base.path is None:
        raise Problem(
            "base_missing", field="model.base", base=name, known=", ".join(one.id for one in catalog.list_bases(home))
        )
    return base


def _base_of(home: Home, name: str) -> BaseFacts | None:
    """The base a LoRA names where it lies on this disk; DoRA and some other kinds can be merged on it alone."""
    try:
        base = catalog.find(home, name)
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
