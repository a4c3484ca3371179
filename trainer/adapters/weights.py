"""From any LoRA file of Stable Diffusion, in kohya's or diffusers' layout, to the adapter of every layer.

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

from trainer.adapters import multiplied
from trainer.adapters.families import FAMILIES
from trainer.adapters.header import SIZES, Header, Tensor, read_header
from trainer.adapters.kinds import Layout, Seen, locate, look, split_key
from trainer.adapters.layers import SUFFIXES, Layer
from trainer.problem import Problem

Array = np.ndarray[Any, np.dtype[Any]]
MAX_RANK = 4096
KINDS = ("lora", "locon", "tucker", "dora", "loha", "lokr", "oft", "boft", "ia3", "glora", "full")
"""The kinds that are read, by the words of kinds.look."""
_KNOWN = ("alpha", *SUFFIXES, "magnitude", "diff", "diff_b", "oft_blocks", "rescale")
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


def to_float32(data: bytes, dtype: str) -> Array:
    """A flat float32 array from the bytes of a tensor."""
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, _NUMPY[dtype]).astype(np.float32)


def read_tensors(path: Path | str, header: Header | None = None, *, check: bool = True) -> dict[str, Array]:
    """Every tensor as float32 (half precision widened exactly). With `check`, NaN or infinity refuses the file."""
    path = Path(path)
    header = header or read_header(path)
    found: dict[str, Array] = {}
    with open(path, "rb") as file:
        for key, tensor in header.tensors.items():
            file.seek(header.offset + tensor.start)
            found[key] = _tensor(key, tensor, file.read(tensor.end - tensor.start), path.name, check)
    return found


def _tensor(key: str, tensor: Tensor, data: bytes, name: str, check: bool) -> Array:
    if tensor.dtype not in _NUMPY and tensor.dtype != "BF16":
        raise Problem("lora_dtype", file=name, dtype=tensor.dtype)
    if len(data) % SIZES[tensor.dtype] or len(data) != tensor.end - tensor.start:
        raise Problem("lora_broken", file=name, detail="cut off")
    array = to_float32(data, tensor.dtype).reshape(tensor.shape)
    if check and not np.isfinite(array).all():
        raise Problem("lora_nan", file=name, layer=key[:120])
    return array


def normalise(path: Path | str, *, words: bool = False) -> LoraWeights:
    """The adapter of every layer of a Stable Diffusion LoRA, whichever layout it is written in. With `words`, a file that
    brings nothing but a word's own vectors (embedding.py) has no layers and is none the worse."""
    path = Path(path)
    header = read_header(path)
    seen = _usable(header, path.name)
    tensors = read_tensors(path, header)
    groups: dict[tuple[str, str], dict[str, Array]] = {}
    unknown: list[str] = []
    for key, array in tensors.items():
        if key.startswith("bundle_emb."):
            continue
        split = split_key(key)
        place = locate(key)
        if split is None or place is None or not (split.what in _KNOWN or split.what.startswith(("hada_", "lokr_"))):
            unknown.append(key)
        else:
            groups.setdefault(place, {})[split.what] = array
    alphas = _diffusers_alphas(header.metadata)
    modules: dict[tuple[str, str], Layer] = {}
    for (part, module), found in groups.items():
        alpha = found.pop("alpha", None)
        layer = _layer(found, path.name, f"{part}.{module}")
        if layer.kind == "oft":
            stated = _constraint(alpha, layer, tensors)
        else:
            stated = _alpha(alpha, alphas, part, module, layer.rank or 1)
        modules[part, module] = Layer(layer.tensors, stated)
    if not modules and not (words and seen.kind == "words"):
        raise Problem("lora_no_adapter", file=path.name)
    return LoraWeights(modules, seen.family, seen.layout, header.metadata, tuple(unknown))


def check_made_for(path: Path, family: str | None, base: str, field: str | None = None) -> None:
    """From the header alone, before a base is loaded: a Problem where `path` is no LoRA for `base`, of `family` if known."""
    try:
        seen = _usable(read_header(path), path.name)
    except Problem as problem:
        raise Problem(problem.code, field=field, **problem.params) from problem
    if family not in (None, seen.family):
        raise Problem("lora_other_family", field=field, name=path.stem, theirs=seen.family_name, ours=base)


def _usable(header: Header, name: str) -> Seen:
    """What the file is; a Problem where nothing here can use it."""
    seen = look(header)
    refuse_others(seen.kind, name)
    if seen.kind not in KINDS and seen.kind != "words":
        raise Problem("lora_kind", file=name, kind=seen.kind)
    if seen.family not in FAMILIES:
        raise Problem("lora_family", file=name, family=seen.family_name)
    return seen


def _layer(found: dict[str, Array], name: str, place: str) -> Layer:
    """The tensors of one layer, whole and of shapes that go together; alpha still to come."""
    if not any(set(carriers) <= found.keys() for carriers in _CARRIERS):
        raise Problem("lora_half", file=name, layer=place)
    if "magnitude" in found:  # PEFT's: one number an output row
        found["dora"] = found.pop("magnitude").reshape(-1, 1)
    if multiplied.kind(found) and "dora" in found:
        raise Problem("lora_kind", file=name, kind=f"{multiplied.kind(found)} + dora")
    layer = Layer(found, 1.0)
    if layer.kind == "glora" and layer.whole:
        layer = Layer(multiplied.in_new_order(found), 1.0)
    if not layer.whole or (layer.rank or 1) > MAX_RANK:
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
    except ValueError:
        return {}
    found: dict[str, float] = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        part, _, what = key.partition(".")
        if what == "lora_alpha" and isinstance(value, int | float) and value > 0:
            found[part] = float(value)
        elif what == "alpha_pattern" and isinstance(value, dict):
            numbers = {layer: float(a) for layer, a in value.items() if isinstance(a, int | float) and a > 0}
            found.update({f"{part}:{layer}": number for layer, number in numbers.items()})
        elif what == "use_rslora" and value is True:
            found[f"{part}!rslora"] = 1.0
    return found
