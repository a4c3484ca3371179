"""Where a person's things are: image sets, base models, runs, LoRAs. `--home DIR` or ATELIER_HOME moves them all."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from trainer.core import files
from trainer.core.problem import Problem

PRIVATE = 0o700
"""The mode of the folders of a home: its owner's alone."""
CAPTIONER_FOLDER = "captioners"
"""The folder of the models folder with the models that write captions; none of them is a base."""
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """The folders of one studio. `root` defaults to the project's own folder."""

    root: Path

    @classmethod
    def find(cls, folder: str | os.PathLike[str] | None = None) -> Home:
        """The home named on the command line, in ATELIER_HOME, or the project's folder. Problem for `~name` of no account."""
        path = files.expanded(folder or os.environ.get("ATELIER_HOME") or PROJECT)
        if str(path).startswith("~"):
            raise Problem("folder_missing", field="home", folder=str(path))
        return cls(path.resolve())

    @property
    def datasets(self) -> Path:
        """Image sets, the embedded ones among them."""
        return self.root / "datasets"

    @property
    def models(self) -> Path:
        """Base models, VAEs, CLIPs and the other models a person put in or fetched."""
        return self.root / "models"

    @property
    def outputs(self) -> Path:
        """Everything this program makes."""
        return self.root / "outputs"

    @property
    def database(self) -> Path:
        """The SQLite file of the run queue."""
        return self.outputs / "atelier.db"

    @property
    def runs(self) -> Path:
        """One folder a run, as `RunDir` names its files."""
        return self.outputs / "runs"

    @property
    def loras(self) -> Path:
        """The library: finished LoRAs with their cards and pictures."""
        return self.outputs / "loras"

    @property
    def previews(self) -> Path:
        """Pictures drawn on the preview page."""
        return self.outputs / "previews"

    @property
    def trash(self) -> Path:
        """What was deleted and can still be brought back."""
        return self.outputs / "trash"

    @property
    def cache(self) -> Path:
        """What can be made again at any time, such as encoded pictures."""
        return self.outputs / "cache"

    def lora(self, name: str) -> Path:
        """The file of a LoRA given by its path or by its name in the library; it need not be there."""
        path = files.expanded(name)
        try:
            return path if path.is_file() else self.loras / f"{name}.safetensors"
        except OSError:  # a name longer than the system allows
            return self.loras / f"{files.safe_name(name, 'lora')}.safetensors"

    def create(self) -> Home:
        """Make the folders that are missing; returns self. Raises StorageProblem where that is impossible."""
        with files.writing(self.root):
            for folder in (self.root, self.datasets, self.models, self.outputs):
                folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            for folder in (self.runs, self.loras, self.previews, self.trash, self.cache):
                folder.mkdir(exist_ok=True)
        self._close()
        return self

    def _close(self) -> None:
        """Once a home, take pictures and results from the other accounts of the machine. Whoever opens them again by
        hand is not overruled; links, and folders of another owner, stay as they are."""
        note = self.outputs / ".private"
        with contextlib.suppress(OSError):
            if os.name == "nt" or note.exists():
                return
            for folder in (self.datasets, self.outputs):
                if not folder.is_symlink():
                    folder.chmod(folder.stat().st_mode & 0o7700)
            note.touch()
