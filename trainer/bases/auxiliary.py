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

    def find(self, home: Home, reference: str) -> Path | None:
        """The folder of `reference`, a name below `models`, a path or a hub id at a commit; None where it has to be fetched.

        Problem for anything else.
        """
        for folder in (home.models / self.name / reference, files.expanded(reference)):
            if reference and folder.is_dir():
                return self.check(folder)
        name, commit = self._pinned(reference)
        folder = hub.fetched(name, commit, home.models / self.name)
        return None if folder is None else self.check(folder)

    def fetch(self, home: Home, reference: str, progress: Callable[[int, int], None] | None = None) -> Path:
        """`find`, fetched from the hub if need be; `progress(done, total)` gets bytes. Problem where the hub refuses."""
        folder = self.find(home, reference)
        if folder is None:
            name, commit = self._pinned(reference)
            place = home.models / self.name
            folder = self.check(hub.fetch(name, commit, re.compile(self.files), place, progress=progress))
        return folder

    def installed(self, home: Home) -> list[Path]:
        """The folder of every complete model of this sort in the models folder, by name."""
        place = home.models / self.name
        return [folder for folder in sorted(place.iterdir()) if self.fits(folder)] if place.is_dir() else []

    def fits(self, folder: Path) -> bool:
        """Whether a folder holds a complete model of this sort."""
        try:
            return folder.is_dir() and bool(self.check(folder))
        except Problem:
            return False

    def check(self, folder: Path) -> Path:
        """The folder itself; Problem where it holds another sort of model, a pickle, or half of one."""
        config = read_json(folder / "config.json", {})
        if not isinstance(config, dict) or config.get("model_type") not in self.types:
            raise Problem(f"{self.code}_unknown", folder=str(folder))
        missing = [file for file in self.needs if not (folder / file).is_file()]
        if "model.safetensors" in missing and any(folder.glob("*.bin")):
            raise Problem(f"{self.code}_pickle", folder=str(folder))
        if missing:
            raise Problem(f"{self.code}_parts", folder=str(folder), file=missing[0])
        return folder

    def _pinned(self, reference: str) -> tuple[str, str]:
        """(`owner/name`, commit) of a hub id; Problem where it is none, or names no commit."""
        parsed = hub.parse(reference)
        if parsed is None:
            raise Problem(f"{self.code}_missing", given=reference[:200], folder=f"models/{self.name}")
        name, commit = parsed
        if commit is None or not COMMIT.fullmatch(commit):
            raise Problem(f"{self.code}_commit", given=reference[:200])
        return name, commit
