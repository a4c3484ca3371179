"""What a person has chosen for a set and not started yet, kept on disk: a reload or another day finds it again.

Only what differs from the preset is kept, so that choosing another kind or base changes everything else. One JSON file
a set under `outputs/drafts`. Used by the Train page through services.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config import load
from trainer.config.load import Tree
from trainer.config.options import options
from trainer.files import read_json, safe_name, write_json
from trainer.home import Home

NEW = "_new"
"""The draft of a page on which nothing has been dropped yet."""
ALWAYS = ("run.kind", "model.base")
"""What decides the preset is kept even where it is the preset's own."""


class Drafts:
    """The drafts of one home."""

    def __init__(self, home: Home) -> None:
        self.folder = home.outputs / "drafts"

    def load(self, name: str | None) -> Tree:
        """What was kept for the set `name`; an empty tree where nothing was."""
        kept = read_json(self._file(name), {})
        return kept if isinstance(kept, dict) else {}

    def save(self, name: str | None, tree: Tree) -> None:
        """Keep `tree` for the set `name`."""
        write_json(self._file(name), tree)

    def drop(self, name: str | None) -> None:
        """Forget what was kept: it became a run, or moved to a set."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str | None) -> Path:
        return self.folder / f"{safe_name(name or NEW, limit=100)}.json"


def own(values: Tree, below: Tree) -> Tree:
    """The values that differ from `below` (a preset filled up with the defaults), option by option."""
    kept: Tree = {}
    for known in options():
        if known.variants and load.get(values, f"{known.section}.name") not in known.variants:
            continue
        value = load.get(values, known.name)
        if known.name in ALWAYS or not _same(value, load.get(below, known.name)):
            load.put(kept, known.name, value)
    return kept


def filled(tree: Tree) -> Tree:
    """`tree` with the default of every option it does not name, also those of the chosen optimiser and schedule."""
    chosen = {section: {"name": tree.get(section, {}).get("name")} for section in load.UNIONS}
    try:
        defaults = load.dump(load.build({section: named for section, named in chosen.items() if named["name"]}))
    except load.ConfigProblems:
        defaults = load.dump(load.build())
    return load.merge(defaults, tree)


def _same(one: Any, other: Any) -> bool:
    one, other = (list(v) if isinstance(v, tuple) else v for v in (one, other))
    return (one or None) == (other or None) if isinstance(one, str | list) or one is None else one == other


def slides(tree: Tree) -> bool:
    """Whether a tree teaches a slider."""
    return load.get(tree, "run.kind") == "slider"


def drawn(tree: Tree) -> bool:
    """Whether a tree needs no pictures of one's own: a slider whose base draws them."""
    return slides(tree) and bool(load.get(filled(tree), "slider.drawn"))
