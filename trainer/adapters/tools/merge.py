"""Several LoRAs into one file, and one file into a smaller one. Behind `merge`, `resize` and the Library page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.adapters import file as lora_file
from trainer.adapters.export import refuse_existing, unfolded
from trainer.adapters.fold import Use
from trainer.adapters.layers import Layer
from trainer.adapters.tools.provenance import told_by
from trainer.adapters.tools.reduce import reduced
from trainer.adapters.weights import LoraWeights, normalise
from trainer.problem import Problem

Place = tuple[str, str]


def merge(
    uses: Sequence[Use], out: Path, *, rank: int | None = None, energy: float | None = None, dtype: str = "fp16"
) -> Path:
    """One LoRA that does what `uses` do together at strength 1; returns `out`.

    Without `rank` and `energy` plain LoRAs are put side by side, which is exact: the ranks add up. With one, the sum is
    cut down by singular values. LoHa, LoKr and full differences have no factors to put side by side and need one.
    """
    if len(uses) < 2:
        raise Problem("merge_few", field="loras")
    _check(rank, energy)
    refuse_existing(out)
    read = [(use, _plain(use.path)) for use in uses]
    family = read[0][1].family
    for use, weights in read:
        if weights.family != family:
            raise Problem("merge_family", field="loras", name=use.path.stem, other=uses[0].path.stem)
    gathered: dict[Place, list[tuple[Layer, float]]] = {}
    for use, weights in read:
        for place, layer in weights.modules.items():
            strength = use.unet if place[0] == "unet" else use.text_encoder
            if strength:
                gathered.setdefault(place, []).append((layer, strength))
    if not gathered:
        raise Problem("merge_nothing", field="loras")
    merged = {}
    for place, layers in gathered.items():
        together = _side_by_side(place, layers)
        if rank or energy:
            merged[place] = reduced(together, place, family, rank, energy)
        elif together.kind != "lora":
            raise Problem("merge_needs_rank", field="rank", name=uses[0].path.stem)
        else:
            merged[place] = together
    told = told_by("merge", [(use, weights.metadata) for use, weights in read], merged, out.stem)
    return lora_file.write(out, merged, told, dtype, family)


def resize(path: Path, out: Path, *, rank: int | None = None, energy: float | None = None, dtype: str = "fp16") -> Path:
    """A plain LoRA of at most `rank`, or keeping the share `energy` of every layer's change; returns `out`."""
    if rank is None and energy is None:
        raise Problem("resize_how", field="rank")
    _check(rank, energy)
    refuse_existing(out)
    weights = _plain(path)
    small = {place: reduced(layer, place, weights.family, rank, energy) for place, layer in weights.modules.items()}
    told = told_by("resize", [(Use(path), weights.metadata)], small, out.stem)
    return lora_file.write(out, small, told, dtype, weights.family)


def _plain(path: Path) -> LoraWeights:
    """The file's layers, alphas as they were; DoRA is refused: what it does depends on the base."""
    weights = normalise(path)
    if any(layer.kind == "dora" for layer in weights.modules.values()):
        raise Problem("tool_dora", field="loras", name=Path(path).stem)
    return LoraWeights(unfolded(weights), weights.family, weights.layout, weights.metadata, weights.unknown)


def _check(rank: int | None, energy: float | None) -> None:
    if rank is not None and not 1 <= rank <= 4096:
        raise Problem("rank_range", field="rank", given=rank)
    if energy is not None and not 0 < energy <= 1:
        raise Problem("energy_range", field="energy", given=energy)


def _side_by_side(place: Place, layers: list[tuple[Layer, float]]) -> Layer:
    """Σ wᵢ·ΔWᵢ: for plain ones [w₁s₁B₁, w₂s₂B₂, …]·[A₁; A₂; …] with alpha = rank, else the sum itself."""
    if len({layer.size for layer, _ in layers}) > 1:
        raise Problem("merge_shapes", field="loras", layer=".".join(place))
    if any(layer.kind != "lora" for layer, _ in layers):
        shape = max((layer.delta().shape for layer, _ in layers), key=len)
        return Layer({"diff": sum(np.asarray(layer.delta()).reshape(shape) * weight for layer, weight in layers)}, 1.0)
    widest = max((layer for layer, _ in layers), key=lambda layer: layer.down.ndim)
    inside, ones = widest.down.shape[1:], widest.up.shape[2:]
    down = np.concatenate([layer.down.reshape(-1, *inside) for layer, _ in layers])
    ups = [layer.up.reshape(-1, layer.rank or 1, *ones) * np.float32(layer.scale * weight) for layer, weight in layers]
    return Layer.lora(down, np.concatenate(ups, axis=1), float(down.shape[0]))
