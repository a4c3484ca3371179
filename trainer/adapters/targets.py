"""Which layers are trained, and at which rank: from the options and a model's layers to a `LayerRank` each. For the engine.

A layer's name is its part and its path: `unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q`,
`text_encoder.encoder.layers.3.mlp.fc1`. The same names stand in LoRA files and in `inspect`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from trainer.config.lines import read_block
from trainer.formats.architectures import Module, Modules

if TYPE_CHECKING:
    from trainer.config.sections.lora import Lora

GROUPS = {
    "attention": {"attention"},
    "attention_mlp": {"attention", "mlp"},
    "all": {"attention", "mlp", "conv"},
}
"""Target choice -> the groups of layers in formats/architectures.py it means."""


class LayerRank(NamedTuple):
    """One layer that learns: how large its adapter is and how it is scaled."""

    rank: int
    alpha: float


def choose(layers: Modules, lora: Lora) -> dict[tuple[str, str], LayerRank]:
    """{(part, module): LayerRank} of the layers that learn, in the model's order. May be empty."""
    groups, include, exclude = GROUPS[lora.targets], *map(re.compile, (lora.include, lora.exclude))
    blocks = dict(read_block(line) for line in lora.block_ranks)
    trained = _parts(layers, lora)
    chosen: dict[tuple[str, str], LayerRank] = {}
    for (part, module), layer in layers.items():
        name = f"{part}.{module}"
        if layer.group not in groups or part not in trained:
            continue
        if not include.search(name) or (lora.exclude and exclude.search(name)):
            continue
        layer_rank = _layer_rank(name, layer, lora, blocks)
        if layer_rank.rank:
            chosen[part, module] = layer_rank
    return chosen


def _parts(layers: Modules, lora: Lora) -> set[str]:
    """The parts that learn. Where there are two text encoders, `lora.text_encoders` says which."""
    encoders = {part for part, _ in layers} - {"unet"}
    if len(encoders) > 1 and lora.text_encoders != "both":
        encoders = {"text_encoder" if lora.text_encoders == "first" else "text_encoder_2"}
    return ({"unet"} if lora.train_unet else set()) | (encoders if lora.train_text_encoder else set())


def fitting(name: str, blocks: Iterable[str]) -> str | None:
    """Which of `blocks` a layer's name fits, or None: the longest pattern such as `*.attn2.*`, else the longest name of a
    block around it. What begins without a part is meant in the UNet: `mid_block` is `unet.mid_block`."""
    names = (name, name.removeprefix("unet."))
    fit = [b for b in blocks if any(n == b or n.startswith(b + ".") or ("*" in b and fnmatchcase(n, b)) for n in names)]
    return max(fit, key=lambda block: ("*" in block, len(block.removeprefix("unet."))), default=None)


def _layer_rank(name: str, layer: Module, lora: Lora, blocks: dict[str, int]) -> LayerRank:
    """The rank of the block it is in, else the convolutions' own, else the common one; of OFT the side of its blocks.

    alpha / rank is the same in every block, so that all learn equally fast.
    """
    wide = len(layer.shape) == 4 and layer.shape[2:] != (1, 1)
    rank = lora.conv_rank if wide and lora.conv_rank is not None else lora.rank
    alpha = lora.alpha / lora.rank * rank
    if wide and lora.conv_alpha is not None:
        alpha = lora.conv_alpha
    block = fitting(name, blocks)
    if block is not None:
        own = blocks[block]
        alpha, rank = alpha / rank * own, own
    if lora.type == "oft" and rank:  # blocks of one side fill the layer
        rank = max(side for side in range(1, min(rank, layer.shape[0]) + 1) if layer.shape[0] % side == 0)
    if lora.type in ("lora", "rslora", "dora") and rank:  # more than the layer's own rank holds nothing
        most = min(layer.shape[0], layer.shape[1] * (layer.shape[2] * layer.shape[3] if len(layer.shape) == 4 else 1))
        alpha, rank = alpha / rank * min(rank, most), min(rank, most)
    return LayerRank(rank, alpha)
