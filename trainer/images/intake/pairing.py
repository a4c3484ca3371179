"""Which file belongs to which picture, by raw names alone: captions, masks and per-picture JSON, on every way in.

Equal names come first; names equal in NFC, and then those equal but for case, count only where nothing else could be meant.
Whatever cannot be told apart is left to nobody and is named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from trainer.images.intake.names import composed, fold


class Named(Protocol):
    """What pairs: a file in a folder. `file` is its name with the ending, `stem` without."""

    @property
    def file(self) -> str: ...
    @property
    def stem(self) -> str: ...
    @property
    def group(self) -> tuple[str, str]: ...


P = TypeVar("P", bound=Named)
F = TypeVar("F")


@dataclass
class Pairs(Generic[P, F]):
    """What came of it. A picture's files stand in the order in which they were asked for."""

    of: dict[P, list[F]] = field(default_factory=lambda: defaultdict(list))
    unclear: list[F] = field(default_factory=list)
    """Files for which more than one picture could be meant, or that share one picture with others of the same right."""
    alone: list[F] = field(default_factory=list)
    """Files for which there is no picture."""


NameKey = tuple[tuple[str, str], str]
"""Where a file looks for its picture, and the name of it without ending (or with it: `a.png` of `a.png.txt`)."""


class Pictures(Generic[P]):
    """Pictures to be found by name."""

    def __init__(self, pictures: Iterable[P]) -> None:
        self.pictures = list(pictures)
        self.by: dict[int, dict[NameKey, list[P]]] = {}

    def _table(self, place: int, form: Callable[[str], str]) -> dict[NameKey, list[P]]:
        """The pictures by stem or file name in one form; made when first asked for: equal names are the rule."""
        if place not in self.by:
            table = self.by[place] = defaultdict(list)
            for picture in self.pictures:
                table[picture.group, form(picture.file if place % 2 else picture.stem)].append(picture)
        return self.by[place]

    def find(self, key: NameKey) -> tuple[int, list[P]]:
        """The pictures of the first way of comparing that finds any, and which way that was: 0 and 1 are equal names."""
        group, name = key
        for level, form in enumerate((str, composed, fold)):
            for place in (2 * level, 2 * level + 1):
                if pictures := self._table(place, form).get((group, form(name))):
                    return place, pictures
        return 6, []


def pair(
    pictures: Iterable[P], files: Sequence[F], key_of: Callable[[F], NameKey], rank: Callable[[F], int] = lambda _: 0
) -> Pairs[P, F]:
    """Pair every file with its picture or pictures (`a.png` and `a.jpg` share `a.txt`). `rank` orders files of one picture,
    which may be different on purpose (`a.txt` before `a.caption`); files of the same name and rank exclude each other."""
    index, result = Pictures(pictures), Pairs()
    claims: dict[tuple[P, int], list[tuple[F, int]]] = defaultdict(list)
    for file in files:
        level, matches = index.find(key_of(file))
        if not matches:
            result.alone.append(file)
        elif level > 1 and len({picture.stem for picture in matches}) > 1:
            result.unclear.append(file)
        else:
            for picture in matches:
                claims[picture, rank(file)].append((file, level))
    order: dict[P, list[tuple[int, int, int, F]]] = defaultdict(list)
    for (picture, place), rivals in claims.items():
        # An equal name is better than one that is equal but for its form or case, and the full name (`a.png.txt`) better
        # than the stem; two of the same right are none's.
        rights = sorted((level // 2, -(level % 2)) for _, level in rivals)
        if len(rights) > 1 and rights[0] == rights[1]:
            result.unclear += [file for file, _ in rivals]
        else:
            order[picture] += [(level // 2, -(level % 2), place, file) for file, level in rivals]
    for picture, ranked in order.items():
        result.of[picture] = [file for *_, file in sorted(ranked, key=lambda item: item[:3])]
    taken = {id(file) for chosen in result.of.values() for file in chosen}
    result.unclear = list({id(file): file for file in result.unclear if id(file) not in taken}.values())
    return result
