"""From any LoRA file of Stable Diffusion, whichever program wrote it, to the adapter of every layer.

Called by the preview (fold), by inspect, by the exports and the tools. LoRA, LoCon, Tucker, DoRA, LoHa, LoKr, OFT, (IA)³,
BOFT, GLoRA and full differences with those of biases and norms; kinds beyond these are named and refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapters.reading import Reading, sort_keys
from trainer.core.problem import Problem
from trainer.formats import multiplied
from trainer.formats.architectures import ARCHITECTURES, inner_shape
from trainer.formats.detect import FileFormat, Layout, file_format
from trainer.formats.header import SIZES, Header, Tensor, read_header
from trainer.formats.layers import Layer

Array = np.ndarray[Any, np.dtype[Any]]
MAX_RANK = 4096
READABLE_TYPES = ("lora", "locon", "tucker", "dora", "loha", "lokr", "oft", "boft", "ia3", "glora", "full")
"""The kinds that are read, as `detect.file_format` names them."""
_CARRIERS = (
    ("down", "up"), ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ("diff",), ("diff_b",),
    ("oft_blocks",), ("ia3", "ia3_in"), tuple(f"glora_{name}" for name in ("a1", "a2", "b1", "b2")),
    *((w1, w2) for w1 in ("lokr_w1", "lokr_w1_b") for w2 in ("lokr_w2", "lokr_w2_b")),
)  # fmt: skip
"""Which tensors make a whole adapter."""
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
          "BOOL": "?"}  # fmt: skip


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA by layer. Text encoder paths carry no `text_model.`: `names.bare` of a class's own path finds them."""

    modules: dict[tuple[str, str], Layer]
    family: str
    layout: Layout
    metadata: dict[str, str]
    unknown: tuple[str, ...] = field(default=())
    """Keys no layer of the family answers to; they have no effect."""
    reading: Reading = field(default=Reading("", 0))
    """How many of the file's layers are in `modules`, and what it calls the others."""


def to_float32(data: bytes, dtype: str) -> Array:
    """A flat float32 array from the bytes of a tensor."""
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, _NUMPY[dtype]).astype(np.float32)


def read_tensors(path: Path | str, header: Header | None = None, *, check: bool = True) -> dict[str, Array]:
    """Every tensor as float32 (half precision widened exactly). With `check`, NaN or infinity refuses the file."""
    path = Path(path)
    header = header or read_header(path)
    tensors: dict[str, Array] = {}
    with open(path, "rb") as file:
        for key, tensor in header.tensors.items():
            file.seek(header.offset + tensor.start)
            tensors[key] = _tensor(key, tensor, file.read(tensor.end - tensor.start), path.name, check)
    return tensors


def _tensor(key: str, tensor: Tensor, data: bytes, name: str, check: bool) -> Array:
    if tensor.dtype not in _NUMPY and tensor.dtype != "BF16":
        raise Problem("lora_dtype", file=name, dtype=tensor.dtype)
    if len(data) % SIZES[tensor.dtype] or len(data) != tensor.end - tensor.start:
        raise Problem("lora_broken", file=name, detail="cut off")
    array = to_float32(data, tensor.dtype).reshape(tensor.shape)
    if check and not np.isfinite(array).all():
        raise Problem("lora_nan", file=name, layer=key[:120])
    return array


def normalise(path: Path | str, *, embeddings: bool = False, partial: bool = False, field: str | None = None) -> LoraWeights:
    """The adapter of every layer of a Stable Diffusion LoRA, whichever layout it is written in. With `embeddings`, a file that
    brings nothing but a word's own vectors (embedding.py) has no layers and is none the worse.

    A Problem (of `field`) where less than half of the file's layers are known, unless `partial` allows it.
    """
    path = Path(path)
    header = read_header(path)
    detected = _readable_format(header, path.name)
    keys = sort_keys(header.tensors)
    if not keys.layers and not (embeddings and detected.kind == "words"):
        raise Problem("lora_no_adapter", file=path.name)
    reading = keys.reading(path.stem)
    reading.check(partial, field)
    tensors = read_tensors(path, header)
    alphas = _diffusers_alphas(header.metadata)
    modules: dict[tuple[str, str], Layer] = {}
    for (part, module), layer_keys in keys.layers.items():
        layer_tensors = {what: tensors[key] for what, key in layer_keys.items()}
        alpha = layer_tensors.pop("alpha", None)
        layer = _with_kernel(_layer(layer_tensors, path.name, f"{part}.{module}"), (part, module), detected.family)
        if layer.kind == "oft":
            stated = _constraint(alpha, layer, tensors)
        else:
            stated = _alpha(alpha, alphas, part, module, layer.rank or 1)
        modules[part, module] = Layer(layer.tensors, stated)
    return LoraWeights(modules, detected.family, detected.layout, header.metadata, tuple(keys.unknown), reading)


def _with_kernel(layer: Layer, place: tuple[str, str], family: str) -> Layer:
    """A convolution's factors with a convolution's axes, and a linear layer's flat, where a file has one of them flat (DyLoRA)
    or both though the kernel is wide (ComfyUI's trainer)."""
    if "down" not in layer.tensors or "mid" in layer.tensors or not layer.size:
        return layer
    down, up, (rows, columns) = layer.down, layer.up, layer.size
    wide = down.shape[2:] not in ((), (1, 1))
    inside = tuple(down.shape[1:]) if wide else inner_shape(place, family, (rows, columns))
    if down.ndim == up.ndim and (down.ndim == 4 or inside[1:] in ((), (1, 1))):
        return layer
    ones = (1, 1) if len(inside) > 1 else ()
    tensors = {"down": down.reshape(-1, *inside), "up": up.reshape(rows, -1, *ones)}
    return Layer(layer.tensors | tensors, layer.alpha)


def check_made_for(
    path: Path, family: str | None, base: str, field: str | None = None, partial: bool = False
) -> None:  # fmt: skip
    """From the header alone, before a base is loaded: a Problem where `path` is no LoRA for `base`, of `family` if known, or
    where less than half of it is understood, unless `partial` allows that."""
    try:
        header = read_header(path)
        detected = _readable_format(header, path.name)
        sort_keys(header.tensors).reading(path.stem).check(partial)
    except Problem as problem:
        raise Problem(problem.code, field=field, **problem.params) from problem
    if family not in (None, detected.family):
        raise Problem("lora_other_family", field=field, name=path.stem, theirs=detected.family_name, ours=base)


def _readable_format(header: Header, name: str) -> FileFormat:
    """What the file is; a Problem where nothing here can use it."""
    detected = file_format(header)
    refuse_others(detected.kind, name)
    if detected.kind not in READABLE_TYPES and detected.kind != "words":
        raise Problem("lora_kind", file=name, kind=detected.kind)
    if detected.family not in ARCHITECTURES:
        raise Problem("lora_family", file=name, family=detected.family_name)
    return detected


def _layer(tensors: dict[str, Array], name: str, place: str) -> Layer:
    """The tensors of one layer, whole and of shapes that go together; alpha still to come."""
    if not any(set(carriers) <= tensors.keys() for carriers in _CARRIERS):
        raise Problem("lora_half", file=name, layer=place)
    if "magnitude" in tensors:  # PEFT's: one number an output row
        tensors["dora"] = tensors.pop("magnitude").reshape(-1, 1)
    if multiplied.kind(tensors) and "dora" in tensors:
        raise Problem("lora_kind", file=name, kind=f"{multiplied.kind(tensors)} + dora")
    layer = Layer(tensors, 1.0)
    if layer.kind == "glora" and layer.is_complete:
        layer = Layer(multiplied.in_new_order(tensors), 1.0)
    if not layer.is_complete or (layer.rank or 1) > MAX_RANK:
        raise Problem("lora_shape", file=name, layer=place)
    return layer


def _constraint(alpha: Array | None, layer: Layer, keys: Iterable[str]) -> float:
    """OFT's alpha, which bounds ‖Q‖ by its product with the layer's rows; ComfyUI's trainer writes the bound itself. 0
    bounds nothing."""
    if alpha is None or not alpha.size:
        return 0.0
    rows = multiplied.bound(layer.tensors["oft_blocks"], 1.0)
    comfyui = any(key.startswith("diffusion_model.") for key in keys)
    return float(alpha.reshape(-1)[0]) / (rows if comfyui else 1.0)


def refuse_others(kind: str, name: str) -> None:
    """A Problem for files in which there is no adapter at all."""
    if kind == "checkpoint":
        raise Problem("lora_is_base", file=name)
    if kind in ("none", "embedding"):
        raise Problem("lora_no_adapter", file=name)


def _alpha(tensor: Array | None, alphas: dict[str, float], part: str, module: str, rank: int) -> float:
    """The layer's own alpha; else what diffusers' metadata says; else alpha = r, which leaves the product as it is."""
    if tensor is not None and tensor.size == 1:
        value = float(tensor.reshape(()))
        return value if value != 0 else float(rank)
    root = rank**0.5 if f"{part}!rslora" in alphas else 1.0  # rsLoRA multiplies by alpha / sqrt(r)
    for name, value in alphas.items():
        layer = name.removeprefix(f"{part}:")
        if name != layer and (module == layer or f"text_model.{module}" == layer or module.endswith(f".{layer}")):
            return value * root
    return alphas[part] * root if part in alphas else float(rank)


def alpha_stated(metadata: dict[str, str], rank: int | None) -> float | None:
    """The alpha diffusers' metadata states for the UNet, else for the text encoder, as alpha / r is meant; or None."""
    alphas = _diffusers_alphas(metadata)
    for part in ("unet", "text_encoder"):
        if part in alphas and rank:
            return alphas[part] * (rank**0.5 if f"{part}!rslora" in alphas else 1.0)
    return None


def _diffusers_alphas(metadata: dict[str, str]) -> dict[str, float]:
    """`lora_adapter_metadata`: alpha by part, and by layer where a pattern names it."""
    try:
        tree = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    alphas: dict[str, float] = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        part, _, what = key.partition(".")
        if what == "lora_alpha" and isinstance(value, int | float) and value > 0:
            alphas[part] = float(value)
        elif what == "alpha_pattern" and isinstance(value, dict):
            numbers = {layer: float(a) for layer, a in value.items() if isinstance(a, int | float) and a > 0}
            alphas.update({f"{part}:{layer}": number for layer, number in numbers.items()})
        elif what == "use_rslora" and value is True:
            alphas[f"{part}!rslora"] = 1.0
    return alphas
