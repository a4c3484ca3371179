"""What kind of file this is: layout, adapter kind and model family, told from a header alone.

Used by weights, compat and inspect.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from trainer.adapters.header import Header
from trainer.adapters.names import bare, known_paths, norm_names, original_names, split_key, universe

__all__ = ["FAMILY_NAMES", "Layout", "Seen", "locate", "look", "rank", "split_key"]

Layout = Literal["kohya", "diffusers", "other"]

FAMILY_NAMES = {
    "sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3", "flux": "FLUX", "unknown": "?",
}  # fmt: skip

_SGM = ("lora_unet_input_blocks_", "lora_unet_middle_block_", "lora_unet_output_blocks_")
_FLUX = (
    "lora_unet_double_blocks_", "lora_unet_single_blocks_", "transformer.single_transformer_blocks", "double_blocks.",
)  # fmt: skip
_SD3 = ("lora_unet_joint_blocks_", "transformer.transformer_blocks", "lora_transformer_")
_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders.")
_BY_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_UNET_STARTS = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in", "conv_out", "time_embedding.")
_FAMILIES_OF_TENSORS = ("hada_", "lokr_", "oft_", "glora_")
_PARTS = ("unet", "text_encoder_2", "text_encoder")


@dataclass(frozen=True)
class Seen:
    """`kind`: lora, locon, dora, loha, lokr, tucker, oft, boft, ia3, glora, full, checkpoint, embedding, words (vectors of
    words bundled, no adapter beside them) or none."""

    layout: Layout
    kind: str
    family: str
    cross: int | None
    """Width of the text the UNet's attention reads, where a tensor shows it."""

    @property
    def family_name(self) -> str:
        return FAMILY_NAMES[self.family]


def look(header: Header) -> Seen:
    """What a header shows."""
    return Seen(_layout(header), _kind(header), _family(header), cross_width(header))


def locate(key: str) -> tuple[str, str] | None:
    """(part, bare module path) of any LoRA key of a Stable Diffusion shaped model, or None."""
    split = split_key(key)
    if split is None:
        return None
    known = universe().get(split.module) or original_names().get(split.module)
    if not known and split.what in ("diff", "diff_b"):
        known = norm_names().get(split.module)
    if known:
        return known
    path = split.module.removeprefix("base_model.model.").replace(".processor.", ".")
    for part in _PARTS:
        if path.startswith(part + "."):
            path = path.removeprefix(part + ".").removeprefix("base_model.model.")
            break
    else:
        part = "unet" if path.startswith(_UNET_STARTS) else "text_encoder"
    place = (part, bare(path))
    return place if place in known_paths() else None


def _layout(header: Header) -> Layout:
    votes = {"kohya": 0, "diffusers": 0, "other": 0}
    for key in header.tensors:
        split = split_key(key)
        if split is None:
            votes["other"] += 1
        elif key.startswith(("lora_unet_", "lora_te")):
            votes["kohya"] += 1
        else:
            votes["diffusers" if locate(key) else "other"] += 1
    winner = max(votes, key=lambda name: votes[name])
    return winner if votes[winner] else "other"  # type: ignore[return-value]


def _kind(header: Header) -> str:
    whats = {split.what.partition("_")[0] if split.what.startswith(_FAMILIES_OF_TENSORS) else split.what
             for split in map(split_key, header.tensors) if split}
    if any(key.startswith(_CHECKPOINT) for key in header.tensors):
        return "checkpoint"
    for what, kind in (("dora", "dora"), ("magnitude", "dora"), ("hada", "loha"), ("lokr", "lokr")):
        if what in whats:
            return kind
    if "oft" in whats:  # BOFT's blocks have an axis more: one turn after another
        blocks = (len(tensor.shape) for key, tensor in header.tensors.items() if key.endswith(".oft_blocks"))
        return "boft" if 4 in blocks else "oft"
    if "mid" in whats:
        return "tucker"
    if "down" in whats and "up" in whats:
        wide = any(len(tensor.shape) == 4 and tensor.shape[2:] != (1, 1) for tensor in header.tensors.values())
        return "locon" if wide else "lora"
    if {"emb_params", "clip_l", "clip_g", "string_to_param"} & set(header.tensors):
        return "embedding"
    for kind in ("glora", "ia3"):
        if kind in whats and any(key.startswith("lora_") for key in header.tensors):
            return kind
    if header.tensors and all(key.startswith("bundle_emb.") for key in header.tensors):
        return "words"
    return "full" if "diff" in whats or "diff_b" in whats else "none"


def rank(header: Header) -> int | None:
    """The rank most layers have; of OFT the side of their blocks."""
    found: Counter[int] = Counter()
    for key, tensor in header.tensors.items():
        split = split_key(key)
        if split and tensor.shape and split.what in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
            found[tensor.shape[0]] += 1
        elif split and split.what == "oft_blocks":
            found[tensor.shape[-1]] += 1
    return found.most_common(1)[0][0] if found else None


def cross_width(header: Header) -> int | None:
    """The input width of the first `attn2` key or value projection with a down factor."""
    for key, tensor in header.tensors.items():
        if re.search(r"attn2[._](processor\.)?to_[kv]", key) and len(tensor.shape) >= 2:
            split = split_key(key)
            if split and split.what in ("down", "hada_w1_b", "diff"):
                return tensor.shape[1]
    return None


def text_width(header: Header) -> int | None:
    """The input width of the first text encoder self-attention projection with a down factor."""
    for key, tensor in header.tensors.items():
        if re.search(r"(?<!\d_)(lora_te1?_|text_encoder\.|^).*self_attn[._][kqv]_proj", key) and len(tensor.shape) >= 2:
            split = split_key(key)
            if split and split.what in ("down", "hada_w1_b", "diff"):
                return tensor.shape[1]
    return None


def _family(header: Header) -> str:
    keys = list(header.tensors)
    for starts, family in ((_SGM, "sdxl"), (_FLUX, "flux"), (_SD3, "sd3")):
        if any(key.startswith(starts) for key in keys):
            return family
    if any(key.startswith(("lora_te2_", "text_encoder_2.")) for key in keys):
        return "sdxl"
    by_shape = _BY_WIDTH.get(cross_width(header) or 0)
    if by_shape:
        return by_shape
    said = header.metadata.get("ss_base_model_version", "")
    for start, family in (("sdxl", "sdxl"), ("sd_v2", "sd2"), ("sd_v1", "sd1")):
        if said.startswith(start):
            return family
    if any("transformer_blocks_1_" in key or "transformer_blocks.1." in key for key in keys):
        return "sdxl"
    if any(locate(key) for key in keys):
        return _BY_WIDTH.get(text_width(header) or 0, "sd1")
    return "unknown"
