"""LoRAs put into a copy of a checkpoint for good. Behind `bake`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapters import file as lora_file
from trainer.adapters.export import refuse_existing
from trainer.adapters.filing import fitting
from trainer.adapters.fold import LoraStrength
from trainer.adapters.reading import Note, listed, silent
from trainer.adapters.tools.base_weights import BaseWeights, Spot
from trainer.adapters.tools.extract import Progress
from trainer.adapters.tools.provenance import baked, baked_file, without_hashes
from trainer.adapters.weights import LoraWeights, normalise, to_float32
from trainer.bases import hub
from trainer.bases.facts import BaseFacts
from trainer.core import files
from trainer.core.problem import Problem
from trainer.formats.detect import FAMILY_NAMES
from trainer.formats.header import Header, encode_header
from trainer.formats.layers import Layer

_FORMATS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
Place = tuple[str, str]
Array = np.ndarray[Any, np.dtype[Any]]
Read = Sequence[tuple[LoraStrength, LoraWeights]]


def bake(
    base: BaseFacts, uses: Sequence[LoraStrength], out: Path, progress: Progress = lambda done, of: None, *,
    partial: bool = False, note: Note = silent,
) -> Path:  # fmt: skip
    """A new base with `uses` inside at their strengths, in the old one's layout and number formats; returns `out`.

    The old base is only read. A folder gives a folder, a file a file; both say what they were made from, and their licences.
    `note` is told how many layers of each LoRA are inside. Problem where it is less than half of one, unless `partial` allows
    it, and where no number of the base would change.
    """
    weights = BaseWeights(base)
    if weights.facts.layout == "file":
        refuse_existing(out)
    elif out.exists():
        raise Problem("out_exists", field="out", file=out.name)
    read = [(use, normalise(use.path, partial=partial, field="loras")) for use in uses]
    for use, lora in read:
        if lora.family != base.family:
            raise Problem("lora_other_family", name=use.path.stem, theirs=FAMILY_NAMES[lora.family], ours=base.title)
    changed, unplaced = _changes(weights, read, progress)
    if not changed:
        raise Problem("lora_no_match", name=", ".join(use.path.stem for use in uses))
    for (use, lora), missing in zip(read, unplaced, strict=True):
        _note_layers(use, lora, missing, partial, note)
    target = out.with_name(f".{out.name}.part")
    sources = [(use, lora.metadata) for use, lora in read]
    try:
        if weights.facts.layout == "file":
            ((root, header),) = weights.headers.items()
            count = _rewrite(root, header, changed, target, baked_file(base, header.metadata, sources, out.stem))
        else:
            count = _write_folder(weights, changed, target, baked(base, sources, out.name))
        if not count:
            raise Problem("bake_nothing", field="loras", name=", ".join(use.path.stem for use in uses))
        note("tensors_changed", {"count": count, "total": sum(len(header.tensors) for header in weights.headers.values())})
        target.rename(out)
    finally:
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
    return out


def _note_layers(use: LoraStrength, lora: LoraWeights, missing: list[Place], partial: bool, note: Note) -> None:
    """Say by `note` how much of a LoRA is inside; a Problem where it is less than half and `partial` does not allow it."""
    total, names = lora.reading.total, (*lora.reading.unread, *(".".join(place) for place in missing))
    params = {"name": use.path.stem, "read": total - len(names), "total": total, "layers": listed(names)}
    if not partial and 2 * params["read"] < total:
        raise Problem("lora_half_fits", field="loras", **params)
    note("layers_unbaked" if names else "layers_baked", params)


def _changes(weights: BaseWeights, read: Read, progress: Progress) -> tuple[dict[Spot, Array], list[list[Place]]]:
    """The base's new numbers by where they lie, and the layers of each LoRA that find no place in it."""
    changed: dict[Spot, Array] = {}
    unplaced: list[list[Place]] = [[] for _ in read]
    places = list(dict.fromkeys(place for _, lora in read for place in lora.modules))
    for index, place in enumerate(places):
        spots = weights.spot(place), weights.spot(place, "bias")
        old = [None if spot is None else weights.at(spot) for spot in spots]
        new = list(old)
        for number, (use, lora) in enumerate(read):
            layer, strength = lora.modules.get(place), use.unet if place[0] == "unet" else use.text_encoder
            if layer is None:
                continue
            if not _has_room(layer, old[0], old[1]):
                unplaced[number].append(place)
            elif strength and old[0] is not None:
                if not layer.bias_alone:
                    new[0] = new[0] + layer.delta(old[0]) * strength
                if layer.bias is not None:
                    new[1] = new[1] + layer.bias.reshape(-1) * strength
        for spot, array, was in zip(spots, new, old, strict=True):
            if spot is not None and array is not None and array is not was:
                changed[spot] = array
        progress(index + 1, len(places))
    return changed, unplaced


def _has_room(layer: Layer, weight: Array | None, bias: Array | None) -> bool:
    """Whether all that a layer changes is there in its size."""
    if weight is None or (layer.bias is not None and (bias is None or layer.bias.size != bias.size)):
        return False
    return layer.bias_alone or layer.fits(weight.shape)


def _write_folder(weights: BaseWeights, changed: dict[Spot, Array], target: Path, facts: dict[str, Any]) -> int:
    """A copy of the base's folder with other numbers; returns how many tensors differ."""
    root = weights.facts.path
    assert root is not None
    skip = {str(file) for file in weights.headers} | {str(root / hub.STAMP)}  # it is no longer what the hub gave
    shutil.copytree(root, target, ignore=lambda folder, names: [n for n in names if str(Path(folder) / n) in skip])
    files.write_json(target / "atelier.json", facts)
    return sum(
        _rewrite(file, header, changed, target / file.relative_to(root), without_hashes(header.metadata))
        for file, header in weights.headers.items()
    )


def _rewrite(source: Path, header: Header, changed: dict[Spot, Array], target: Path, metadata: dict[str, str]) -> int:
    """The same file with some tensors changed, one tensor at a time, and with `metadata` as its metadata. Returns how many
    tensors have other bytes now."""
    by_key: dict[str, list[tuple[Spot, Array]]] = {}
    count = 0
    for spot, array in changed.items():
        if spot.file == source:
            by_key.setdefault(spot.key, []).append((spot, array))
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as old, open(target, "wb") as new:
        new.write(encode_header(fitting(metadata, len(header.tensors)), header.tensors))
        for key, tensor in sorted(header.tensors.items(), key=lambda item: item[1].start):
            old.seek(header.offset + tensor.start)
            data = old.read(tensor.end - tensor.start)
            if key in by_key:
                array = to_float32(data, tensor.dtype).reshape(tensor.shape)
                for spot, changed_array in by_key[key]:
                    part = array if spot.third is None else np.split(array, 3)[spot.third]
                    part[...] = changed_array.T if spot.turned else changed_array.reshape(part.shape)
                before, data = data, lora_file.encoded(array, _FORMATS[tensor.dtype], key, source.name)
                count += data != before
            new.write(data)
    return count
