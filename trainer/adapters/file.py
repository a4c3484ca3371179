"""The LoRA file itself: tensors in and out of .safetensors, always the same bytes for the same tensors.

The engine calls `write`; preview, inspect and library call `read_header`, `read_tensors` and `normalise` (weights.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapters.weights import LoraWeights, normalise, read_tensors, to_float32
from trainer.core import files
from trainer.core.problem import Problem
from trainer.formats.hashes import legacy_hash, model_hash
from trainer.formats.header import MAX_HEADER, SIZES, Header, Tensor, encode_header, read_header
from trainer.formats.layers import NORMS, SUFFIXES, Layer
from trainer.formats.names import to_kohya

__all__ = [
    "Header", "Layer", "LoraWeights", "Tensor", "encoded", "kohya_tensors", "normalise", "read_header", "read_tensors",
    "rewrite", "rewritten", "rounded", "write", "write_tensors",
]  # fmt: skip

DTYPES = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}

Array = np.ndarray[Any, np.dtype[Any]]
Adapters = Mapping[tuple[str, str], Layer] | Mapping[tuple[str, str], tuple[Array, Array, float]]
"""{(part, module): its adapter}; a plain one may be given as (down, up, alpha)."""


def write(
    path: Path,
    weights: Adapters,
    metadata: Mapping[str, str],
    dtype: str = "fp16",
    family: str = "sd1",
) -> Path:
    """Write {(part, module): Layer} under kohya's names, atomically; returns `path`.

    What every program applies is W + strength · ΔW as `Layer.delta` has it, for a plain one (alpha / r) · up·down.
    The hashes are added to the metadata here, last, from the final bytes.
    """
    return write_tensors(path, kohya_tensors(weights, family), metadata, dtype)


def kohya_tensors(weights: Adapters, family: str = "sd1") -> dict[str, Array]:
    """The tensors of a kohya file by key, float32."""
    tensors: dict[str, Array] = {}
    for (part, module), adapter in weights.items():
        layer = adapter if isinstance(adapter, Layer) else Layer.lora(*adapter)
        name = to_kohya(part, module, family)
        if not layer.is_complete:
            shapes = ", ".join(f"{what} {tensor.shape}" for what, tensor in layer.tensors.items())
            raise ValueError(f"{name}: {shapes} are no factors of one layer")
        if f"{name}.alpha" in tensors:
            raise ValueError(f"{name}: given twice")
        norm = layer.no_matrix and not layer.bias_alone
        for what, tensor in layer.tensors.items():
            tensors[f"{name}.{(NORMS if norm else SUFFIXES).get(what, what)}"] = tensor
        if not layer.no_matrix:
            tensors[f"{name}.alpha"] = np.asarray(layer.alpha, np.float32)
    return tensors


def write_tensors(
    path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str], dtype: str | Mapping[str, str] = "fp16"
) -> Path:
    """Write float32 tensors in `dtype` (one for all, or one a key), with hashes.

    An alpha stays float32 where its format cannot hold it exactly.
    """
    if not tensors:
        raise ValueError("a LoRA without layers")
    formats = {key: dtype if isinstance(dtype, str) else dtype[key] for key in tensors}
    blocks = {key: _encode(key, array, DTYPES[formats[key]], path.name) for key, array in tensors.items()}
    # Wide types first, then by name: the order the format's own library uses, so that saving again changes nothing.
    order = sorted(blocks, key=lambda key: (-SIZES[blocks[key][0]], key))
    entries, pieces, at = {}, [], 0
    for key in order:
        kind, data = blocks[key]
        entries[key] = Tensor(kind, tuple(np.shape(tensors[key])), at, at + len(data))
        pieces.append(data)
        at += len(data)
    region = b"".join(pieces)
    facts = {key: value for key, value in metadata.items() if not key.startswith("sshs_")}
    training = {key: value for key, value in facts.items() if key.startswith("ss_")}
    facts["sshs_model_hash"] = model_hash(region)
    facts["sshs_legacy_hash"] = legacy_hash(encode_header(training, entries) + region)
    if any(key.startswith("modelspec.") for key in facts):
        facts["modelspec.hash_sha256"] = "0x" + facts["sshs_model_hash"]
    files.write_bytes(Path(path), _encoded_header(facts, entries, path.name) + region)
    return Path(path)


def _encoded_header(metadata: dict[str, str], entries: dict[str, Tensor], name: str) -> bytes:
    """The header's bytes; a Problem where it is too large to be read again."""
    head = encode_header(metadata, entries)
    if len(head) - 8 > MAX_HEADER:
        raise Problem("lora_header_large", file=name)
    return head


def _encode(key: str, array: Array, kind: str, name: str) -> tuple[str, bytes]:
    array = np.ascontiguousarray(array, dtype=np.float32).reshape(np.shape(array))
    if not np.isfinite(array).all():
        raise Problem("lora_not_finite", file=name, layer=key)
    data = _as(array, kind)
    if key.endswith(".alpha") and not np.array_equal(to_float32(data, kind).reshape(array.shape), array):
        return "F32", array.astype("<f4").tobytes()
    if not np.isfinite(to_float32(data, kind)).all():
        raise Problem("lora_too_large", file=name, layer=key)
    return kind, data


def encoded(array: Array, dtype: str, key: str, name: str) -> bytes:
    """A tensor's bytes in `dtype`. Problem where a number is not finite or too large for it."""
    return _encode(key, array, DTYPES[dtype], name)[1]


def rounded(array: Array, dtype: str) -> Array:
    """A float32 array as it comes back from a file in `dtype`."""
    array = np.ascontiguousarray(array, dtype=np.float32)
    return to_float32(_as(array, DTYPES[dtype]), DTYPES[dtype]).reshape(array.shape)


def _as(array: Array, kind: str) -> bytes:
    if kind == "F32":
        return array.astype("<f4").tobytes()
    if kind == "F16":
        with np.errstate(over="ignore"):
            return array.astype("<f2").tobytes()
    # bfloat16 is float32's upper half, rounded to nearest, ties to even.
    bits = array.astype("<f4").view("<u4") if array.ndim else array.reshape(1).astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def rewritten(path: Path, changes: Mapping[str, str]) -> bytes:
    """A file's bytes with some of its metadata changed (empty drops a key): same tensors, hashes kept right."""
    header = read_header(path)
    metadata = {key: value for key, value in {**header.metadata, **changes}.items() if value != ""}
    with open(path, "rb") as file:
        file.seek(header.offset)
        region = file.read()
    if "sshs_legacy_hash" in metadata:
        training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
        metadata["sshs_legacy_hash"] = legacy_hash(encode_header(training, header.tensors) + region)
    return _encoded_header(metadata, header.tensors, path.name) + region


def rewrite(path: Path, target: Path, changes: Mapping[str, str]) -> Path:
    """Write `rewritten` to `target`, atomically; returns it."""
    files.write_bytes(Path(target), rewritten(path, changes))
    return Path(target)
