"""Checkpoints that are whole or do not exist: temporary folder, fsync, manifest with hashes, rename. Called by the recipe."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from trainer.config import renamed
from trainer.config.load import UNIONS
from trainer.config.train import TrainConfig
from trainer.core import files
from trainer.core.run_dir import RunDir

LORA = "lora.safetensors"
WANTED = "wanted.json"
"""In the folder of a checkpoint that a person asked for: it is never removed."""
_IRRELEVANT = ("samples", "save", "rights")


@dataclass
class Resumed:
    """What a checkpoint gives back."""

    step: int
    adapter: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    rate_factor: float
    judged: list[tuple[int, float]]
    """What `validation.Judge` had found by then."""
    sources: dict[str, Any] | None = None
    """What was learnt from by then (trainer/images/provenance.py); None in checkpoints of versions that did not note it."""


def config_hash(config: TrainConfig) -> str:
    """A hash of everything that decides the numbers of a run; names, samples and notes do not.

    What is as it is by itself is left out, so that a run goes on with a later version that has more options. Options stand
    in it under their former names, so that runs of earlier versions go on.
    """
    tree = config.model_dump(mode="json", exclude_defaults=True, exclude={*_IRRELEVANT})
    tree["images"] = {k: v for k, v in tree.get("images", {}).items() if k != "folder"}
    for section in UNIONS:
        tree[section] = {**tree.get(section, {}), "name": getattr(config, section).name}
    return hashlib.sha256(json.dumps(renamed.former(tree), sort_keys=True).encode()).hexdigest()[:16]


def save(
    run: RunDir,
    config: TrainConfig,
    step: int,
    adapter: dict[str, torch.Tensor],
    optimizer: dict[str, Any],
    rate_factor: float,
    write_lora: Callable[[Path], object],
    judged: list[tuple[int, float]] | None = None,
    sources: dict[str, Any] | None = None,
) -> Path:
    """Write `checkpoints/<step>/` whole: the exact adapter, the optimiser, and the LoRA file as other programs read it.

    Raises OSError where the disk is full; nothing half-written is left under a name that counts.
    """
    final = run.checkpoint(step)
    folder = run.checkpoints / f"{final.name}.tmp-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        files.write_bytes(folder / "adapter.safetensors", save_tensors(adapter))
        buffer = io.BytesIO()
        torch.save(optimizer, buffer)
        files.write_bytes(folder / "optimizer.pt", buffer.getvalue())
        write_lora(folder / LORA)
        names = ("adapter.safetensors", "optimizer.pt", LORA)
        files.write_json(
            folder / "manifest.json",
            {
                "step": step,
                "config": config_hash(config),
                "rate_factor": rate_factor,
                "seed": config.run.seed,
                "judged": judged or [],
                "sources": sources,
                "order": "a pure function of seed and step",
                "torch": torch.__version__,
                "files": {n: {"sha256": files.sha256(folder / n), "bytes": (folder / n).stat().st_size} for n in names},
            },
        )
        if final.exists():
            shutil.rmtree(final)
        os.replace(folder, final)
        files.sync_folder(run.checkpoints)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return final


def steps(run: RunDir) -> list[int]:
    """The steps whose checkpoints have a manifest, oldest first."""
    if not run.checkpoints.is_dir():
        return []
    return sorted(int(p.parent.name) for p in run.checkpoints.glob("*/manifest.json") if p.parent.name.isdigit())


def newest(run: RunDir, config: TrainConfig, bad: Callable[[int], None]) -> Resumed | None:
    """The newest checkpoint that verifies. A damaged one is renamed `.bad`, reported to `bad`, and the one before is used."""
    for leftover in run.checkpoints.glob("*.tmp-*") if run.checkpoints.is_dir() else ():
        shutil.rmtree(leftover, ignore_errors=True)
    for step in reversed(steps(run)):
        folder = run.checkpoint(step)
        manifest = _verified(folder)
        if manifest is not None and manifest["config"] == config_hash(config):
            return Resumed(
                step,
                load_tensors((folder / "adapter.safetensors").read_bytes()),
                torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True),
                manifest["rate_factor"],
                [(step, ratio) for step, ratio in manifest.get("judged", [])],
                manifest.get("sources"),
            )
        os.replace(folder, files.free_name(run.checkpoints, f"{folder.name}.bad"))
        bad(step)
    return None


def want(run: RunDir, step: int) -> None:
    """Mark the checkpoint of `step` as one a person asked for."""
    files.write_json(run.checkpoint(step) / WANTED, {"step": step})


def wanted(run: RunDir) -> list[int]:
    """The steps of the checkpoints a person asked for, oldest first."""
    return [step for step in steps(run) if (run.checkpoint(step) / WANTED).exists()]


def prune(run: RunDir, keep: int, spare: int | None = None) -> None:
    """Remove all but the newest `keep` (at least two) and the one of step `spare`. Those a person asked for stay, and do not
    count among the newest."""
    asked = set(wanted(run))
    for step in [step for step in steps(run) if step not in asked][: -max(2, keep)]:
        if step == spare:
            continue
        shutil.rmtree(run.checkpoint(step), ignore_errors=True)


def _verified(folder: Path) -> dict[str, Any] | None:
    manifest = files.read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return None
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"] or files.sha256(path) != facts["sha256"]:
            return None
    return manifest
