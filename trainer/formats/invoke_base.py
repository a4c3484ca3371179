"""How InvokeAI finds the base a LoRA file is for: from names and sizes, not from the metadata. Called by verdicts.py.

Facts read from InvokeAI's model_manager/util/model_util.py (lora_token_vector_length) and model_manager/configs/lora.py.
"""

from __future__ import annotations

import re

from trainer.formats.header import Header

BASES = {768: "sd1", 1024: "sd2", 1280: "sdxl", 2048: "sdxl"}
"""What it takes a width for."""
_DEEP = re.compile(
    r"lora_unet_(?:(?:down|up)_blocks_\d+_attentions_\d+|mid_block_attentions_\d+|(?:input|output)_blocks_\d+_\d+|middle_block_\d+)"
    r"_transformer_blocks_(\d+)_"
)


def base_of(header: Header) -> tuple[str | None, int | None]:
    """(family or None, the width it is told by or None).

    The first decisive tensor in the file's order counts. Where no width is known to it, a block's third transformer, which
    SDXL alone has, tells SDXL.
    """
    width = _width(header)
    if width in BASES:
        return BASES[width], width
    deep = any((match := _DEEP.match(key)) and int(match[1]) >= 2 for key in header.tensors)
    return ("sdxl" if deep else None), width


def _width(header: Header) -> int | None:
    first = second = width = None
    for key in header.tensors:
        if key.startswith("lora_unet_") and (
            "_attn2_to_k." in key or "_attn2_to_v." in key or "time_emb_proj.lora_down" in key
        ):
            width = _inside(header, key)
        elif key.startswith("lora_te") and "_self_attn_" in key:
            inside = _inside(header, key)
            width = inside if key.startswith("lora_te_") else width
            first = inside if key.startswith("lora_te1_") else first
            second = inside if key.startswith("lora_te2_") else second
        if first is not None and second is not None:
            width = first + second
        if width is not None:
            return width
    return None


def _inside(header: Header, key: str) -> int | None:
    """The input width a tensor tells. Of (IA)³ it knows a text encoder's alone, and of LoKr two whole factors alone: it looks
    for split ones under names that do not exist."""
    module, _, end = key.partition(".")
    shape = header.tensors[key].shape
    if end in ("lora_down.weight", "hada_w1_b", "hada_w2_b", "diff") and len(shape) > 1:
        return shape[1]
    if end == "weight" and "lora_unet_" not in module and shape:
        return shape[0]
    one, two = (header.tensors.get(f"{module}.lokr_w{i}") for i in (1, 2))
    if "lokr_" not in end or one is None or two is None or len(one.shape) < 2 or len(two.shape) < 2:
        return None
    return one.shape[1] * two.shape[1]
