"""DoRA by input column: the one form of it that every program reads alike. Used by engine/networks/types.py.

PEFT's DoRA keeps a magnitude per output row, which A1111 and Forge misread and ComfyUI divides by the base's norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainer.formats.layers import Layer, norms

Dropout = Callable[[torch.Tensor, bool], torch.Tensor]


class ColumnDora(nn.Module):
    """W' = (W + s·B·A) · m / ‖W + s·B·A‖, m and the norm by input column (Liu et al. 2024, section 4.3).

    The norm is a constant to the gradient, as in the paper. With c = m / norm, W'x = Wx + W((c - 1) ∘ x) + s·B·A(c ∘ x):
    the small difference c - 1 keeps its digits beside a base in 16 bits, at the price of one more pass of the base layer.
    """

    def __init__(self, base_layer: Any, rank: int, alpha: float, dropout: Dropout) -> None:
        super().__init__()
        self.base_layer, self.scaling, self.dropout = base_layer, alpha / rank, dropout
        self.enabled, self.sign = True, 1.0
        weight = base_layer.weight
        out, *inside = weight.shape
        factory_kwargs: dict[str, Any] = {"device": weight.device, "dtype": torch.float32}
        self.lora_down = nn.Parameter(torch.empty(rank, *inside, **factory_kwargs))
        self.lora_up = nn.Parameter(torch.zeros(out, rank, *[1] * (weight.ndim - 2), **factory_kwargs))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))
        start = torch.zeros(1, inside[0], *[1] * (weight.ndim - 2), **factory_kwargs)  # the shape asks for the norm by column
        self.lora_magnitude = nn.Parameter(norms(weight.detach().float(), start))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[…, in] to […, out], or [B, in, h, w] to [B, out, h', w']."""
        result = self.base_layer(x)
        if not self.enabled:
            return result
        c = self._columns()
        change = without_bias(self.base_layer, (c - 1) * x)
        hidden = self.dropout(base_operation(self.base_layer, c * x, self.lora_down), self.training)
        flat = self.lora_up.ndim == 2
        up = nn.functional.linear(hidden, self.lora_up) if flat else nn.functional.conv2d(hidden, self.lora_up)
        return result + self.sign * (change + self.scaling * up).to(result.dtype)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The tensors that learn, by their short names in a file."""
        return {"down": self.lora_down, "up": self.lora_up, "dora": self.lora_magnitude}

    def export(self) -> Layer:
        """What the file holds."""
        tensors = {name: tensor.detach() for name, tensor in self.trainable().items()}
        return Layer(tensors, self.scaling * self.lora_down.shape[0])

    def _columns(self) -> torch.Tensor:
        """c = m / ‖W + s·B·A‖ by input column: [in], or [1, in, 1, 1] for a convolution."""
        weight = self.base_layer.weight
        with torch.no_grad():
            change = self.lora_up.flatten(1) @ self.lora_down.flatten(1)
            norm = norms(weight.float() + self.scaling * change.reshape(weight.shape), self.lora_magnitude)
        c = self.lora_magnitude / norm
        return c if weight.ndim == 4 else c[0]


def without_bias(base_layer: Any, x: torch.Tensor) -> torch.Tensor:
    """The base layer without its bias."""
    if getattr(base_layer, "is_quantized", False):  # in few bits (quantize.py): its own function keeps no whole weight
        return base_layer(x, bias=False)
    return base_operation(base_layer, x, base_layer.weight)


def base_operation(base_layer: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The base layer's own operation with another weight and no bias."""
    x = x.to(weight.dtype)
    if weight.ndim == 2:
        return nn.functional.linear(x, weight)
    own = base_layer
    return nn.functional.conv2d(x, weight, None, own.stride, own.padding, own.dilation, own.groups)
