"""Layers that add to what the base's layer gives in more than one product: GLoRA, and a full difference. Used by
engine/networks/types.py; their files are read and drawn by formats/layers.py and formats/multiplied.py.

Both leave the base's result as it is, to the bit, as long as nothing is learnt.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from trainer.engine.networks.dora import base_operation, without_bias
from trainer.engine.networks.oft_ia3 import OutputAdapter
from trainer.formats.layers import Layer


class InputAdapter(OutputAdapter):
    """Adds a function of x, the layer's input, to the layer's result."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[…, in] to […, out], or [B, in, h, w] to [B, out, h', w']."""
        result = self.base_layer(x)
        return result + self.sign * self.added(x).to(result.dtype) if self.enabled else result

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """What is added, in the shape of the layer's result."""
        raise NotImplementedError


class GloraLayer(InputAdapter):
    """GLoRA (Chavan et al. 2023) as LyCORIS has it: W' = W + s·(W·A1·A2 + B1·B2), A on a convolution's channels.

    W·A1·A2·x is the base layer without its bias on A1·A2·x, so the frozen weight is neither copied nor computed anew.
    Rank dropout drops the same ranks of both products.
    """

    def __init__(
        self, base_layer: Any, rank: int, alpha: float, rank_dropout: float = 0.0, module_dropout: float = 0.0
    ) -> None:
        super().__init__(base_layer, rank_dropout, module_dropout)
        self.scaling, self.rank = alpha / rank, rank
        out, columns, *kernel = base_layer.weight.shape
        flat = [1] * len(kernel)
        factory_kwargs: dict[str, Any] = {"device": base_layer.weight.device, "dtype": torch.float32}
        self.glora_a1 = nn.Parameter(torch.zeros(columns, rank, *flat, **factory_kwargs))
        self.glora_a2 = nn.Parameter(torch.empty(rank, columns, *flat, **factory_kwargs))
        self.glora_b1 = nn.Parameter(torch.zeros(out, rank, *flat, **factory_kwargs))
        self.glora_b2 = nn.Parameter(torch.empty(rank, columns, *kernel, **factory_kwargs))
        for factor in (self.glora_a2, self.glora_b2):
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
        self.eval()

    def added(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.apply_dropout(torch.ones(self.rank, device=x.device)).view(-1, *[1] * (self.glora_a2.ndim - 1))
        across = _flat(_flat(x, self.glora_a2 * kept), self.glora_a1)
        own = _flat(base_operation(self.base_layer, x, self.glora_b2 * kept), self.glora_b1)
        return self.scaling * (without_bias(self.base_layer, across) + own)

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: getattr(self, name) for name in ("glora_a1", "glora_a2", "glora_b1", "glora_b2")}

    def export(self) -> Layer:
        return Layer({name: tensor.detach() for name, tensor in self.trainable().items()}, self.scaling * self.rank)


class FullDiffLayer(InputAdapter):
    """A full difference (LyCORIS "full"): W' = W + D with D as large as W. Rank dropout drops output rows."""

    def __init__(self, base_layer: Any, rank_dropout: float = 0.0, module_dropout: float = 0.0) -> None:
        super().__init__(base_layer, rank_dropout, module_dropout)
        weight = base_layer.weight
        self.full_diff = nn.Parameter(torch.zeros(weight.shape, device=weight.device, dtype=torch.float32))
        self.eval()

    def added(self, x: torch.Tensor) -> torch.Tensor:
        return base_operation(self.base_layer, x, self.apply_dropout(self.full_diff))

    def trainable(self) -> dict[str, nn.Parameter]:
        return {"diff": self.full_diff}

    def export(self) -> Layer:
        return Layer({"diff": self.full_diff.detach()}, 1.0)


def _flat(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A product at every place by itself: a linear layer, or a 1 x 1 convolution."""
    x = x.to(weight.dtype)
    return nn.functional.linear(x, weight) if weight.ndim == 2 else nn.functional.conv2d(x, weight)
