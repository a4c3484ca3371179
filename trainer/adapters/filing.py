"""What other programs read in a LoRA's metadata to file it under a model family, for files made from files.

A1111 (`extensions-builtin/Lora/network.py`) lists a LoRA as SDXL where `ss_base_model_version` begins with `sdxl_`, as SD 2
where `ss_v2` is `True`, and hides it with the bases of other families. Forge reads `modelspec.architecture` as well, SwarmUI
that alone. The names are those of sd-scripts (`library/sai_model_spec.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from trainer.adapters.metadata import ARCHITECTURES, IMPLEMENTATIONS
from trainer.adapters.reading import Note, listed, silent
from trainer.bases.detect import version
from trainer.formats.header import MAX_HEADER
from trainer.formats.layers import Layer

_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_"}
_STARTS = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2", "sdxl": "stable-diffusion-xl"}
_LAYOUT = ("ot_branch", "ot_revision", "ot_config")
"""OneTrainer's: by the first, InvokeAI takes a file for one of OneTrainer's own layout."""
ENTRY = 400
"""Bytes to leave in a header for a tensor's name, shape and place."""


def filed(said: Mapping[str, str], family: str, prediction: str = "") -> dict[str, str]:
    """`said` with every word by which programs tell the family. What it states already stays where it is of this family.

    `prediction` (epsilon or v_prediction) is what the base is known to predict; without it, what `said` states.
    """
    told = {key: value for key, value in said.items() if key not in _LAYOUT}
    prediction = prediction or _prediction(said)
    if not told.get("ss_base_model_version", "").startswith(_VERSIONS[family]):
        told["ss_base_model_version"] = version(family, prediction)
    told["ss_v2"] = str(family == "sd2")
    architecture = told.get("modelspec.architecture", "")
    if not (architecture.startswith(_STARTS[family]) and architecture.endswith("/lora")):
        told["modelspec.architecture"] = f"{ARCHITECTURES[family, prediction or 'epsilon']}/lora"
        told["modelspec.implementation"] = IMPLEMENTATIONS.get(family, "diffusers")
    told.setdefault("modelspec.sai_model_spec", "1.0.1")
    told.setdefault("modelspec.implementation", IMPLEMENTATIONS.get(family, "diffusers"))
    return told


def _prediction(said: Mapping[str, str]) -> str:
    """What a file's metadata says its base predicts; empty where it says nothing."""
    stated = said.get("modelspec.prediction_type", "").lower()
    if stated in ("v", "v_prediction", "epsilon"):
        return "epsilon" if stated == "epsilon" else "v_prediction"
    v = said.get("ss_base_model_version", "").endswith("_v") or said.get("modelspec.architecture", "").endswith("-v/lora")
    return "v_prediction" if v else ""


def network(said: Mapping[str, str], layers: Mapping[Any, Layer]) -> dict[str, str]:
    """`said` with the kind of network, its rank and alpha, as sd-scripts states them, where it does not say."""
    ranks = Counter(layer.rank for layer in layers.values() if layer.rank)
    alphas = Counter(layer.alpha for layer in layers.values() if layer.rank)
    plain = all(layer.kind == "lora" and layer.bias is None for layer in layers.values())
    told = {"ss_network_module": "networks.lora" if plain else "lycoris.kohya"}
    if ranks and not said.get("ss_network_dim"):
        told["ss_network_dim"] = str(next(iter(ranks))) if len(ranks) == 1 else "Dynamic"
        told["ss_network_alpha"] = f"{next(iter(alphas)):g}" if len(alphas) == 1 else "Dynamic"
    if not said.get("ss_network_module"):
        told["ss_network_args"] = "{}"
    return told | {key: value for key, value in said.items() if value != ""}


def fitting(said: Mapping[str, str], tensors: int, note: Note = silent) -> dict[str, str]:
    """What fits into the header of a file of so many tensors. The longest texts are left out first, and `note` is told."""
    kept, left = dict(said), []
    room = MAX_HEADER - ENTRY * tensors
    while kept and _size(kept) > room:
        left.append(max(kept, key=lambda key: len(kept[key])))
        del kept[left[-1]]
    if left:
        note("metadata_cut", {"keys": listed(left)})
    return kept


def _size(said: Mapping[str, str]) -> int:
    return len(json.dumps(dict(said), ensure_ascii=False).encode("utf-8", "replace"))
