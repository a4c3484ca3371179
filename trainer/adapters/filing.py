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


def filed(metadata: Mapping[str, str], family: str, prediction: str = "") -> dict[str, str]:
    """`metadata` with every word by which programs tell the family. What it states already stays where it is of this family.

    `prediction` (epsilon or v_prediction) is what the base is known to predict; without it, what `metadata` states.
    """
    labelled = {key: value for key, value in metadata.items() if key not in _LAYOUT}
    prediction = prediction or _prediction(metadata)
    if not labelled.get("ss_base_model_version", "").startswith(_VERSIONS[family]):
        labelled["ss_base_model_version"] = version(family, prediction)
    labelled["ss_v2"] = str(family == "sd2")
    architecture = labelled.get("modelspec.architecture", "")
    if not (architecture.startswith(_STARTS[family]) and architecture.endswith("/lora")):
        labelled["modelspec.architecture"] = f"{ARCHITECTURES[family, prediction or 'epsilon']}/lora"
        labelled["modelspec.implementation"] = IMPLEMENTATIONS.get(family, "diffusers")
    labelled.setdefault("modelspec.sai_model_spec", "1.0.1")
    labelled.setdefault("modelspec.implementation", IMPLEMENTATIONS.get(family, "diffusers"))
    return labelled


def _prediction(metadata: Mapping[str, str]) -> str:
    """What a file's metadata says its base predicts; empty where it says nothing."""
    stated = metadata.get("modelspec.prediction_type", "").lower()
    if stated in ("v", "v_prediction", "epsilon"):
        return "epsilon" if stated == "epsilon" else "v_prediction"
    v = metadata.get("ss_base_model_version", "").endswith("_v") or metadata.get("modelspec.architecture", "").endswith(
        "-v/lora"
    )
    return "v_prediction" if v else ""


def network(metadata: Mapping[str, str], layers: Mapping[Any, Layer]) -> dict[str, str]:
    """`metadata` with the kind of network, its rank and alpha, as sd-scripts states them, where it does not say."""
    ranks = Counter(layer.rank for layer in layers.values() if layer.rank)
    alphas = Counter(layer.alpha for layer in layers.values() if layer.rank)
    plain = all(layer.kind == "lora" and layer.bias is None for layer in layers.values())
    stated = {"ss_network_module": "networks.lora" if plain else "lycoris.kohya"}
    if ranks and not metadata.get("ss_network_dim"):
        stated["ss_network_dim"] = str(next(iter(ranks))) if len(ranks) == 1 else "Dynamic"
        stated["ss_network_alpha"] = f"{next(iter(alphas)):g}" if len(alphas) == 1 else "Dynamic"
    if not metadata.get("ss_network_module"):
        stated["ss_network_args"] = "{}"
    return stated | {key: value for key, value in metadata.items() if value != ""}


def fitting(metadata: Mapping[str, str], tensors: int, note: Note = silent) -> dict[str, str]:
    """What fits into the header of a file of so many tensors. The longest texts are left out first, and `note` is told."""
    kept, dropped = dict(metadata), []
    room = MAX_HEADER - ENTRY * tensors
    while kept and _size(kept) > room:
        dropped.append(max(kept, key=lambda key: len(kept[key])))
        del kept[dropped[-1]]
    if dropped:
        note("metadata_cut", {"keys": listed(dropped)})
    return kept


def _size(metadata: Mapping[str, str]) -> int:
    return len(json.dumps(dict(metadata), ensure_ascii=False).encode("utf-8", "replace"))
