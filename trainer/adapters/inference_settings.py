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
    """What one LoRA asks for when it is drawn on `base`. What a file says wrongly or not at all changes nothing."""
    metadata = read_header(path).metadata
    config, run = renamed.modernized_file(_tree(metadata, "atelier.config")), _tree(metadata, "atelier.run")
    model, captions = config.get("model"), config.get("captions")
    stated = model.get("prediction_type") if isinstance(model, dict) else None
    by_hand = stated in ("epsilon", "v_prediction") and metadata.get("ss_sd_model_name") == base_name(base)
    prediction = str(stated) if by_hand and stated != base.prediction else ""
    zero = metadata.get("ss_zero_terminal_snr") == "True" and (prediction or base.prediction) == "v_prediction"
    skip = metadata.get("ss_clip_skip", "")
    return InferenceSettings(
        clip_skip=int(skip) if skip.isascii() and skip.isdigit() and 1 <= int(skip) <= DEEPEST and base.family != "sdxl" else 1,
        prediction=prediction,
        zero_terminal=zero and not base.zero_snr,
        weights=isinstance(captions, dict) and captions.get("weighted") is True,
        vae=_bare(metadata.get("ss_vae_name", "")),
        vae_hash=metadata.get("ss_new_vae_hash", ""),
        run_id=_bare(str(run.get("id") or "")),
    )


def of_files(paths: Iterable[Path], base: BaseFacts) -> tuple[InferenceSettings, bool]:
    """What several LoRAs drawn together ask for, and whether they disagree: the first that says something counts.
    Weights are read where one of them read them, for a prompt without brackets is the same either way."""
    stated = [settings for path in paths if (settings := of_file(path, base)) != InferenceSettings(run_id=settings.run_id)]
    if not stated:
        return InferenceSettings(), False
    weights = any(settings.weights for settings in stated)
    changing = [settings for settings in stated if replace(settings, weights=False, run_id="") != InferenceSettings()]
    stated = [replace(settings, weights=weights) for settings in changing or stated]
    return stated[0], any(replace(settings, run_id="") != replace(stated[0], run_id="") for settings in stated)


def find_vae(settings: InferenceSettings, home: Home) -> Path | None:
    """Where the separate VAE lies on this machine: where its run took it from, else by its name in the models folder.

    None where it is not here, or where what is here has other contents.
    """
    tree = read_json(RunDir(home.runs / settings.run_id).config) if settings.run_id else None
    model = tree.get("model") if isinstance(tree, dict) else None
    vae = model.get("vae") if isinstance(model, dict) else None
    for place in (str(vae or ""), str(home.models / settings.vae)):
        if place and _bare(place) == settings.vae:
            try:
                path = catalog.find_vae(home, place)
            except Problem:
                continue
            if not settings.vae_hash or not path.is_file() or hashes_of(path)[1] == settings.vae_hash:
                return path
    return None


def _bare(name: str) -> str:
    """The last part of a path of any system, never one that leads elsewhere."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "" if last in (".", "..") else last


def _tree(metadata: dict[str, str], key: str) -> dict[str, Any]:
    try:
        tree = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}
