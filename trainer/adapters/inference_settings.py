"""How the training of a LoRA read words and pictures, from the file's own metadata, so that who draws with it does the same.

Used by engine/inference/sampling.py, and by the Preview page to know when a picture must be drawn anew. Light: no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.adapters.metadata import base_name
from trainer.bases import catalog
from trainer.bases.facts import BaseFacts, hashes_of
from trainer.config import renamed
from trainer.core.files import read_json
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.formats.header import read_header

DEEPEST = 12
"""The largest clip skip believed."""


@dataclass(frozen=True)
class InferenceSettings:
    """What a training changed in how its base reads and draws. The default changes nothing."""

    clip_skip: int = 1
    prediction: str = ""
    """The prediction type set by hand, for the very base the LoRA was trained on."""
    zero_terminal: bool = False
    """Whether the noise schedule was stretched to zero."""
    weights: bool = False
    """Whether brackets in captions were read as weights."""
    vae: str = ""
    """The name of the separate VAE."""
    vae_hash: str = ""
    """Its SHA-256, where it is a single file."""
    run_id: str = ""


def of_file(path: Path, base: BaseFacts) -> InferenceSettings:
    """The manner of one LoRA when it is drawn on `base`. What a file says wrongly or not at all changes nothing."""
    said = read_header(path).metadata
    config, run = renamed.modernized_file(_tree(said, "atelier.config")), _tree(said, "atelier.run")
    model, captions = config.get("model"), config.get("captions")
    stated = model.get("prediction_type") if isinstance(model, dict) else None
    by_hand = stated in ("epsilon", "v_prediction") and said.get("ss_sd_model_name") == base_name(base)
    prediction = str(stated) if by_hand and stated != base.prediction else ""
    zero = said.get("ss_zero_terminal_snr") == "True" and (prediction or base.prediction) == "v_prediction"
    skip = said.get("ss_clip_skip", "")
    return InferenceSettings(
        clip_skip=int(skip) if skip.isascii() and skip.isdigit() and 1 <= int(skip) <= DEEPEST and base.family != "sdxl" else 1,
        prediction=prediction,
        zero_terminal=zero and not base.zero_snr,
        weights=isinstance(captions, dict) and captions.get("weighted") is True,
        vae=_bare(said.get("ss_vae_name", "")),
        vae_hash=said.get("ss_new_vae_hash", ""),
        run_id=_bare(str(run.get("id") or "")),
    )


def of_files(paths: Iterable[Path], base: BaseFacts) -> tuple[InferenceSettings, bool]:
    """The manner several LoRAs are drawn in together, and whether they disagree: the first that says something counts.
    Weights are read where one of them read them, for a prompt without brackets is the same either way."""
    known = [found for path in paths if (found := of_file(path, base)) != InferenceSettings(run_id=found.run_id)]
    if not known:
        return InferenceSettings(), False
    weights = any(found.weights for found in known)
    more = [found for found in known if replace(found, weights=False, run_id="") != InferenceSettings()]
    known = [replace(found, weights=weights) for found in more or known]
    return known[0], any(replace(found, run_id="") != replace(known[0], run_id="") for found in known)


def find_vae(manner: InferenceSettings, home: Home) -> Path | None:
    """Where the separate VAE lies on this machine: where its run took it from, else by its name in the models folder.

    None where it is not here, or where what is here has other contents.
    """
    tree = read_json(RunDir(home.runs / manner.run_id).config) if manner.run_id else None
    model = tree.get("model") if isinstance(tree, dict) else None
    given = model.get("vae") if isinstance(model, dict) else None
    for place in (str(given or ""), str(home.models / manner.vae)):
        if place and _bare(place) == manner.vae:
            try:
                path = catalog.find_vae(home, place)
            except Problem:
                continue
            if not manner.vae_hash or not path.is_file() or hashes_of(path)[1] == manner.vae_hash:
                return path
    return None


def _bare(name: str) -> str:
    """The last part of a path of any system, never one that leads elsewhere."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "" if last in (".", "..") else last


def _tree(said: dict[str, str], key: str) -> dict[str, Any]:
    try:
        found = json.loads(said.get(key, "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
