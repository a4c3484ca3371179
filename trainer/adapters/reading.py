"""How much of a LoRA file is understood: which of its keys make which layer, and which mean none. From a header alone.

A tool that writes or draws from a file says this before anything else, so that nothing of it is lost unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from trainer.core.problem import Problem
from trainer.formats.layers import SUFFIXES
from trainer.formats.layouts import locate
from trainer.formats.names import split_key

_KNOWN = ("alpha", *SUFFIXES, "magnitude", "diff", "diff_b", "oft_blocks", "rescale")
Note = Callable[[str, dict[str, Any]], None]
"""`note(code, params)`: a tool says a sentence under `notes`."""
NAMED = 4
"""How many layers a sentence names."""
LONGEST = 100


@dataclass(frozen=True)
class Reading:
    """`read` of `total` layers of a file are understood; `unread` are the file's own names of the others."""

    name: str
    read: int
    unread: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.read + len(self.unread)

    def note(self) -> tuple[str, dict[str, Any]]:
        """(code, params) of a sentence under `notes`."""
        params = {"name": self.name, "read": self.read, "total": self.total}
        return ("layers_unread", params | {"layers": listed(self.unread)}) if self.unread else ("layers_read", params)

    def check(self, partial: bool, field: str | None = None) -> None:
        """A Problem where less than half is understood, unless `partial` allows it."""
        if not partial and 2 * self.read < self.total:
            raise Problem(
                "lora_half_read", field=field, name=self.name, read=self.read, total=self.total, layers=listed(self.unread)
            )


@dataclass
class Keys:
    """A file's keys, sorted."""

    layers: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """(part, module) -> what a tensor is -> its key."""
    unknown: list[str] = field(default_factory=list)
    """Keys that mean no layer."""

    def reading(self, name: str) -> Reading:
        """What is understood of the file called `name`."""
        return Reading(name, len(self.layers), tuple(dict.fromkeys(map(_layer, self.unknown))))


def sort_keys(keys: Iterable[str]) -> Keys:
    """Which layers a file's keys make. Of two names for the same layer the first counts; the other's keys are unknown."""
    sorted_keys, module_names = Keys(), {}
    for key in keys:
        if key.startswith("bundle_emb."):
            continue
        split, place = split_key(key), locate(key)
        is_read = split and (split.what in _KNOWN or split.what.startswith(("hada_", "lokr_")))
        if not (split and is_read and place) or module_names.setdefault(place, split.module) != split.module:
            sorted_keys.unknown.append(key)
        else:
            sorted_keys.layers.setdefault(place, {})[split.what] = key
    return sorted_keys


def silent(code: str, params: dict[str, Any]) -> None:
    """A `Note` that says nothing."""


def listed(layers: Iterable[str]) -> str:
    """Some of the names, on one line, without what a terminal or a page would obey; how many more there are."""
    names = list(layers)
    shown = [("".join(c if c.isprintable() else "?" for c in name))[:LONGEST] for name in names[:NAMED]]
    return ", ".join(shown) + (f" … (+{len(names) - NAMED})" if len(names) > NAMED else "")


def _layer(key: str) -> str:
    """The layer an unknown key belongs to, in the file's own words."""
    split = split_key(key)
    return split.module if split else key.removesuffix(".weight").removesuffix(".bias")
