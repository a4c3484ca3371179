"""Several LoRAs into one file, and one file into a smaller one. Behind `merge`, `resize` and the Library page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.adapters import embedding
from trainer.adapters import file as lora_file
from trainer.adapters.export import refuse_existing, unfolded
from trainer.adapters.filing import fitting
from trainer.adapters.fold import LoraStrength
from trainer.adapters.reading import Note, silent
from trainer.adapters.tools.base_weights import BaseWeights
from trainer.adapters.tools.provenance import metadata_of
from trainer.adapters.tools.reduce import check_size, reduced
from trainer.adapters.weights import LoraWeights, check_made_for, normalise
from trainer.bases.facts import BaseFacts
from trainer.core.problem import Problem
from trainer.formats.layers import Layer

Place = tuple[str, str]


def merge(
    uses: Sequence[LoraStrength],
    out: Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    dtype: str = "fp16",
    base: BaseFacts | None = None,
    partial: bool = False,
    note: Note = silent,
) -> Path:
    """One LoRA that does what `uses` do together at strength 1; returns `out`.

    Without `rank` and `energy` plain LoRAs are put side by side, which is exact: the ranks add up. With one, the sum is
    cut down by singular values. LoHa, LoKr and full differences have no factors to put side by side and need one. What
    DoRA, OFT, (IA)³ and GLoRA change follows from the base's weights: they need `base` too, and hold on that base alone.
    `note` is told how many layers of each were read. Problem where it is less than half, unless `partial` allows it.
    """
    if len(uses) < 2:
        raise Problem("merge_few", field="loras")
    check_size(rank, energy)
    refuse_existing(out)
    read = [(use, _plain(use.path, base, partial)) for use in uses]
    family = read[0][1].family
    for use, weights in read:
        if weights.family != family:
            raise Problem("merge_family", field="loras", name=use.path.stem, other=uses[0].path.stem)
        note(*weights.reading.note())
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
        combined = _side_by_side(place, layers)
        if rank or energy:
            merged[place] = reduced(combined, place, family, rank, energy)
        elif combined.kind != "lora":
            raise Problem("merge_needs_rank", field="rank", name=uses[0].path.stem)
        else:
            merged[place] = combined
    metadata = metadata_of("merge", [(use, weights.metadata) for use, weights in read], merged, out.stem, family)
    return _write(out, merged, metadata, dtype, family, [use.path for use in uses], note)


def resize(
    path: Path,
    out: Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    dtype: str = "fp16",
    base: BaseFacts | None = None,
    partial: bool = False,
    note: Note = silent,
) -> Path:
    """A plain LoRA of at most `rank`, or keeping the share `energy` of every layer's change; returns `out`.

    A DoRA stays one without `base`: its low-rank part is cut down and every magnitude stays, for it is the very norm of
    the taught weight. With `base` DoRA, OFT, (IA)³ and GLoRA become plain LoRAs for that base. `note` is told how many
    layers were read. Problem where it is less than half, unless `partial` allows it.
    """
    if rank is None and energy is None:
        raise Problem("resize_how", field="rank")
    check_size(rank, energy)
    refuse_existing(out)
    weights = _plain(path, base, partial, keep_dora=True)
    note(*weights.reading.note())
    small = {place: reduced(layer, place, weights.family, rank, energy) for place, layer in weights.modules.items()}
    metadata = metadata_of("resize", [(LoraStrength(path), weights.metadata)], small, out.stem, weights.family)
    return _write(out, small, metadata, dtype, weights.family, [path], note)


def _write(
    out: Path,
    layers: dict[Place, Layer],
    metadata: dict[str, str],
    dtype: str,
    family: str,
    sources: Sequence[Path],
    note: Note,
) -> Path:
    """The new file, with the words of their own that its sources bring along (textual inversion)."""
    embedding_metadata, embedding_tensors = embedding.merged(sources)
    metadata = {key: value for key, value in metadata.items() if key != embedding.KEY} | embedding_metadata
    tensors = lora_file.kohya_tensors(layers, family) | embedding_tensors
    return lora_file.write_tensors(out, tensors, fitting(metadata, len(tensors), note), dtype)


def _plain(path: Path, base: BaseFacts | None, partial: bool, keep_dora: bool = False) -> LoraWeights:
    """The file's layers, alphas as they were; those that multiply the base's weights as the difference they make there."""
    weights = normalise(path, partial=partial)
    layers = unfolded(weights)
    if base is None:
        dependent = next((one for one in layers.values() if one.needs_weight and not (keep_dora and one.kind == "dora")), None)
        if dependent:
            raise Problem("tool_needs_base", field="base", name=Path(path).stem, kind=dependent.kind)
    elif any(layer.needs_weight for layer in layers.values()):
        check_made_for(path, base.family, base.title, field="base", partial=partial)
        base_weights = BaseWeights(base)
        layers = {place: _as_full_difference(base_weights, place, layer, path) for place, layer in layers.items()}
    return replace(weights, modules=layers)


def _as_full_difference(base_weights: BaseWeights, place: Place, layer: Layer, path: Path) -> Layer:
    """A layer as a full difference, where what it does depends on the base's weight."""
    if not layer.needs_weight:
        return layer
    weight = base_weights.read(place) if place in base_weights.spots else None
    if weight is None or not layer.fits(weight.shape):
        raise Problem("lora_no_match", field="base", name=Path(path).stem)
    bias = {"diff_b": layer.bias} if layer.bias is not None else {}
    return Layer({"diff": layer.delta(weight)} | bias, 1.0)


def _side_by_side(place: Place, layers: list[tuple[Layer, float]]) -> Layer:
    """Σ wᵢ·ΔWᵢ: for plain ones [w₁s₁B₁, w₂s₂B₂, …]·[A₁; A₂; …] with alpha = rank, else the sum itself."""
    if any(layer.bias_alone for layer, _ in layers) or len({layer.size for layer, _ in layers}) > 1:
        raise Problem("merge_shapes", field="loras", layer=".".join(place))
    biases = [layer.bias.reshape(-1) * np.float32(weight) for layer, weight in layers if layer.bias is not None]
    bias = {"diff_b": np.sum(biases, axis=0)} if biases else {}
    if any(layer.kind != "lora" for layer, _ in layers):
        shape = max((layer.delta().shape for layer, _ in layers), key=len)
        return Layer({"diff": sum(np.asarray(layer.delta()).reshape(shape) * weight for layer, weight in layers)} | bias, 1.0)
    widest = max((layer for layer, _ in layers), key=lambda layer: layer.down.ndim)
    inside, ones = widest.down.shape[1:], widest.up.shape[2:]
    down = np.concatenate([layer.down.reshape(-1, *inside) for layer, _ in layers])
    ups = [layer.up.reshape(-1, layer.rank or 1, *ones) * np.float32(layer.scale * weight) for layer, weight in layers]
    return Layer({"down": down, "up": np.concatenate(ups, axis=1)} | bias, float(down.shape[0]))
