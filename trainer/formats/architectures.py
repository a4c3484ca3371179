"""What each model family is made of: names, kinds and shapes of every layer a LoRA can sit on, without loading a model.

Plain data and arithmetic, verified against the real classes by a test. Used by names, kinds, compat and bases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple


class Module(NamedTuple):
    """One layer: its group (`attention`, `mlp`, `conv`) and the shape of its weight, output first."""

    group: str
    shape: tuple[int, ...]


_WIDE = re.compile(r"(^conv_in|^conv_out|\.conv1|\.conv2|samplers\.0\.conv)$")
Modules = dict[tuple[str, str], Module]
"""(part, path) -> Module; parts are `unet`, `text_encoder`, `text_encoder_2`. Text paths have no `text_model.`"""


@dataclass(frozen=True)
class UNet:
    """The few numbers a Stable Diffusion UNet follows from; the names are those of diffusers' config.json."""

    block_out_channels: tuple[int, ...]
    depths: tuple[int, ...]
    """Transformers per attention block at each level, from the outside in; 0 where a level has no attention."""
    cross_attention_dim: int
    use_linear_projection: bool = False
    layers_per_block: int = 2
    in_channels: int = 4
    out_channels: int = 4
    conv_kernel: int = 3
    mid_attention: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> UNet:
        """From the `config.json` of a diffusers UNet2DConditionModel."""
        channels = tuple(int(c) for c in config["block_out_channels"])
        depth = config.get("transformer_layers_per_block", 1)
        depths = [depth] * len(channels) if isinstance(depth, int) else list(depth)
        has = ["CrossAttn" in kind for kind in config["down_block_types"]]
        return cls(
            block_out_channels=channels,
            depths=tuple(int(d) if attention else 0 for d, attention in zip(depths, has, strict=True)),
            cross_attention_dim=int(config["cross_attention_dim"]),
            use_linear_projection=bool(config.get("use_linear_projection", False)),
            layers_per_block=int(config.get("layers_per_block", 2)),
            in_channels=int(config.get("in_channels", 4)),
            out_channels=int(config.get("out_channels", 4)),
            mid_attention="CrossAttn" in (config.get("mid_block_type") or "UNetMidBlock2DCrossAttn"),
        )


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text encoder."""

    layers: int
    width: int
    inner: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TextEncoder:
        """From the `config.json` of a transformers CLIPTextModel (also where it is nested under `text_config`)."""
        config = config.get("text_config", config)
        return cls(int(config["num_hidden_layers"]), int(config["hidden_size"]), int(config["intermediate_size"]))


@dataclass(frozen=True)
class Architecture:
    """A model family at its real size, and the prefix a LoRA file gives each part."""

    id: str
    unet: UNet
    text_encoders: dict[str, TextEncoder]
    prefixes: dict[str, str]


ARCHITECTURES = {
    family.id: family
    for family in (
        Architecture(
            "sd1", UNet((320, 640, 1280, 1280), (1, 1, 1, 0), 768), {"text_encoder": TextEncoder(12, 768, 3072)},
            {"unet": "lora_unet_", "text_encoder": "lora_te_"},
        ),
        Architecture(
            "sd2", UNet((320, 640, 1280, 1280), (1, 1, 1, 0), 1024, True),
            {"text_encoder": TextEncoder(23, 1024, 4096)},
            {"unet": "lora_unet_", "text_encoder": "lora_te_"},
        ),
        Architecture(
            "sdxl", UNet((320, 640, 1280), (0, 2, 10), 2048, True),
            {"text_encoder": TextEncoder(12, 768, 3072), "text_encoder_2": TextEncoder(32, 1280, 5120)},
            {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"},
        ),
    )
}  # fmt: skip


@cache
def family_modules(family: str) -> Modules:
    """Every layer of a family (`sd1`, `sd2`, `sdxl`; KeyError for others) at its real size. The dictionary is shared: do not
    change it."""
    facts = ARCHITECTURES[family]
    return modules(facts.unet, facts.text_encoders)


def inner_shape(place: tuple[str, str], family: str, weight_shape: Sequence[int]) -> tuple[int, ...]:
    """The weight's axes behind the first. LoHa and LoKr keep a convolution flat: its name and size tell the kernel."""
    if len(weight_shape) > 2:
        return tuple(weight_shape[1:])
    rows, columns = weight_shape[0], math.prod(weight_shape[1:])
    known = family_modules(family).get(place) if family in ARCHITECTURES else None
    if known and (known.shape[0], math.prod(known.shape[1:])) == (rows, columns):
        return tuple(known.shape[1:])
    if _WIDE.search(place[1]) and columns % 9 == 0:
        return (columns // 9, 3, 3)
    return (columns,)


def sd1_modules() -> Modules:
    """Every layer of Stable Diffusion 1.x a LoRA can sit on."""
    return family_modules("sd1")


def modules(unet: UNet | None, text_encoders: Mapping[str, TextEncoder]) -> Modules:
    """The layers of one model from its facts."""
    layers: Modules = {}
    if unet is not None:
        layers.update((("unet", name), module) for name, module in _unet(unet))
    for part, encoder in text_encoders.items():
        layers.update(((part, name), module) for name, module in _text(encoder))
    return layers


def _text(encoder: TextEncoder) -> Iterator[tuple[str, Module]]:
    width, inner = encoder.width, encoder.inner
    for layer in range(encoder.layers):
        path = f"encoder.layers.{layer}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield f"{path}.self_attn.{name}", Module("attention", (width, width))
        yield f"{path}.mlp.fc1", Module("mlp", (inner, width))
        yield f"{path}.mlp.fc2", Module("mlp", (width, inner))


def _unet(net: UNet) -> Iterator[tuple[str, Module]]:
    channels, levels, time = net.block_out_channels, len(net.block_out_channels), 4 * net.block_out_channels[0]
    kernel = (net.conv_kernel, net.conv_kernel)
    yield "conv_in", Module("conv", (channels[0], net.in_channels, *kernel))
    yield "time_embedding.linear_1", Module("conv", (time, channels[0]))
    yield "time_embedding.linear_2", Module("conv", (time, time))
    before = channels[0]
    for level, width in enumerate(channels):
        path = f"down_blocks.{level}"
        for layer in range(net.layers_per_block):
            yield from _resnet(f"{path}.resnets.{layer}", before, width, time)
            before = width
            yield from _attention(f"{path}.attentions.{layer}", width, net.depths[level], net)
        if level < levels - 1:
            yield f"{path}.downsamplers.0.conv", Module("conv", (width, width, 3, 3))
    middle = channels[-1]
    yield from _resnet("mid_block.resnets.0", middle, middle, time)
    if net.mid_attention:
        depth = next((d for d in reversed(net.depths) if d), 1)
        yield from _attention("mid_block.attentions.0", middle, depth, net)
    yield from _resnet("mid_block.resnets.1", middle, middle, time)
    upward, depths, before = channels[::-1], net.depths[::-1], middle
    for level, width in enumerate(upward):
        path, skip = f"up_blocks.{level}", upward[min(level + 1, levels - 1)]
        for layer in range(net.layers_per_block + 1):
            # Each layer takes what came up and what was kept on the way down, side by side.
            joined = before + (skip if layer == net.layers_per_block else width)
            yield from _resnet(f"{path}.resnets.{layer}", joined, width, time)
            before = width
            yield from _attention(f"{path}.attentions.{layer}", width, depths[level], net)
        if level < levels - 1:
            yield f"{path}.upsamplers.0.conv", Module("conv", (width, width, 3, 3))
    yield "conv_out", Module("conv", (net.out_channels, channels[0], *kernel))


def _resnet(path: str, inside: int, out: int, time: int) -> Iterator[tuple[str, Module]]:
    yield f"{path}.conv1", Module("conv", (out, inside, 3, 3))
    yield f"{path}.time_emb_proj", Module("conv", (out, time))
    yield f"{path}.conv2", Module("conv", (out, out, 3, 3))
    if inside != out:
        yield f"{path}.conv_shortcut", Module("conv", (out, inside, 1, 1))


def _attention(path: str, width: int, depth: int, net: UNet) -> Iterator[tuple[str, Module]]:
    if not depth:
        return
    flat = (width, width) if net.use_linear_projection else (width, width, 1, 1)
    yield f"{path}.proj_in", Module("mlp", flat)
    for block in range(depth):
        inner = f"{path}.transformer_blocks.{block}"
        for name, source in (("attn1", width), ("attn2", net.cross_attention_dim)):
            yield f"{inner}.{name}.to_q", Module("attention", (width, width))
            yield f"{inner}.{name}.to_k", Module("attention", (width, source))
            yield f"{inner}.{name}.to_v", Module("attention", (width, source))
            yield f"{inner}.{name}.to_out.0", Module("attention", (width, width))
        yield f"{inner}.ff.net.0.proj", Module("mlp", (8 * width, width))
        yield f"{inner}.ff.net.2", Module("mlp", (width, 4 * width))
    yield f"{path}.proj_out", Module("mlp", flat)
