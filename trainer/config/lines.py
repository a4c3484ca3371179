"""The one-line grammars of options: `mid_block = 32`, `up_blocks.1 = 0.5`, `backgrounds = 0.5, 3`. Pure text."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_REPEATS = 200
MAX_WEIGHT = 10.0
"""The most a picture may be repeated in an epoch and weigh in the loss."""


def read_block(line: str) -> tuple[str, int]:
    """`mid_block = 32` as ("mid_block", 32). ValueError where it is not of that form."""
    name, rank = _named(line)
    if not (rank.isdigit() and int(rank) <= 512):
        raise ValueError(line)
    return name, int(rank)


def read_factor(line: str) -> tuple[str, float]:
    """`up_blocks.1 = 0.5` as ("up_blocks.1", 0.5). ValueError where it is not of that form or not within 0 to 100."""
    name, factor = _named(line)
    if not (re.fullmatch(r"\d+(\.\d*)?|\.\d+", factor) and float(factor) <= 100):
        raise ValueError(line)
    return name, float(factor)


def _named(line: str) -> tuple[str, str]:
    name, sign, number = (word.strip() for word in line.partition("="))
    if not (name and sign and number.isascii()):
        raise ValueError(line)
    return name.rstrip("."), number


class Subset(NamedTuple):
    """One further folder. Its numbers multiply those of its pictures."""

    folder: str
    weight: float
    repeats: int | None
    """None: as the folder's name says (kohya's `10_name`), else once."""


def read_subset(line: str) -> Subset:
    """A line as a Subset. ValueError where it is not of the form above."""
    folder, _, numbers = line.rpartition("=")
    weight, sign, repeats = numbers.partition(",")
    subset = Subset(folder.strip(), float(weight), int(repeats) if sign else None)
    if not subset.folder or not 0 < subset.weight <= MAX_WEIGHT or (sign and not 1 <= int(repeats) <= MAX_REPEATS):
        raise ValueError(line)
    return subset
