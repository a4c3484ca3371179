"""A LoRA from the difference of two checkpoints. Behind `extract`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainer.adapters import file as lora_file
from trainer.adapters.export import refuse_existing
from trainer.adapters.reading import Note, Reading, silent
from trainer.adapters.targets import GROUPS
from trainer.adapters.tools.base_weights import BaseWeights
from trainer.adapters.tools.provenance import made_of_bases
from trainer.adapters.tools.reduce import check_size, reduced
from trainer.bases.facts import BaseFacts
from trainer.core.problem import Problem
from trainer.formats.layers import Layer

Tell = Callable[[int, int], None]


def extract(
    base: BaseFacts, tuned: BaseFacts, out: Path, *, rank: int | None = None, energy: float | None = None,
    targets: str = "attention", dtype: str = "fp16", tell: Tell = lambda done, of: None, partial: bool = False,
    note: Note = silent,
) -> Path:  # fmt: skip
    """A plain LoRA that turns `base` into `tuned` as nearly as `rank` (or the share `energy`) allows; returns `out`.

    Layers that are the same in both are left out. `tell(done, of)` is called a layer; `note` is told how many layers of the
    base were compared. Problem where it is less than half, unless `partial` allows it.
    """
    if rank is None and energy is None:
        raise Problem("resize_how", field="rank")
    check_size(rank, energy)
    refuse_existing(out)
    old, new = BaseWeights(base), BaseWeights(tuned)
    if base.family != tuned.family or old.spots.keys() != new.spots.keys():
        raise Problem("extract_family", field="tuned", base=base.title, tuned=tuned.title)
    wanted = [place for place, module in old.modules.items() if module.group in GROUPS[targets]]
    places = [place for place in wanted if place in old.spots]
    compared = Reading(tuned.title, len(places), tuple(".".join(place) for place in wanted if place not in old.spots))
    compared.check(partial, "base")
    found: dict[tuple[str, str], Layer] = {}
    for index, place in enumerate(places):
        one, two = old.read(place), new.read(place)
        if one.shape != two.shape:
            raise Problem("extract_family", field="tuned", base=base.title, tuned=tuned.title)
        change = two - one
        if np.abs(change).max() > 0:
            found[place] = reduced(Layer({"diff": change}, 1.0), place, base.family, rank, energy)
        tell(index + 1, len(places))
    if not found:
        raise Problem("extract_same", field="tuned", base=base.title, tuned=tuned.title)
    assert new.facts.path is not None
    note(*compared.note())
    note("layers_differ", {"count": len(found), "total": len(places)})
    told = made_of_bases(old.facts, new.facts.path, found, out.stem)
    return lora_file.write(out, found, told, dtype, base.family)
