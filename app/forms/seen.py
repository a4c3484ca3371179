"""What a tab has last seen of a draft, and what becomes of a change where another tab has written in the meantime.

The tab carries it in a hidden field (pages/train/page.py), so it outlives a restart of the server. Used by start.keep.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from trainer.config import load, renamed
from trainer.config.drafts import same
from trainer.config.load import Tree

NOTHING = object()
Flat = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """`version` and `tree` (what differs from the preset) as this tab shows them; `tab` names the tab itself."""

    tab: str = ""
    version: str = ""
    tree: Tree = field(default_factory=dict)

    @classmethod
    def new_tab(cls) -> Seen:
        return cls(uuid.uuid4().hex)

    @classmethod
    def read(cls, text: str) -> Seen:
        """From the hidden field; an empty one where it holds anything else."""
        try:
            data = json.loads(text or "{}")
            tab, version, tree = (data.get(name) for name in ("tab", "version", "tree"))
        except (ValueError, AttributeError, RecursionError):
            return cls()
        if not (isinstance(tab, str) and isinstance(version, str) and isinstance(tree, dict)):
            return cls()
        tree = renamed.modernized_file({name: part for name, part in tree.items() if isinstance(part, dict)})
        return cls(tab[:64], version[:64], tree)

    def text(self) -> str:
        """For the hidden field."""
        return json.dumps({"tab": self.tab, "version": self.version, "tree": self.tree}, ensure_ascii=False)


def merge(seen: Tree, mine: Tree, theirs: Tree, *, last_was_mine: bool) -> tuple[Tree, list[str]]:
    """`theirs`, the draft on disk, with what this tab changed since it saw `seen`; and the options that differ from `mine`.

    What both changed stays theirs, for it is the newer draft; where the last one to write was this very tab, it is its own.
    An optimiser or a schedule with all its values counts as one change.
    """
    base, ours, others = flat(seen), flat(mine), flat(theirs)
    merged = dict(others)
    for name in base | ours | others:
        before, own, other = (part.get(name, NOTHING) for part in (base, ours, others))
        if not _same(own, before) and (last_was_mine or _same(other, before)):
            merged.pop(name, None)
            if own is not NOTHING:
                merged[name] = own
    return _tree(merged), differing(ours, merged)


def differing(one: Flat, other: Flat) -> list[str]:
    """The names under which two flat trees hold other values."""
    return [name for name in one | other if not _same(one.get(name, NOTHING), other.get(name, NOTHING))]


def flat(tree: Tree) -> Flat:
    """{option: value}; an optimiser or a schedule as one value under its `name` option."""
    values_by_name: Flat = {}
    for section, values in tree.items():
        if section in load.UNIONS:
            values_by_name[f"{section}.name"] = values
        else:
            values_by_name |= {f"{section}.{name}": value for name, value in values.items()}
    return values_by_name


def _tree(values: Flat) -> Tree:
    tree: Tree = {}
    for name, value in values.items():
        section = name.partition(".")[0]
        if section in load.UNIONS:
            tree[section] = value
        else:
            load.put(tree, name, value)
    return tree


def _same(one: Any, other: Any) -> bool:
    if one is NOTHING or other is NOTHING:
        return one is other
    return same(one, other)
