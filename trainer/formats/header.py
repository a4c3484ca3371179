"""Reading a .safetensors file's header safely: our own limits first, then the JSON, then every rule the format has.

Nothing here loads weights or runs code from the file. Used by everything that meets a LoRA or a single-file base.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from trainer.core.problem import Problem

MAX_HEADER = 8 * 2**20
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 8

SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
"""Bytes of one element, by the format's own names."""

_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}


class Tensor(NamedTuple):
    """Where a tensor lies: `start` and `end` count from the first byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a .safetensors file says about itself. `tensors` keeps the file's order."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]
    offset: int
    """The first byte of the tensor region."""
    size: int
    """Bytes of the whole file."""


def read_header(path: Path | str) -> Header:
    """The header of a .safetensors file, or a Problem that says what is wrong with the file.

    Metadata may fill the header: sd-scripts writes every tag of a large set into it, more than once.
    """
    path = Path(path)
    if path.suffix.lower() in _PICKLES:
        raise Problem("lora_pickle", file=path.name)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise Problem("lora_not_a_file", file=path.name)
        with open(path, "rb") as file:
            return _read(file, path.name, size)
    except FileNotFoundError as error:
        raise Problem("lora_missing", file=path.name) from error
    except OSError as error:
        raise Problem("lora_unreadable", file=path.name, reason=error.strerror or str(error)) from error


def _read(file: BinaryIO, name: str, size: int) -> Header:
    start = file.read(16)
    if size == 0:
        raise Problem("lora_empty", file=name)
    _refuse_others(start, name)
    if size < 8:
        raise Problem("lora_broken", file=name, detail="short")
    (length,) = struct.unpack("<Q", start[:8])
    if length > MAX_HEADER:
        # A length like 2^60 is what any other kind of file looks like, so this is the honest sentence for both.
        raise Problem("lora_header_large" if length + 8 <= size else "lora_not_safetensors", file=name)
    if length + 8 > size:
        raise Problem("lora_broken", file=name, detail="cut off")
    file.seek(8)
    raw = file.read(length)
    metadata, entries = _parse(raw, name)
    tensors = {key: _tensor(key, entry, name) for key, entry in entries.items()}
    _check_layout(tensors, size - 8 - length, name)
    return Header(metadata, tensors, 8 + length, size)


def _refuse_others(start: bytes, name: str) -> None:
    """Tell a person which other thing this file is; a pickle or zip is refused without being opened."""
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and start[8:9] != b"{":
        raise Problem("lora_pickle", file=name)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise Problem("lora_pickle", file=name)
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Problem("lora_web_page", file=name)
    if text.startswith(b"version https:/"):
        raise Problem("lora_lfs_pointer", file=name)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise KeyError("twice")
    return unique


def _parse(raw: bytes, name: str) -> tuple[dict[str, str], dict[str, Any]]:
    if not raw.startswith(b"{"):
        raise Problem("lora_not_safetensors", file=name)
    try:
        tree = json.loads(raw.decode("utf-8"), object_pairs_hook=_refuse_duplicates)
    except KeyError as error:
        raise Problem("lora_duplicate_key", file=name) from error
    except (ValueError, RecursionError) as error:
        raise Problem("lora_broken", file=name, detail="header") from error
    metadata = tree.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Problem("lora_broken", file=name, detail="metadata")
    if any("\ud800" <= c <= "\udfff" for pair in metadata.items() for text in pair for c in text):
        metadata = {_replace_surrogates(key): _replace_surrogates(value) for key, value in metadata.items()}
    if len(tree) > MAX_TENSORS:
        raise Problem("lora_too_many_tensors", file=name, limit=MAX_TENSORS)
    return metadata, tree


def _replace_surrogates(text: str) -> str:
    """Half a surrogate pair has no UTF-8: it becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _tensor(key: str, entry: Any, name: str) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Problem("lora_broken", file=name, detail="entry")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise Problem("lora_dtype", file=name, dtype=str(dtype)[:20])
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_natural, shape)):
        raise Problem("lora_broken", file=name, detail="shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_natural, offsets)):
        raise Problem("lora_broken", file=name, detail="offsets")
    start, end = offsets
    if math.prod(shape) * SIZES[dtype] != end - start:
        raise Problem("lora_broken", file=name, detail="size")
    return Tensor(dtype, tuple(shape), start, end)


def _check_layout(tensors: dict[str, Tensor], region: int, name: str) -> None:
    """The tensors must fill the region exactly: no gap, no overlap, nothing behind the last one."""
    at = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != at:
            raise Problem("lora_broken", file=name, detail="overlap" if tensor.start < at else "gap")
        at = tensor.end
    if at > region:
        raise Problem("lora_broken", file=name, detail="cut off")
    if at < region:
        raise Problem("lora_trailing", file=name)


def encode_header(metadata: dict[str, str], tensors: dict[str, Tensor]) -> bytes:
    """The 8 length bytes and the JSON, padded with spaces to a multiple of 8 as others do. Always the same bytes."""
    tree: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    for key, tensor in tensors.items():
        tree[key] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [tensor.start, tensor.end]}
    data = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    data += b" " * (-len(data) % 8)
    return struct.pack("<Q", len(data)) + data
