"""A LoRA from the difference of two checkpoints, and a LoRA put into a checkpoint for good. Behind `extract` and `bake`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer import files, hub
from trainer.adapters import file as lora_file
from trainer.adapters.export import refuse_existing
from trainer.adapters.fold import Use
from trainer.adapters.header import Header, encode_header
from trainer.adapters.kinds import FAMILY_NAMES
from trainer.adapters.layers import Layer
from trainer.adapters.tools.base_weights import BaseWeights, Spot
from trainer.adapters.tools.provenance import baked, baked_file, made_of_bases, without_hashes
from trainer.adapters.tools.reduce import check_size, reduced
from trainer.adapters.weights import normalise, to_float32
from trainer.base_facts import BaseFacts
from trainer.problem import Problem
from trainer.strategies.lora_targets import GROUPS

_FORMATS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
Tell = Callable[[int, int], None]


def extract(
    base: BaseFacts, tuned: BaseFacts, out: Path, *, rank: int | None = None, energy: float | None = None,
    targets: str = "attention", dtype: str = "fp16", tell: Tell = lambda done, of: None,
) -> Path:  # fmt: skip
    """A plain LoRA that turns `base` into `tuned` as nearly as `rank` (or the share `energy`) allows; returns `out`.

    Layers that are the same in both are left out. `tell(done, of)` is called a layer.
    """
    if rank is None and energy is None:
        raise Problem("resize_how", field="rank")
    check_size(rank, energy)
    refuse_existing(out)
    old, new = BaseWeights(base), BaseWeights(tuned)
    if base.family != tuned.family or old.spots.keys() != new.spots.keys():
        raise Problem("extract_family", field="tuned", base=base.title, tuned=tuned.title)
    places = [place for place in old.spots if old.modules[place].group in GROUPS[targets]]
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
    assert old.facts.path is not None and new.facts.path is not None
    told = made_of_bases(old.facts.path, new.facts.path, base.family, found, out.stem)
    return lora_file.write(out, found, told, dtype, base.family)


def bake(base: BaseFacts, uses: Sequence[Use], out: Path, tell: Tell = lambda done, of: None) -> Path:
    """A new base with `uses` inside at their strengths, in the old one's layout and number formats; returns `out`.

    The old base is only read. A folder gives a folder, a file a file; both say what they were made from, and their licences.
    """
    weights = BaseWeights(base)
    if weights.facts.layout == "file":
        refuse_existing(out)
    elif out.exists():
        raise Problem("out_exists", field="out", file=out.name)
    read = [(use, normalise(use.path)) for use in uses]
    for use, lora in read:
        if lora.family != base.family:
            raise Problem("lora_other_family", name=use.path.stem, theirs=FAMILY_NAMES[lora.family], ours=base.title)
        if any(layer.bias is not None for layer in lora.modules.values()):
            raise Problem("tool_bias", field="loras", name=use.path.stem)
    changed: dict[Spot, np.ndarray] = {}
    for index, place in enumerate(weights.spots):
        delta = None
        for use, lora in read:
            layer, strength = lora.modules.get(place), use.unet if place[0] == "unet" else use.text_encoder
            if layer is None or not strength:
                continue
            weight = weights.read(place)
            if layer.fits(weight.shape):
                delta = layer.delta(weight) * strength + (0 if delta is None else delta)
        if delta is not None:
            changed[weights.spots[place]] = weights.read(place) + delta
        tell(index + 1, len(weights.spots))
    if not changed:
        raise Problem("lora_no_match", name=", ".join(use.path.stem for use in uses))
    partial = out.with_name(f".{out.name}.part")
    given = [(use, lora.metadata) for use, lora in read]
    try:
        if weights.facts.layout == "file":
            ((root, header),) = weights.headers.items()
            _rewrite(root, header, changed, partial, baked_file(base, header.metadata, given, out.stem))
        else:
            _write_folder(weights, changed, partial, baked(base, given, out.name))
        partial.rename(out)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
    return out


def _write_folder(weights: BaseWeights, changed: dict[Spot, np.ndarray], partial: Path, told: dict[str, Any]) -> None:
    root = weights.facts.path
    assert root is not None
    skip = {str(file) for file in weights.headers} | {str(root / hub.STAMP)}  # it is no longer what the hub gave
    shutil.copytree(root, partial, ignore=lambda folder, names: [n for n in names if str(Path(folder) / n) in skip])
    files.write_json(partial / "atelier.json", told)
    for file, header in weights.headers.items():
        _rewrite(file, header, changed, partial / file.relative_to(root), without_hashes(header.metadata))


def _rewrite(
    source: Path, header: Header, changed: dict[Spot, np.ndarray], target: Path, facts: dict[str, str]
) -> None:
    """The same file with some tensors changed, one tensor at a time, and with `facts` as its metadata."""
    by_key: dict[str, list[tuple[Spot, np.ndarray]]] = {}
    for spot, array in changed.items():
        if spot.file == source:
            by_key.setdefault(spot.key, []).append((spot, array))
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as old, open(target, "wb") as new:
        new.write(encode_header(facts, header.tensors))
        for key, tensor in sorted(header.tensors.items(), key=lambda item: item[1].start):
            old.seek(header.offset + tensor.start)
            data = old.read(tensor.end - tensor.start)
            if key in by_key:
                array = to_float32(data, tensor.dtype).reshape(tensor.shape)
                for spot, wanted in by_key[key]:
                    part = array if spot.third is None else np.split(array, 3)[spot.third]
                    part[...] = wanted.reshape(part.shape)
                data = lora_file.encoded(array, _FORMATS[tensor.dtype], key, source.name)
            new.write(data)
