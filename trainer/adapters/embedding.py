"""Token vectors of a word of its own (textual inversion, Gal et al. 2022): as a file other programs read, and in a LoRA file.

Saving writes them; drawing (engine/text/embeddings.py) and `inspect` read them. Vectors go by part: {"text_encoder": (N,
width), …}.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapters.weights import read_tensors
from trainer.core import files
from trainer.core.problem import Problem
from trainer.formats.header import Header, read_header

Vectors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]

KEY = "atelier.embedding"
"""Our LoRA files' own note of the vectors: unlike tensors of another kind it keeps no program from reading the LoRA."""
BUNDLE = "bundle_emb."
PARTS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""SDXL's names; the families with one text encoder have one tensor without a name of its own."""
MAX_VECTORS = 75


@dataclass(frozen=True)
class Embedding:
    """A word and its vectors, float32."""

    name: str
    vectors: Vectors

    @property
    def count(self) -> int:
        return len(next(iter(self.vectors.values())))


def to_metadata(embedding: Embedding) -> dict[str, str]:
    """The metadata by which our own LoRA files carry it."""
    vectors = {part: [len(rows), base64.b64encode(rows.astype("<f4").tobytes()).decode()]
               for part, rows in embedding.vectors.items()}  # fmt: skip
    return {KEY: json.dumps({"name": embedding.name, "vectors": vectors}, ensure_ascii=False)}


def to_tensors(embedding: Embedding) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The tensors by which AUTOMATIC1111, Forge and OneTrainer carry it inside a LoRA file. A name cannot hold a dot."""
    above = f"{BUNDLE}{embedding.name.replace('.', '_')}"
    if len(embedding.vectors) == 1:
        return {f"{above}.string_to_param.*": next(iter(embedding.vectors.values()))}
    return {f"{above}.{name}": embedding.vectors[part] for name, part in PARTS.items()}


def write(path: Path, embedding: Embedding, metadata: Mapping[str, str]) -> Path:
    """The file that lies in an `embeddings` folder of AUTOMATIC1111, Forge or ComfyUI, and that diffusers loads: `emb_params`
    for one text encoder, `clip_l` and `clip_g` for SDXL; float32."""
    from safetensors.numpy import save

    if len(embedding.vectors) == 1:
        tensors = {"emb_params": next(iter(embedding.vectors.values()))}
    else:
        tensors = {name: embedding.vectors[part] for name, part in PARTS.items()}
    arrays = {name: np.ascontiguousarray(rows, np.float32) for name, rows in tensors.items()}
    files.write_bytes(path, save(arrays, metadata={"format": "pt", "name": embedding.name, **metadata}))
    return path


def read_embeddings(path: Path, header: Header | None = None) -> list[Embedding]:
    """Every word a LoRA file brings along, bundled as tensors or in our own note; none where it says none or nonsense."""
    header = header or read_header(path)
    return from_tensors(path, header) or from_metadata(header)


def from_metadata(header: Header) -> list[Embedding]:
    """The word of our own note."""
    try:
        record = json.loads(header.metadata.get(KEY, "{}"))
        vectors = {
            part: np.frombuffer(base64.b64decode(data), "<f4").reshape(rows, -1).astype(np.float32)
            for part, (rows, data) in record["vectors"].items()
        }
        embedding = Embedding(str(record["name"]), vectors)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return []
    return [embedding] if _is_valid(embedding) else []


def from_tensors(path: Path, header: Header) -> list[Embedding]:
    """The words bundled as tensors."""
    keys = [key for key in header.tensors if key.startswith(BUNDLE)]
    if not keys:
        return []
    tensors = read_tensors(path, replace(header, tensors={key: header.tensors[key] for key in keys}), check=False)
    vectors_by_name: dict[str, dict[str, Any]] = {}
    for key in keys:
        name, _, what = key.removeprefix(BUNDLE).partition(".")
        part = PARTS.get(what, "text_encoder" if what.startswith(("string_to_param.", "emb_params")) else "")
        if part and tensors[key].ndim == 2:
            vectors_by_name.setdefault(name, {})[part] = np.asarray(tensors[key], np.float32)
    embeddings = (Embedding(name, vectors) for name, vectors in vectors_by_name.items())
    return [one for one in embeddings if _is_valid(one)]


def merged(paths: Sequence[Path]) -> tuple[dict[str, str], dict[str, np.ndarray[Any, np.dtype[Any]]]]:
    """(metadata, tensors) by which a file made of `paths` carries all their words: one in our own note, several as tensors,
    as the note holds one. Bundled where a source is. Problem where two files mean different things by one word."""
    embeddings: dict[str, Embedding] = {}
    tensors: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}
    as_tensors = False
    for path in paths:
        header = read_header(path)
        as_tensors |= any(key.startswith(BUNDLE) for key in header.tensors)
        for embedding in from_metadata(header) or from_tensors(path, header):  # the note spells a name with dots as it is
            if embedding.name in embeddings and not _is_same(embeddings[embedding.name], embedding):
                raise Problem("merge_words", field="loras", word=embedding.name, name=path.stem)
            embeddings[embedding.name] = embedding
    if as_tensors or len(embeddings) > 1:
        for embedding in embeddings.values():
            tensors |= to_tensors(embedding)
    return to_metadata(next(iter(embeddings.values()))) if len(embeddings) == 1 else {}, tensors


def _is_same(one: Embedding, other: Embedding) -> bool:
    """Whether two words have the same vectors, within what 16 bits keep."""
    return one.vectors.keys() == other.vectors.keys() and all(
        rows.shape == other.vectors[part].shape and np.allclose(rows, other.vectors[part], rtol=1e-3, atol=1e-4)
        for part, rows in one.vectors.items()
    )


def words_of(header: Header) -> list[str]:
    """The words a header shows, without reading tensors."""
    bundled_names = {key.removeprefix(BUNDLE).partition(".")[0] for key in header.tensors if key.startswith(BUNDLE)}
    return sorted(bundled_names) or [one.name for one in from_metadata(header)]


def _is_valid(one: Embedding) -> bool:
    counts = {len(rows) for rows in one.vectors.values()}
    finite = all(bool(np.isfinite(rows).all()) for rows in one.vectors.values())
    return bool(one.name.strip()) and len(counts) == 1 and 0 < min(counts) <= MAX_VECTORS and finite
