"""Quicker arithmetic on a CPU for what training repeats thousands of times; called once by the recipe after LoRA is in.

torch computes fp32 products with MKL and packs a convolution's weights anew at every call. oneDNN, which torch brings along
as well, is quicker at the first and can keep packed what never changes: the frozen weights, also as the backward pass needs
them. The same sums in fp32, rounded elsewhere. Only while gradients are recorded: pictures are drawn by torch's own path, so
that strength 0 stays what any diffusers pipeline draws. The memory of a step is kept for the next one. Figures in
docs/performance.md.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, cast

import psutil
import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Conv2d as LoraConvolution
from peft.tuners.lora.layer import Linear as LoraLinear
from torch.autograd import Function
from torch.nn import functional

from trainer.bases.families import ModelComponents

MIN_ONEDNN_MACS = 2**22
"""Multiplications in a product from which on oneDNN pays: below, calling it costs more than it saves."""
PACKED_SHARE = 0.25
"""Of the machine's memory, what packed convolution weights may take."""


def enable_onednn(parts: ModelComponents) -> bool:
    """Set the quicker path on the frozen layers and the LoRA layers of `parts`. False where it does not apply."""
    if parts.device.type != "cpu":
        return False
    _keep_memory()
    if parts.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return False
    convolutions = []
    for part in ("unet", *parts.family.text_parts):
        for module in parts.module(part).modules():
            if isinstance(module, LoraLayer):
                _quicken_lora(module)
            elif type(module) is torch.nn.Linear and not module.weight.requires_grad:
                _quicken_linear(module)
            elif type(module) is torch.nn.Conv2d and _simple(module):
                convolutions.append(module)
    room = PACKED_SHARE * psutil.virtual_memory().total
    for module in sorted(convolutions, key=lambda m: m.weight.numel(), reverse=True):  # packing costs these the most
        room -= 2 * module.weight.numel() * module.weight.element_size()
        if room > 0:
            _quicken_convolution(module)
    return True


def _keep_memory() -> bool:
    """Have the C library keep what a step frees for the next one. glibc gives large pieces back to the system, which clears
    them page by page at each step: 82,000 pages for SD 1.5 at 256 px. False where the C library is another."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold = -1, -3
    taken = any(mallopt(mmap_threshold, most) for most in (2**30, 2**25))  # older ones take no more than the second
    return bool(taken and mallopt(trim_threshold, 2**31 - 1))


# --- linear layers --------------------------------------------------------------------------------------------


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x·Wᵀ + b for x `[rows, in]`, W `[out, in]`, through oneDNN where it is large enough for that to pay."""
    if x.shape[0] * weight.numel() >= MIN_ONEDNN_MACS:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


class _Frozen(Function):
    """y = x·Wᵀ + b with frozen W: the gradient of x alone, g·W."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (grad,), (weight,) = grads, ctx.saved_tensors
        return product(grad.reshape(-1, grad.shape[-1]), weight.t()).view(*grad.shape[:-1], -1), None, None


class _Lora(Function):
    """y = x·(W + s·B·A)ᵀ + b (Hu et al. 2021) with frozen W and b.

    Where there are many rows, W + s·B·A is made once, and one product does for three; where there are few, x·Aᵀ is cheaper.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows, weight, a, b)
        ctx.scale = scale
        if _many(rows, weight):
            y = product(rows, torch.addmm(weight, b, a, alpha=scale), bias)
        else:
            y = product(rows, weight, bias).addmm_(product(rows, a), b.t(), alpha=scale)
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """dA = s·(g·B)ᵀ·x, dB = s·gᵀ·(x·Aᵀ), dx = g·(W + s·B·A)."""
        x, weight, a, b = ctx.saved_tensors
        g = grads[0].reshape(-1, weight.shape[0])
        gb = product(g, b.t())
        dx = da = db = None
        if ctx.needs_input_grad[0]:
            if _many(x, weight):
                dx = product(g, torch.addmm(weight, b, a, alpha=ctx.scale).t())
            else:
                dx = product(g, weight.t()).addmm_(gb, a, alpha=ctx.scale)
            dx = dx.view(*grads[0].shape[:-1], -1)
        if ctx.needs_input_grad[3]:
            da = torch.mm(gb.t(), x).mul_(ctx.scale)
            db = torch.mm(g.t(), product(x, a)).mul_(ctx.scale)
        return dx, None, None, da, db, None


def _many(rows: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether making B·A (r · in · out) costs less than passing the rows through it (r · rows · (in + out))."""
    return rows.shape[0] * sum(weight.shape) > weight.numel()


def _applies(x: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _quicken_linear(module: torch.nn.Linear) -> None:
    def forward(input: torch.Tensor) -> torch.Tensor:
        if _applies(input) and input.numel() * module.out_features >= MIN_ONEDNN_MACS:
            return cast(torch.Tensor, _Frozen.apply(input, module.weight, module.bias))
        return functional.linear(input, module.weight, module.bias)

    module.forward = forward


def _quicken_lora(layer: Any) -> None:
    """The plain LoRA layers of PEFT in one function each; every other kind of adapter keeps PEFT's own."""
    linear = type(layer) is LoraLinear and type(layer.base_layer) is torch.nn.Linear and not layer.fan_in_fan_out
    convolution = type(layer) is LoraConvolution and type(layer.base_layer) is torch.nn.Conv2d
    if not (linear or convolution) or len(layer.lora_A) != 1:
        return
    (name,) = layer.lora_A
    a: Any = layer.lora_A[name]
    b: Any = layer.lora_B[name]
    if a._forward_hooks or b._forward_hooks or layer.lora_variant or layer.lora_bias[name]:  # rank dropouts are hooks
        return
    if not isinstance(layer.lora_dropout[name], torch.nn.Identity) or (convolution and not _plain(a)):
        return
    theirs: Callable[..., torch.Tensor] = layer.forward
    base: Any = layer.base_layer

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if layer.disable_adapters or layer.merged or not _applies(x):
            return theirs(x, *args, **kwargs)
        scale = layer.scaling[name]
        if linear:
            return cast(torch.Tensor, _Lora.apply(x, base.weight, base.bias, a.weight, b.weight, scale))
        return cast(torch.Tensor, _LoraConvolution.apply(base(x), x, a.weight, b.weight, a.stride, a.padding, scale))

    layer.forward = forward


# --- convolutions ---------------------------------------------------------------------------------------------


class PackedConv:
    """A frozen convolution's weights as oneDNN wants them: as they are, and flipped for the gradient of its input."""

    def __init__(self, module: torch.nn.Conv2d, shape: torch.Size) -> None:
        self.weight, self.version = module.weight, module.weight._version
        pad, stride = cast(tuple[int, int], module.padding), module.stride
        self.pad, self.stride = list(pad), list(stride)
        self.back_pad = [k - 1 - p for k, p in zip(module.kernel_size, pad, strict=True)]
        weight = module.weight.detach()
        self.there = torch.ops.mkldnn._reorder_convolution_weight(weight, self.pad, self.stride, [1, 1], 1, list(shape))
        self.back = None
        if stride == (1, 1):  # d/dx of x * W is g * flip(W)ᵀ
            height, width = (n + 2 * p - k + 1 for n, p, k in zip(shape[2:], pad, module.kernel_size, strict=True))
            flipped = weight.flip(2, 3).transpose(0, 1).contiguous()
            self.back = torch.ops.mkldnn._reorder_convolution_weight(
                flipped, self.back_pad, [1, 1], [1, 1], 1, [shape[0], weight.shape[0], height, width]
            )

    def holds(self, module: torch.nn.Conv2d) -> bool:
        """Whether the module still has the weights that were packed: a strength folded in changes them."""
        return module.weight is self.weight and module.weight._version == self.version


class _Convolution(Function):
    """y = x * W + b with frozen, packed W."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, packed: PackedConv, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.packed, ctx.shape = packed, x.shape
        return _convolve(x, packed.there, bias, packed.pad, packed.stride)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        packed: PackedConv = ctx.packed
        if packed.back is not None:
            return _convolve(grads[0], packed.back, None, packed.back_pad, [1, 1]), None, None
        empty = torch.empty(ctx.shape)  # its values play no part in the gradient of x
        dx, _, _ = torch.ops.aten.convolution_backward(
            grads[0], empty, packed.weight, None, packed.stride, packed.pad, [1, 1], False, [0, 0], 1, [True, False, False]
        )
        return dx, None, None


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: list[int], stride: list[int]
) -> torch.Tensor:
    """oneDNN answers channels-last; the group norms behind it are quicker with contiguous channels."""
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, pad, stride, [1, 1], 1, "none", [], "").contiguous()


class _LoraConvolution(Function):
    """y + s·B·(x * A), y `[n, out, h, w]` of the frozen layer, A a convolution to rank r, B `[out, r, 1, 1]`: B is a product of
    matrices, added where y lies."""

    @staticmethod
    def forward(
        ctx: Any,
        y: torch.Tensor,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        stride: list[int],
        padding: list[int],
        scale: float,
    ) -> torch.Tensor:
        inner = functional.conv2d(x, a, None, stride, padding).flatten(2)
        ctx.save_for_backward(x, inner, a, b)
        ctx.stride, ctx.padding, ctx.scale = stride, padding, scale
        ctx.mark_dirty(y)
        y.view(*y.shape[:2], -1).baddbmm_(b.flatten(1).expand(len(x), -1, -1), inner, alpha=scale)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """dB = s·Σ g·(x * A)ᵀ; with h = s·Bᵀ·g, dA and dx are those of x * A by h."""
        x, inner, a, b = ctx.saved_tensors
        g = grads[0].flatten(2)
        db = torch.bmm(g, inner.transpose(1, 2)).sum(0).mul_(ctx.scale).view_as(b)
        h = torch.bmm(b.flatten(1).t().expand(len(g), -1, -1), g).mul_(ctx.scale).view(len(g), -1, *grads[0].shape[2:])
        dx, da, _ = torch.ops.aten.convolution_backward(
            h, x, a, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, [ctx.needs_input_grad[1], True, False]
        )
        return grads[0], dx, da, db, None, None, None


def _plain(module: torch.nn.Conv2d) -> bool:
    return (
        module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and isinstance(module.padding, tuple)
    )


def _simple(module: torch.nn.Conv2d) -> bool:
    return _plain(module) and not module.weight.requires_grad


def _quicken_convolution(module: torch.nn.Conv2d) -> None:
    packed: PackedConv | None = None

    def forward(input: torch.Tensor) -> torch.Tensor:
        nonlocal packed
        if not _applies(input):
            return functional.conv2d(input, module.weight, module.bias, module.stride, module.padding)
        if packed is None or not packed.holds(module):
            packed = PackedConv(module, input.shape)
        return cast(torch.Tensor, _Convolution.apply(input, packed, module.bias))

    module.forward = forward
