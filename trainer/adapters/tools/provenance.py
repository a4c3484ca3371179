"""What a file or a base made of files says about itself: where it comes from, under which conditions. For the tools."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.adapters.filing import filed
from trainer.adapters.fold import LoraStrength
from trainer.adapters.metadata import ARCHITECTURES, IMPLEMENTATIONS
from trainer.bases.facts import BaseFacts
from trainer.bases.licences import UNKNOWN
from trainer.core import files
from trainer.formats.layers import Layer

_BASE = (
    "ss_v2", "ss_base_model_version", "ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash", "ss_clip_skip",
    "modelspec.sai_model_spec", "modelspec.architecture", "modelspec.implementation", "modelspec.prediction_type",
    "modelspec.resolution", "atelier.base",
)  # fmt: skip
_OWN_RECIPE = ("sshs_", "atelier.alphas", "lora_adapter_metadata", "format")
Sources = Sequence[tuple[LoraStrength, Mapping[str, str]]]


def metadata_of(
    tool: str, sources: Sources, layers: Mapping[Any, Layer], name: str, family: str, prediction: str = ""
) -> dict[str, str]:
    """The metadata of a new file. One made of a single LoRA keeps what that one says; of several, what they share. What
    programs file it under is always there.
    """
    first = dict(sources[0][1])
    if tool == "resize":
        metadata = {key: value for key, value in first.items() if not key.startswith(_OWN_RECIPE)}
    else:
        metadata = {key: value for key in _BASE if (value := _shared(sources, key))}
    ranks = Counter(layer.rank for layer in layers.values())
    dim = str(next(iter(ranks))) if len(ranks) == 1 else "Dynamic"
    entries = _entries(sources)
    metadata |= {
        "ss_network_module": "networks.lora", "ss_network_dim": dim, "ss_network_alpha": dim, "ss_network_args": "{}",
        "ss_output_name": files.safe_name(name, "lora"), "modelspec.title": name,
        "modelspec.merged_from": ", ".join(source["name"] for source in entries),
        "modelspec.date": _now(),
        "atelier.tool": json.dumps({"tool": tool, "from": entries}, ensure_ascii=False),
    }  # fmt: skip
    if any(layer.kind == "dora" for layer in layers.values()):
        metadata |= {key: first[key] for key in ("ss_network_module", "ss_network_args") if first.get(key)}
    if tool == "merge":
        metadata |= {
            "modelspec.trigger_phrase": _joined(sources, "modelspec.trigger_phrase", ", "),
            "modelspec.license": _joined(sources, "modelspec.license", "; "),
        }
    return filed({key: value for key, value in metadata.items() if value != ""}, family, prediction)


def _shared(sources: Sources, key: str) -> str:
    """What all that say something say alike; empty where they differ."""
    values = {metadata[key] for _, metadata in sources if metadata.get(key)}
    return values.pop() if len(values) == 1 else ""


def _entries(sources: Sources) -> list[dict[str, Any]]:
    return [
        {"name": use.path.stem, "hash": metadata.get("sshs_model_hash", ""), "unet": use.unet, "text_encoder": use.text_encoder}
        for use, metadata in sources
    ]  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _joined(sources: Sources, key: str, separator: str) -> str:
    return separator.join(dict.fromkeys(metadata[key] for _, metadata in sources if metadata.get(key)))


def made_of_bases(base: BaseFacts, tuned: Path, layers: Mapping[Any, Layer], name: str) -> dict[str, str]:
    """The metadata of a LoRA extracted from two checkpoints."""
    metadata = {"ss_sd_model_name": base.path.name} if base.path else {}
    return metadata_of("extract", [(LoraStrength(tuned), metadata)], layers, name, base.family, base.prediction)


def baked(base: BaseFacts, sources: Sources, name: str) -> dict[str, Any]:
    """The `atelier.json` of a base folder with LoRAs inside: the old base's facts and licence under its own name, and what
    went into it, each with its licence."""
    loras = [
        source | {"licence": metadata.get("modelspec.license", ""), "trigger": metadata.get("modelspec.trigger_phrase", "")}
        for source, (_, metadata) in zip(_entries(sources), sources, strict=True)
    ]
    return {
        "id": name, "title": {"en": name, "ja": name}, "family": base.family, "licence": base.licence,
        "licence_url": base.licence_url, "native_resolution": base.resolution, "guidance": base.guidance, "steps": base.steps,
        "sample_prompts": list(base.sample_prompts), "date": _now(),
        "made_from": {"base": base.id, "revision": base.revision, "loras": loras},
    }  # fmt: skip


def baked_file(base: BaseFacts, base_metadata: Mapping[str, str], sources: Sources, name: str) -> dict[str, str]:
    """The metadata of a single-file base with LoRAs inside: the old one's, without its hashes, under its own name."""
    kept, facts = without_hashes(base_metadata), baked(base, sources, name)
    if base.licence_facts is not UNKNOWN:  # a file's name may be all that told its licence, and the name is new
        kept["modelspec.license"] = base.licence
    if not kept.get("modelspec.architecture"):
        kept |= {"modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": ARCHITECTURES[base.family, base.prediction]}
        kept.setdefault("modelspec.implementation", IMPLEMENTATIONS["sdxl"])
    return kept | {
        "modelspec.title": name, "modelspec.date": facts["date"],
        "modelspec.merged_from": ", ".join([base.id, *(use.path.stem for use, _ in sources)]),
        "atelier.tool": json.dumps({"tool": "bake"} | facts["made_from"], ensure_ascii=False),
    }  # fmt: skip


def without_hashes(metadata: Mapping[str, str]) -> dict[str, str]:
    """The same without what is only true of the old weights."""
    return {key: value for key, value in metadata.items() if not key.startswith(("sshs_", "modelspec.hash"))}
