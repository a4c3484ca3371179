"""Writes a LoRA file again in another layout: kohya's, which every program reads, or diffusers'. Behind `export`.

Both ways lose nothing: kohya -> diffusers -> kohya gives the same tensors to the bit. In diffusers' layout alpha / r is
multiplied into B, since a loader that does not know the metadata takes alpha as r; the alphas themselves stay in
`atelier.alphas` for the way back. Only where that would cost a bit (float32 and an odd alpha / r) does alpha stay in the
metadata diffusers reads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapters import file as lora_file
from trainer.adapters.filing import ENTRY, filed, fitting, network
from trainer.adapters.reading import Note, silent
from trainer.adapters.weights import LoraWeights, normalise
from trainer.core.problem import Problem
from trainer.formats.detect import locate
from trainer.formats.header import Header, read_header
from trainer.formats.layers import Layer
from trainer.formats.names import to_diffusers

LAYOUTS = ("kohya", "diffusers")
ALPHAS = "atelier.alphas"
Places = dict[tuple[str, str], Layer]
_DTYPE_NAMES = {"F16": "fp16", "BF16": "bf16"}


def export(path: Path, layout: str, out: Path, *, partial: bool = False, note: Note = silent) -> Path:
    """Write `path` as `out` in `layout`; returns `out`. An existing file is never overwritten.

    `note` is told how many layers were read. Problem where it is less than half, unless `partial` allows it.
    """
    path, out = Path(path), Path(out)
    if layout not in LAYOUTS:
        raise Problem("export_layout", field="to", given=layout, layouts=", ".join(LAYOUTS))
    weights = normalise(path, partial=partial)
    layers, types = unfolded(weights), number_formats(read_header(path))
    metadata = {k: v for k, v in weights.metadata.items() if k not in (ALPHAS, "lora_adapter_metadata", "format")}
    metadata = network(filed(metadata, weights.family), layers)
    refuse_existing(out)
    note(*weights.reading.note())
    if layout == "kohya":
        tensors = lora_file.kohya_tensors(layers, weights.family)
        formats = {key: types.get(locate(key) or ("", ""), "fp32") for key in tensors}
        if metadata.get("ss_network_module") == "networks.oft":  # whose alpha means another bound than the one written here
            metadata["ss_network_module"] = "lycoris.kohya"
        return lora_file.write_tensors(out, tensors, fitting(metadata, len(tensors), note), formats)
    for layer in layers.values():
        if not layer.tensors.keys() <= {"down", "up", "dora"}:
            kind = layer.kind if layer.bias is None else f"{layer.kind} + diff_b"
            raise Problem("export_kind", file=path.name, kind=kind)
        if layer.kind == "dora" and not _by_row(layer):
            raise Problem("export_dora", file=path.name)
    tensors, formats, folded = _diffusers(layers, types)
    layout_metadata = _metadata(layers, folded)
    metadata = fitting(metadata, len(tensors) + sum(map(len, layout_metadata.values())) // ENTRY + 1, note)
    return lora_file.write_tensors(out, tensors, metadata | layout_metadata, formats)


def unfolded(weights: LoraWeights) -> Places:
    """The layers with the alphas they had before an export to diffusers' layout, where the file keeps them."""
    alphas = _read_alphas(weights.metadata)
    layers: Places = {}
    for (part, module), layer in weights.modules.items():
        alpha = alphas.get(f"{part}.{module}", alphas.get(part)) if layer.kind == "lora" else None
        if alpha and weights.layout == "diffusers":
            layer = Layer.lora(layer.down, _unfold(layer.up, alpha / (layer.rank or 1)), alpha)
        layers[part, module] = layer
    return layers


def number_formats(header: Header) -> dict[tuple[str, str], str]:
    """(part, module) -> fp16, bf16 or fp32: the narrowest its tensors are kept in (a folded B may be wider than it was)."""
    dtypes: dict[tuple[str, str], str] = {}
    for key, tensor in header.tensors.items():
        place, dtype = locate(key), _DTYPE_NAMES.get(tensor.dtype, "fp32")
        if place and len(tensor.shape) > 1 and (dtype != "fp32" or place not in dtypes):
            dtypes[place] = dtype
    return dtypes


def refuse_existing(out: Path) -> None:
    """A Problem where `out` is there already, or is no name for a LoRA."""
    if out.suffix.lower() != ".safetensors":
        raise Problem("out_suffix", field="out", file=out.name)
    if out.exists():
        raise Problem("out_exists", field="out", file=out.name)


def _diffusers(
    layers: Places, types: Mapping[tuple[str, str], str]
) -> tuple[dict[str, Any], dict[str, str], set[tuple[str, str]]]:
    """The tensors, their number formats, and the layers whose alpha is inside B now."""
    tensors: dict[str, Any] = {}
    formats: dict[str, str] = {}
    folded: set[tuple[str, str]] = set()
    for place, layer in layers.items():
        name, dtype, up = to_diffusers(*place), types.get(place, "fp32"), layer.up
        product = up * np.float32(layer.scale)
        if np.array_equal(lora_file.rounded(_unfold(product, layer.scale), dtype), up):
            up = product
            folded.add(place)
        if "dora" in layer.tensors:
            shape = (-1,) if layer.down.ndim == 2 else (1, -1, 1, 1)
            tensors[f"{name}.lora_magnitude_vector"] = layer.tensors["dora"].reshape(shape)
            formats[f"{name}.lora_magnitude_vector"] = dtype
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = layer.down, up
        formats[f"{name}.lora_A.weight"] = dtype
        formats[f"{name}.lora_B.weight"] = dtype if np.array_equal(lora_file.rounded(up, dtype), up) else "fp32"
    return tensors, formats, folded


def _by_row(layer: Layer) -> bool:
    """Whether DoRA's magnitude is PEFT's, one number an output row; of [1, 1] nobody can tell."""
    return layer.tensors["dora"].shape[0] == layer.up.shape[0] > 1


def _unfold(up: Any, scale: float) -> Any:
    return up / np.float32(scale)


def _metadata(layers: Places, folded: set[tuple[str, str]]) -> dict[str, str]:
    """What diffusers reads (a PEFT configuration by part), and the alphas as they were (0: as diffusers reads it)."""
    config: dict[str, Any] = {}
    alphas: dict[str, float] = {}
    for part in dict.fromkeys(part for part, _ in layers):
        of_part = {module: layer for (p, module), layer in layers.items() if p == part}
        alphas_read = {m: float(layer.rank or 1) if (part, m) in folded else layer.alpha for m, layer in of_part.items()}
        alphas_before = {module: layer.alpha if (part, module) in folded else 0.0 for module, layer in of_part.items()}
        ranks = {module: layer.rank for module, layer in of_part.items()}
        rank, alpha, alphas[part] = (_commonest(values) for values in (ranks, alphas_read, alphas_before))
        peft_config = {
            "r": rank, "lora_alpha": alpha, "rank_pattern": _others(ranks, rank), "alpha_pattern": _others(alphas_read, alpha),
            "target_modules": sorted(of_part), "use_dora": any("dora" in layer.tensors for layer in of_part.values()),
            "use_rslora": False, "bias": "none",
        }  # fmt: skip
        config |= {f"{part}.{key}": value for key, value in peft_config.items()}
        alphas |= {f"{part}.{module}": value for module, value in _others(alphas_before, alphas[part]).items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(config, sort_keys=True), ALPHAS: json.dumps(alphas)}


def _commonest(values: Mapping[str, Any]) -> Any:
    return Counter(values.values()).most_common(1)[0][0]


def _others(values: Mapping[str, Any], common: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value != common}


def _read_alphas(metadata: Mapping[str, str]) -> dict[str, float]:
    try:
        tree = json.loads(metadata.get(ALPHAS, "{}"))
    except (ValueError, RecursionError):
        return {}
    pairs = tree.items() if isinstance(tree, dict) else ()
    return {key: float(value) for key, value in pairs if isinstance(value, int | float) and value >= 0}
