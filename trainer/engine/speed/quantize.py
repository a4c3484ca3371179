"""Frozen layers of the base held in 8 or 4 bits, linear layers and convolutions alike. Called by the recipe once LoRA is in.

A layer's weight is made whole while it computes and again for the gradient, and kept by neither: memory holds the codes and one
whole layer at a time. What learns stays in fp32, and was made from the true weights. Why not a library: docs/decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.grad import conv2d_input

from trainer.bases.families import ModelComponents
from trainer.engine.networks.adapter import ADAPTER_NAMES
from trainer.engine.speed import offload

KEEP_FULL_PRECISION = ("conv_in", "conv_out", "time_embedding", "add_embedding", "text_projection")
"""Layers left as they are: the first and the last, and what tells of time and size. Small, and all others build on them."""
BLOCK = 64
"""Weights that share one scale in 4 bits."""
NF4 = (
    -1.0,
    -0.6961928,
    -0.52507305,
    -0.39491749,
    -0.28444138,
    -0.18477343,
    -0.09105004,
    0.0,
    0.0795803,
    0.1609302,
    0.2461123,
    0.33791524,
    0.44070983,
    0.562617,
    0.72295684,
    1.0,
)
"""NormalFloat: levels that normally distributed weights meet equally often (Dettmers et al. 2023, appendix E)."""


class QuantizedWeight(NamedTuple):
    """A weight in few bits, and what its layer does with it: plain values, so that a step can be traced and captured."""

    bits: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    """The base's number format, which the layer computes in."""
    conv_kwargs: dict[str, Any]
    """A convolution's stride, padding, dilation and groups; nothing for a linear layer."""


def pack(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of `weight` `[out, …]`.

    8 bits: round(w / s), s = max|w| / 127 by output channel; int8 `[out, in]`, fp32 `[out, 1]`.
    4 bits: the nearest NF4 level of w / max|w| by blocks of 64, two a byte; uint8 `[n / 2]`, bf16 `[n / 64, 1]`.
    """
    flat = weight.detach().float().flatten(1)
    if bits == 8:
        scale = (flat.abs().amax(1, keepdim=True) / 127).clamp_min(1e-30)
        return (flat / scale).round_().to(torch.int8), scale
    blocks = flat.reshape(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True).clamp_min(1e-30).to(torch.bfloat16)
    levels = torch.tensor(NF4, device=weight.device)
    codes = torch.bucketize(blocks / scale.float(), (levels[1:] + levels[:-1]) / 2, out_int32=True)
    high, low = codes.to(torch.uint8).view(-1, 2).unbind(1)
    return high * 16 + low, scale


def unpack(codes: torch.Tensor, scale: torch.Tensor, packed: QuantizedWeight) -> torch.Tensor:
    """The weight in its shape and number format."""
    if packed.bits == 8:
        weight = torch.empty(codes.shape, dtype=packed.dtype, device=codes.device)
        return torch.mul(codes, scale, out=weight).view(packed.shape)
    pairs = functional.embedding(codes.int(), _pairs(codes.device, packed.dtype))
    return pairs.view(-1, BLOCK).mul_(scale.to(packed.dtype)).view(packed.shape)


@cache
def _pairs(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The two levels a byte stands for `[256, 2]`."""
    levels = torch.tensor(NF4, device=device, dtype=dtype)
    return torch.stack([levels.repeat_interleave(16), levels.repeat(16)], dim=1)


class _Frozen(Function):
    """y = x·Wᵀ + b, or x * W + b, with W held in few bits: the gradient of x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, packed: QuantizedWeight
    ) -> torch.Tensor:
        ctx.save_for_backward(codes, scale)
        ctx.packed, ctx.shape, ctx.dtype = packed, x.shape, x.dtype
        return _work(x.to(packed.dtype), unpack(codes, scale, packed), bias, packed)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        codes, scale = ctx.saved_tensors
        weight = unpack(codes, scale, ctx.packed)
        if ctx.packed.conv_kwargs:
            dx = conv2d_input(ctx.shape, weight, grads[0], **ctx.packed.conv_kwargs)
        else:
            dx = grads[0] @ weight
        return dx.to(ctx.dtype), None, None, None, None


def _work(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, packed: QuantizedWeight) -> torch.Tensor:
    if packed.conv_kwargs:
        return functional.conv2d(x, weight, bias, **packed.conv_kwargs)
    return functional.linear(x, weight, bias)


class Quantised(nn.Module):
    """What both kinds of layers do. `weight` can be read, and is made anew at each reading."""

    codes: torch.Tensor
    scale: torch.Tensor
    bias: Any
    is_quantized = True
    """By which a layer with a packed weight is known to those who cannot import this module."""
    packed: QuantizedWeight
    added: Callable[[torch.Tensor], torch.Tensor] | None
    """What a LoRA folded in makes of the weight while pictures are drawn (adapters/fold.py)."""

    def pack(self, layer: Any, bits: int, device: torch.device, conv_kwargs: dict[str, Any]) -> None:
        """Take over the weight of `layer` in `bits` bits on `device`, and its bias as it is."""
        codes, scale = pack(layer.weight.to(device), bits)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.bias = layer.bias
        self.packed, self.added = QuantizedWeight(bits, tuple(layer.weight.shape), layer.weight.dtype, conv_kwargs), None

    @property
    def weight(self) -> torch.Tensor:
        weight = unpack(self.codes, self.scale, self.packed)
        return weight if self.added is None else self.added(weight)

    def forward(self, x: torch.Tensor, bias: bool = True) -> torch.Tensor:
        """The layer's own operation, without its bias on request."""
        own_bias = self.bias if bias else None
        if self.added is not None:
            return _work(x, self.weight, own_bias, self.packed)
        return cast(torch.Tensor, _Frozen.apply(x, self.codes, self.scale, own_bias, self.packed))


class QuantisedLinear(Quantised, nn.Linear):
    """A frozen nn.Linear."""

    def __init__(self, layer: nn.Linear, bits: int, device: torch.device) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.pack(layer, bits, device, {})


class QuantisedConv2d(Quantised, nn.Conv2d):
    """A frozen nn.Conv2d."""

    def __init__(self, layer: nn.Conv2d, bits: int, device: torch.device) -> None:
        nn.Module.__init__(self)
        names = ("stride", "padding", "dilation", "groups")
        for name in (*names, "in_channels", "out_channels", "kernel_size", "padding_mode"):
            setattr(self, name, getattr(layer, name))
        self.pack(layer, bits, device, {name: getattr(layer, name) for name in names})


BITS = {"int8": 8, "int4": 4}


def settle(parts: ModelComponents, precision: str, away: Collection[nn.Module] = ()) -> int:
    """Hold the frozen layers of UNet and text encoders in the bits `precision` says (`full` leaves them) and bring all of
    it to `parts.device`, layer by layer, so that it never holds the whole base; the blocks `away` go back to main memory.
    Returns how many layers are held so."""
    bits, count = BITS.get(precision), 0
    for part in ("unet", *parts.family.text_parts):
        model = parts.module(part)
        if bits:
            count += _exchange(model, bits, parts.device, away)
        offload.place(model, parts.device, away)
    return count


def _exchange(model: nn.Module, bits: int, device: torch.device, away: Collection[nn.Module]) -> int:
    quantised: dict[nn.Module, nn.Module] = {}
    offloaded = {module for block in away for module in block.modules()}
    for name, parent in list(model.named_modules()):
        for last, layer in list(parent.named_children()):
            if layer in quantised or _fits(f"{name}.{last}", layer):
                if layer not in quantised:
                    kind: Any = QuantisedLinear if isinstance(layer, nn.Linear) else QuantisedConv2d
                    quantised[layer] = kind(layer, bits, device)
                    if parent in offloaded and device.type == "cuda":
                        quantised[layer].to(offload.MAIN)
                setattr(parent, last, quantised[layer])
    return len(quantised)


def _fits(name: str, layer: Any) -> bool:
    """Whether this is a frozen layer of the base that can be held in few bits."""
    if type(layer) not in (nn.Linear, nn.Conv2d) or layer.weight.requires_grad or layer.weight.numel() % BLOCK:
        return False
    if any(mark in name for mark in ADAPTER_NAMES) or any(part in KEEP_FULL_PRECISION for part in name.split(".")):
        return False
    return isinstance(layer, nn.Linear) or (layer.padding_mode == "zeros" and isinstance(layer.padding, tuple))
