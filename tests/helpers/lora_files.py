"""LoRA files for tests, made of random factors at real or small sizes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.bases.facts import BaseFacts
from trainer.formats.architectures import Modules, family_modules

Weights = dict[tuple[str, str], tuple[np.ndarray, np.ndarray, float]]


def factors(
    layers: Modules | None = None,
    rank: int = 4,
    alpha: float = 2.0,
    groups: Iterable[str] = ("attention",),
    seed: int = 0,
) -> Weights:
    """Random factors for every layer of the groups, of Stable Diffusion 1.5 unless other layers are given."""
    rng, chosen = np.random.default_rng(seed), set(groups)
    found: Weights = {}
    for key, module in (layers or family_modules("sd1")).items():
        if module.group not in chosen:
            continue
        out, *inside = module.shape
        up = (out, rank, 1, 1) if len(inside) > 1 else (out, rank)
        found[key] = (_random(rng, (rank, *inside)), _random(rng, up), alpha)
    return found


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.05)


def raw(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    """Write tensors under any keys, the library's own way."""
    from safetensors.numpy import save_file

    save_file(tensors, path, metadata)
    return path


def header_only(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with any header (text, or a tree made JSON) and any bytes behind it."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def facts(**changes: Any) -> BaseFacts:
    """The facts of an ordinary Stable Diffusion 1.5 folder."""
    known: dict[str, Any] = {
        "id": "sd15",
        "titles": {"en": "Stable Diffusion 1.5", "ja": "Stable Diffusion 1.5"},
        "path": Path("sd15"),
        "layout": "folder",
        "family": "sd1",
        "version": "sd_v1",
        "prediction": "epsilon",
        "zero_snr": False,
        "resolution": 512,
        "guidance": 7.0,
        "steps": 25,
        "licence": "CreativeML OpenRAIL-M",
        "licence_url": "https://x",
        "sample_prompts": ("a cat",),
        "size_bytes": 1,
    }
    return BaseFacts(**known | changes)
