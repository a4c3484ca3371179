"""What kind of file this is: layout, adapter kind and model family, told from a header alone.

Used by weights, compat and inspect.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from trainer.formats.header import Header
from trainer.formats.layers import size
from trainer.formats.layouts import Layout, locate, read
from trainer.formats.names import split_key

__all__ = ["FAMILY_NAMES", "FileFormat", "Layout", "file_format", "locate", "rank", "split_key"]

FAMILY_NAMES = {
    "sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3", "flux": "FLUX", "unknown": "?",
}  # fmt: skip

_SGM = re.compile(r"(^|[._])(input_blocks|middle_block|output_blocks)[._]")
_FLUX = (
    "lora_unet_double_blocks_", "lora_unet_single_blocks_", "transformer.single_transformer_blocks", "double_blocks.",
    "diffusion_model.double_blocks.", "diffusion_model.single_blocks.", "lycoris_single_transformer_blocks_",
)  # fmt: skip
_SD3 = ("lora_unet_joint_blocks_", "transformer.transformer_blocks", "lora_transformer_", "diffusion_model.joint_blocks.")
_FOURTH = ("down_blocks.3.", "up_blocks.3.", "down_blocks.0.attentions.")
"""Where only the families with four levels have anything."""
_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders.")
_BY_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_FAMILIES_OF_TENSORS = ("hada_", "lokr_", "oft_", "glora_")


@dataclass(frozen=True)
class FileFormat:
    """`kind`: lora, locon, dora, loha, lokr, tucker, oft, boft, ia3, glora, full, checkpoint, embedding, words (vectors of
    words bundled, no adapter beside them) or none."""

    layout: Layout
    kind: str
    family: str
    cross: int | None
    """Width of the text the UNet's attention reads, where a tensor shows it."""

    @property
    def family_name(self) -> str:
        """The family as a person reads it, "Stable Diffusion XL"."""
        return FAMILY_NAMES[self.family]


def file_format(header: Header) -> FileFormat:
    """Layout, kind and family as a header's keys and shapes show them. Never raises: what is not known is `other`, `none`
    or `unknown`."""
    return FileFormat(_layout(header), _kind(header), _family(header), cross_width(header))


def _layout(header: Header) -> Layout:
    votes: Counter[Layout] = Counter()
    for key in header.tensors:
        split = split_key(key)
        name = read(split.module) if split else None
        if split and key.startswith(("lora_unet_", "lora_te")) and not (name and name.layout != "kohya"):
            votes["kohya"] += 1  # of another family, too
        else:
            votes[name.layout if name else "other"] += 1
    return votes.most_common(1)[0][0] if votes else "other"


def _kind(header: Header) -> str:
    whats = {
        split.what.partition("_")[0] if split.what.startswith(_FAMILIES_OF_TENSORS) else split.what
        for split in map(split_key, header.tensors)
        if split
    }
    if any(key.startswith(_CHECKPOINT) for key in header.tensors) and not whats & {"down", "hada", "lokr", "diff"}:
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
        if kind in whats and any(key.startswith(("lora_", "lycoris_")) for key in header.tensors):
            return kind
    if header.tensors and all(key.startswith("bundle_emb.") for key in header.tensors):
        return "words"
    return "full" if "diff" in whats or "diff_b" in whats else "none"


def rank(header: Header) -> int | None:
    """The rank most layers have; of OFT the side of their blocks."""
    ranks: Counter[int] = Counter()
    for key, tensor in header.tensors.items():
        split = split_key(key)
        if split and tensor.shape and split.what in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
            ranks[tensor.shape[0]] += 1
        elif split and split.what == "oft_blocks":
            ranks[tensor.shape[-1]] += 1
    return ranks.most_common(1)[0][0] if ranks else None


def cross_width(header: Header) -> int | None:
    """The input width of the first `attn2` key or value projection whose tensors show it."""
    return _width(header, re.compile(r"attn2\.to_[kv]$"))


def text_width(header: Header) -> int | None:
    """The input width of the first text encoder's first self-attention projection whose tensors show it."""
    return _width(header, re.compile(r"self_attn\.[qkv]_proj$"))


def _width(header: Header, path: re.Pattern[str]) -> int | None:
    """The columns of the first layer of such a path, the second text encoder's left out; of a GLoRA or an OFT nobody knows."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, tensor in header.tensors.items():
        split = split_key(key)
        name = read(split.module) if split else None
        if split and name and name.part != "text_encoder_2" and path.search(name.path):
            shapes.setdefault(split.module, {})[split.what] = tensor.shape
    return next((size[1] for layer in shapes.values() if (size := _size(layer))), None)


def _size(shapes: dict[str, tuple[int, ...]]) -> tuple[int, int] | None:
    shapes = {what: shape for what, shape in shapes.items() if what not in ("alpha", "dora", "magnitude", "diff_b")}
    return size(shapes) if shapes else None


def _family(header: Header) -> str:
    keys = list(header.tensors)
    for starts, family in ((_FLUX, "flux"), (_SD3, "sd3")):
        if any(key.startswith(starts) for key in keys):
            return family
    places = {place for key in keys if (place := locate(key))}
    if any(part == "text_encoder_2" for part, _ in places):
        return "sdxl"
    cross = cross_width(header)
    if cross in _BY_WIDTH:
        return _BY_WIDTH[cross]
    version = header.metadata.get("ss_base_model_version", "")
    for start, family in (("sdxl", "sdxl"), ("sd_v2", "sd2"), ("sd_v1", "sd1")):
        if version.startswith(start):
            return family
    if not places:
        return "unknown"
    return _by_structure(header, {path for part, path in places if part == "unet"}, cross is not None)


def _by_structure(header: Header, unet: set[str], own_size: bool) -> str:
    """The family by which blocks there are, where no width tells it; `own_size` where a width shows, but no family's."""
    if any(re.search(r"transformer_blocks\.[1-9]", path) or path.startswith("add_embedding.") for path in unet):
        return "sdxl"
    four = any(path.startswith(_FOURTH) for path in unet)
    original = any(re.search(_SGM, key) and locate(key) for key in header.tensors)
    if original and not four and not own_size:
        return "sdxl"  # as sd-scripts names that family's layers alone
    by_text = _BY_WIDTH.get(text_width(header) or 0)
    return by_text or ("sd2" if four and not own_size and _flat_in(header) else "sd1")


def _flat_in(header: Header) -> bool:
    """Whether a transformer begins with a linear layer, as in SD 2.x, and not with a convolution."""
    for key, tensor in header.tensors.items():
        split, place = split_key(key), locate(key)
        if split and place and place[1].endswith(".proj_in") and split.what == "down":
            return len(tensor.shape) == 2
    return False
