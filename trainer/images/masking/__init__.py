"""Masks by machine: which ways there are, where their models lie. Light: models load in their own modules.

Used by `mask` (trainer/commands/mask.py) and by the Images page through job.py. A way is a callable
`(pictures, word) -> [Found or the Problem why not]`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from trainer.bases.auxiliary import AuxiliaryModels
from trainer.core import files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.masking.result import Masker

PLAIN, CLIPSEG, U2NET = METHODS = ("plain", "clipseg", "u2net")
SEGMENTERS = AuxiliaryModels("maskers", "masker", ("clipseg",))
PACKAGE = "onnxruntime==1.32.0"


def find(home: Home, name: str) -> tuple[str, Path | None]:
    """(way, its folder or file) of a name, a path or a hub id at a commit; None where there is no file or it has to be
    fetched first. Problem for anything else."""
    if name == PLAIN:
        return PLAIN, None
    for path in (home.models / SEGMENTERS.name / name, files.expanded(name)):
        nets = [path] if path.suffix == ".onnx" and path.is_file() else sorted(path.glob("*.onnx")) if path.is_dir() else []
        if name and nets:
            return U2NET, nets[0]
    return CLIPSEG, SEGMENTERS.find(home, name)


def load(home: Home, name: str, progress: Callable[[int, int], None] | None = None) -> Masker:
    """The way `name`, its model fetched if need be and loaded."""
    way, place = find(home, name)
    if way == PLAIN:
        from trainer.images.masking.plain import Plain

        return Plain()
    if way == U2NET and place is not None:
        if find_spec("onnxruntime") is None:
            raise Problem("masker_package", package=PACKAGE)
        from trainer.images.masking.u2net import U2Net

        return U2Net(place)
    from trainer.images.masking.clipseg import ClipSeg

    return ClipSeg(place or SEGMENTERS.fetch(home, name, progress))


def available(home: Home) -> list[str]:
    """The ways that can be used now without fetching: the plain one, and what lies in `models/maskers`."""
    place = home.models / SEGMENTERS.name
    folders = sorted(place.iterdir()) if place.is_dir() else []
    return [PLAIN, *(f.name for f in folders if SEGMENTERS.fits(f) or f.suffix == ".onnx" or any(f.glob("*.onnx")))]
