"""Models that help beside a base: a folder, one below `models/<shelf>`, or a hub id at a commit. Found first, fetched last.

Used by likeness (a CLIP) and masks (a segmentation model). Their Problems are named after what they are for: `clip_…`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer.bases import hub
from trainer.core import files
from trainer.core.files import read_json
from trainer.core.home import Home
from trainer.core.problem import Problem

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class AuxiliaryModels:
    """One sort of model: where it lies below `models`, which classes of transformers it may be, what is read of it."""

    name: str
    code: str
    types: tuple[str, ...]
    """`model_type` in its config.json."""
    files: str = (
        r"(config|preprocessor_config|special_tokens_map|tokenizer|tokenizer_config|vocab)\.json|merges\.txt|model\.safetensors"
    )
    """What is fetched from a hub, as a pattern: never a pickle, never code."""
    needs: tuple[str, ...] = ("config.json", "model.safetensors", "tokenizer.json")

    def find(self, home: Home, given: str) -> Path | None:
        """The folder of `given`, or None where it is a hub id that has to be fetched. Problem for anything else."""
        for folder in (home.models / self.name / given, files.expanded(given)):
            if given and folder.is_dir():
                return self.check(folder)
        name, commit = self._pinned(given)
        folder = hub.fetched(name, commit, home.models / self.name)
        return None if folder is None else self.check(folder)

    def fetch(self, home: Home, given: str, progress: Callable[[int, int], None] | None = None) -> Path:
        """`find`, fetched from the hub if need be."""
        here = self.find(home, given)
        if here is None:
            name, commit = self._pinned(given)
            place = home.models / self.name
            here = self.check(hub.fetch(name, commit, re.compile(self.files), place, progress=progress))
        return here

    def here(self, home: Home) -> list[Path]:
        """Every whole model that lies on the shelf already, by name."""
        place = home.models / self.name
        return [folder for folder in sorted(place.iterdir()) if self.fits(folder)] if place.is_dir() else []

    def fits(self, folder: Path) -> bool:
        """Whether a folder holds a whole model of this sort."""
        try:
            return folder.is_dir() and bool(self.check(folder))
        except Problem:
            return False

    def check(self, folder: Path) -> Path:
        """The folder itself; Problem where it holds another sort of model, a pickle, or half of one."""
        config = read_json(folder / "config.json", {})
        if not isinstance(config, dict) or config.get("model_type") not in self.types:
            raise Problem(f"{self.code}_unknown", folder=str(folder))
        lacks = [file for file in self.needs if not (folder / file).is_file()]
        if "model.safetensors" in lacks and any(folder.glob("*.bin")):
            raise Problem(f"{self.code}_pickle", folder=str(folder))
        if lacks:
            raise Problem(f"{self.code}_parts", folder=str(folder), file=lacks[0])
        return folder

    def _pinned(self, given: str) -> tuple[str, str]:
        """(`owner/name`, commit) of a hub id; Problem where it is none, or names no commit."""
        asked = hub.parse(given)
        if asked is None:
            raise Problem(f"{self.code}_missing", given=given[:200], folder=f"models/{self.name}")
        name, commit = asked
        if commit is None or not COMMIT.fullmatch(commit):
            raise Problem(f"{self.code}_commit", given=given[:200])
        return name, commit
