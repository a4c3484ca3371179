"""Captioners: from a picture to a caption. Which there are, what they cost, where they lie. Light: the models load in `load`.

Used by `caption` (trainer/commands/caption.py) and by the Images page through job.py. A new one is a module with a class
like the three here, and one line in `CAPTIONERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainer.bases import hub
from trainer.core import files
from trainer.core.home import CAPTIONER_FOLDER, PROJECT, Home
from trainer.core.problem import Problem
from trainer.core.texts import t

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class CaptionRequest:
    """What every caption of one go is to be like."""

    kind: str = "style"
    """What the set is for: the words of a style are left out of captions that teach one."""
    variant: int = 0
    """0 is the best guess, 1, 2, … are others, for a person who asks again."""
    threshold: float = 0.35
    """How sure a tagger must be of a tag (0..1)."""


class Model(Protocol):
    """A loaded captioner: one text for each picture, empty where it has nothing to say."""

    def __call__(self, pictures: Sequence[Image.Image], request: CaptionRequest) -> list[str]: ...


@dataclass(frozen=True)
class Captioner:
    """One captioner as data. `hub` is empty for what comes with the project; `size` is what is fetched, in bytes."""

    name: str
    looks_like: tuple[str, ...]
    """The files by which a folder of this sort is known, each as a pattern."""
    hub: str = ""
    commit: str = ""
    files: str = ""
    size: int = 0
    licence: str = ""
    package: str = ""
    """A package that has to be installed for it, as `name==version`."""
    module: str = ""
    """The module of this package that loads it, where that is not called like it."""

    def title(self, language: str | None = None) -> str:
        """Its name for a person."""
        return t(f"captioners.{self.name}.title", language=language)

    def about(self, language: str | None = None) -> str:
        """What it is good for, in one sentence."""
        return t(f"captioners.{self.name}.about", language=language)

    def folder(self, home: Home) -> Path | None:
        """Where it lies, or None where it has to be fetched first."""
        if not self.hub:
            places = [root / "models" / "mini" / self.name for root in (home.root, PROJECT)]
            return next((place for place in places if place.is_dir()), places[-1])
        place = home.models / CAPTIONER_FOLDER
        return hub.fetched(self.hub, self.commit, place)

    def fetch(self, home: Home, progress: Callable[[int, int], None] | None = None) -> Path:
        """Its folder, fetched if need be; Problem with what to do where that cannot be."""
        folder = self.folder(home)
        return folder or hub.fetch(
            self.hub, self.commit, re.compile(self.files), home.models / CAPTIONER_FOLDER, progress=progress
        )

    def cost(self, language: str | None = None) -> str:
        """What the one download costs, said before it begins."""
        size = f"{self.size / 1e9:.1f}"
        return t("captioners.fetch", language=language, name=self.hub, size=size, licence=self.licence)

    def missing_package(self) -> bool:
        """Whether it needs a package that is not installed."""
        return bool(self.package) and find_spec(self.package.partition("==")[0]) is None

    def load(self, folder: Path) -> Model:
        """The model in `folder`; Problem where it is not whole or a package is missing."""
        if self.missing_package():
            raise Problem("captioner_package", package=self.package)
        files = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        for pattern in self.looks_like:
            if not any(re.fullmatch(pattern, file) for file in files):
                raise Problem("captioner_parts", folder=str(folder), file=pattern.replace("\\", ""))
        return import_module(f"{__name__}.{self.module or self.name}").load(folder)


CAPTIONERS = (
    Captioner("judge", (r"config\.json", r"model\.safetensors", r"words\.json"), module="mini_clip"),
    # The smaller Salesforce/blip-image-captioning-base is a pickle at every commit; the large one is safetensors.
    Captioner(
        "blip", (r"config\.json", r"model\.safetensors", r"tokenizer\.json", r"preprocessor_config\.json"),
        hub="Salesforce/blip-image-captioning-large", commit="353689b859fcf0523410b1806dace5fb46ecdf41",
        files=r"(config|preprocessor_config|special_tokens_map|tokenizer|tokenizer_config)\.json|vocab\.txt|model\.safetensors",
        size=1_880_000_000, licence="BSD-3-Clause",
    ),
    Captioner(
        "tagger", (r".+\.onnx", r"selected_tags\.csv"),
        hub="SmilingWolf/wd-vit-tagger-v3", commit="790b0e92cefd2a0221451604e7831fe643ab7c4f",
        files=r"model\.onnx|selected_tags\.csv|config\.json", size=379_000_000, licence="Apache-2.0",
        package="onnxruntime==1.32.0",
    ),
)  # fmt: skip


def silence_transformers() -> None:
    """Without transformers' bars and notes; called before a model of it is loaded."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def find(home: Home, name: str) -> tuple[Captioner, Path | None]:
    """The captioner called `name` with its folder (None: not fetched yet), or the sort of a folder given by its path."""
    for captioner in CAPTIONERS:
        if name == captioner.name:
            return captioner, captioner.folder(home)
    for folder in (home.models / CAPTIONER_FOLDER / name, files.expanded(name)):
        if name and folder.is_dir():
            return _sort(folder), folder
    raise Problem("captioner_missing", given=name[:200], known=", ".join(captioner.name for captioner in CAPTIONERS))


def _sort(folder: Path) -> Captioner:
    """Which sort of captioner a folder holds, by its files: a tagger is ONNX, the judge has its words beside it."""
    files = [file.name for file in folder.iterdir()]
    if any(file.endswith(".onnx") for file in files):
        return CAPTIONERS[2]
    if "words.json" in files:
        return CAPTIONERS[0]
    if "config.json" not in files:
        raise Problem("captioner_unknown", folder=str(folder))
    if "model.safetensors" not in files and any(file.endswith((".bin", ".pt", ".h5")) for file in files):
        raise Problem("captioner_pickle", folder=str(folder))
    return CAPTIONERS[1]
