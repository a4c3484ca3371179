"""What a person has chosen for a set and not started yet, kept on disk: a reload or another day finds it again.

Only what differs from the preset is kept, so that choosing another kind or base changes everything else. One JSON file
a set under `outputs/drafts`, with a version by which a tab knows that another one has written since
(app/forms/seen.py). Used by the Train page through services.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

from trainer.config import load, renamed
from trainer.config.load import Tree
from trainer.config.options import options
from trainer.core.files import read_json, safe_name, write_json
from trainer.core.home import Home

NEW = "_new"
"""The draft of a page on which nothing has been dropped yet."""
ALWAYS = ("run.kind", "model.base")
"""What decides the preset is kept even where it is the preset's own."""


_MARK = "draft"
"""Beside the sections of a draft: `version` and the `tab` that wrote it. Drafts of earlier versions have none."""


class Drafts:
    """The drafts of one home."""

    def __init__(self, home: Home) -> None:
        self.folder = home.outputs / "drafts"
        self.lock = threading.RLock()
        """Held by whoever reads a draft in order to write it."""

    def load(self, name: str | None) -> Tree:
        """What was kept for the set `name`; an empty tree where nothing was."""
        return renamed.modernized_file({section: values for section, values in self._read(name).items() if section != _MARK})

    def version(self, name: str | None) -> tuple[str, str]:
        """(version, the tab that wrote it); empty where there is no draft, or one of an earlier version."""
        mark = self._read(name).get(_MARK)
        mark = mark if isinstance(mark, dict) else {}
        return str(mark.get("version", "")), str(mark.get("tab", ""))

    def save(self, name: str | None, tree: Tree, tab: str = "") -> str:
        """Keep `tree` for the set `name`, as written by `tab`; its version."""
        version = uuid.uuid4().hex
        write_json(self._file(name), {**tree, _MARK: {"version": version, "tab": tab}})
        return version

    def drop(self, name: str | None) -> None:
        """Forget what was kept: it became a run, or moved to a set."""
        self._file(name).unlink(missing_ok=True)

    def _read(self, name: str | None) -> Tree:
        kept = read_json(self._file(name), {})
        return kept if isinstance(kept, dict) else {}

    def _file(self, name: str | None) -> Path:
        return self.folder / f"{safe_name(name or NEW, limit=100)}.json"


def difference_from(tree: Tree, below: Tree) -> Tree:
    """The values that differ from `below` (a preset filled up with the defaults), option by option."""
    kept: Tree = {}
    for option in options():
        if option.variants and load.get(tree, f"{option.section}.name") not in option.variants:
            continue
        value = load.get(tree, option.name)
        if option.name in ALWAYS or not same(value, load.get(below, option.name)):
            load.put(kept, option.name, value)
    return kept


def with_defaults(tree: Tree) -> Tree:
    """`tree` with the default of every option it does not name, also those of the chosen optimiser and schedule."""
    chosen = {section: {"name": tree.get(section, {}).get("name")} for section in load.UNIONS}
    try:
        defaults = load.dump(load.build({section: named for section, named in chosen.items() if named["name"]}))
    except load.ConfigProblems:
        defaults = load.dump(load.build())
    return load.merge(defaults, tree)


def same(first: Any, second: Any) -> bool:
    """Whether two values of an option mean the same: no text is an empty text, a list a tuple."""
    first, second = (list(v) if isinstance(v, tuple) else v for v in (first, second))
    return (first or None) == (second or None) if isinstance(first, str | list) or first is None else first == second
