"""Whether something on disk is needed by a run that trains or waits, so that nobody takes it away from under it.

Asked before an image set or a LoRA goes to the trash or gets another name (app/ui/services.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainer.config import renamed
from trainer.config.lines import read_subset
from trainer.config.load import Tree, get
from trainer.config.plan import draws
from trainer.core import files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.set import subsets
from trainer.jobs.ledger.run_store import Store


def refuse(store: Store, home: Home, path: Path) -> None:
    """Problem that names the run which needs `path`, a file or a folder; nothing where it is free."""
    target = path.resolve()
    for row in store.active() + store.queue():
        tree = files.read_json(store.run_dir(row.id).config)
        tree = renamed.modernized_file(tree) if isinstance(tree, dict) else {}
        if any(target == place or target in place.parents for place in needed(home, tree)):
            raise Problem("in_use_run", run=row.name or row.id)


def needed(home: Home, tree: Tree) -> Iterator[Path]:
    """Where the pictures and files lie that a run with these settings reads."""
    folder = "" if draws(tree) else str(get(tree, "images.folder") or "")
    for source in (folder, get(tree, "preservation.regularization_folder"), get(tree, "model.vae")):
        if source:
            yield Path(str(source)).resolve()
    for line in get(tree, "images.subsets") or ():
        try:
            yield subsets.find(folder, read_subset(str(line)).folder).resolve()
        except (Problem, ValueError):
            continue  # not there any more: nothing to keep
    if continue_from := get(tree, "lora.continue_from"):
        yield home.lora(str(continue_from)).resolve()
