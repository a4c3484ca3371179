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

Progress = Callable[[int, int], None]
"""`progress(done, of)`, in layers."""


def extract(
    base: BaseFacts, tuned: BaseFacts, out: Path, *, rank: int | None = None, energy: float | None = None,
    targets: str = "attention", dtype: str = "fp16", progress: Progress = lambda done, of: None, partial: bool = False,
    note: Note = silent,
) -> Path:  # fmt: skip
    """A plain LoRA that turns `base` into `tuned` as nearly as `rank` (or the share `energy`) allows; returns `out`.

    Layers that are the same in both are left out. `progress(done, of)` is called after each layer; `note` says how many
    layers of the base were compared. Problem where it is less than half, unless `partial` allows it.
    """
    if rank is None and energy is None:
        raise Problem("resize_how", field="rank")
    check_size(rank, energy)
    refuse_existing(out)
    base_weights, tuned_weights = BaseWeights(base), BaseWeights(tuned)
    if base.family != tuned.family or base_weights.spots.keys() != tuned_weights.spots.keys():
        raise Problem("extract_family", field="tuned", base=base.title, tuned=tuned.title)
    targeted = [place for place, module in base_weights.modules.items() if module.group in GROUPS[targets]]
    places = [place for place in targeted if place in base_weights.spots]
    compared = Reading(
        tuned.title, len(places), tuple(".".join(place) for place in targeted if place not in base_weights.spots)
    )
    compared.check(partial, "base")
    adapters: dict[tuple[str, str], Layer] = {}
    for index, place in enumerate(places):
        before, after = base_weights.read(place), tuned_weights.read(place)
        if before.shape != after.shape:
            raise Problem("extract_family", field="tuned", base=base.title, tuned=tuned.title)
        change = after - before
        if np.abs(change).max() > 0:
            adapters[place] = reduced(Layer({"diff": change}, 1.0), place, base.family, rank, energy)
        progress(index + 1, len(places))
    if not adapters:
        raise Problem("extract_same", field="tuned", base=base.title, tuned=tuned.title)
    assert tuned_weights.facts.path is not None
    note(*compared.note())
    note("layers_differ", {"count": len(adapters), "total": len(places)})
    metadata = made_of_bases(base_weights.facts, tuned_weights.facts.path, adapters, out.stem)
    return lora_file.write(out, adapters, metadata, dtype, base.family)
