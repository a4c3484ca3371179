"""How a layer is called: module path <-> kohya key <-> diffusers/PEFT key. Used by all that reads or writes LoRAs.

`unet`, `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q` is in a kohya file
`lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q`. Text encoder paths may begin with `text_model.`
(CLIPTextModelWithProjection) or not (CLIPTextModel of transformers 5): every file says `text_model`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from trainer.formats.architectures import ARCHITECTURES, TextEncoder, UNet, modules, sd1_modules

__all__ = [
    "Key", "bare", "from_kohya", "key_map", "norm_names", "sd1_modules", "spelled", "split_key",
    "to_diffusers", "to_kohya", "to_sgm", "universe",
]  # fmt: skip

TEXT = "text_model."
PROJECTION = "text_projection"

_SUFFIXES = {
    "lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid", "alpha": "alpha",
    "dora_scale": "dora", "diff": "diff", "diff_b": "diff_b", "w_norm": "diff", "b_norm": "diff_b",
    "lora.down.weight": "down", "lora.up.weight": "up", "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
}  # fmt: skip
"""How the end of a key tells what the tensor is. LoHa's and LoKr's keep their names; all others follow below."""

_PEFT = re.compile(r"^(?P<module>.+)\.lora_(?P<what>A|B|magnitude_vector)(?P<adapter>\.[^.]+)??(?P<weight>\.weight)?$")
"""PEFT puts the adapter's name in front of `weight`, or writes neither."""
_PEFT_WHATS = {"A": "down", "B": "up", "magnitude_vector": "magnitude"}
_OTHER = re.compile(
    r"^(?P<module>.+?)\.(?P<end>hada_[wt]\w+|lokr_[wt]\w+|oft_\w+|rescale|a1|a2|b1|b2|weight|on_input)(\.weight)?$"
)
_REST = {"weight": "ia3", "on_input": "ia3_in"} | {name: f"glora_{name}" for name in ("a1", "a2", "b1", "b2")}
_OLD = re.compile(r"_lora\.(down|up)\.weight$")
_HOLDERS = re.compile(r"(?<=\.to_[qkv])_lora$|(?<=\.to_out)_lora$|\.lora(_linear_layer)?$")
"""What old diffusers put between a layer and its factors, as it is left in front of `.alpha`."""
_OLD_TEXT = re.compile(r"\.self_attn\.to_(q|k|v|out)$")


class Key(NamedTuple):
    """A tensor's key taken apart: the module as the file spells it, and what the tensor is (`down`, `hada_w1_a` …)."""

    module: str
    what: str


@lru_cache(maxsize=2**16)
def split_key(key: str) -> Key | None:
    """`Key` of a tensor name, or None where it is no adapter's."""
    old = _OLD.search(key)
    if old:  # diffusers before 0.22
        return Key(_plain(f"{key[: old.start()]}_lora"), old[1])
    parts = key.split(".")
    for size in (3, 2, 1):
        if len(parts) > size:
            what = _SUFFIXES.get(".".join(parts[-size:]))
            if what:
                return Key(_plain(".".join(parts[:-size])), what)
    peft = _PEFT.match(key)
    if peft and (peft["weight"] or not peft["adapter"] or peft["what"] == "magnitude_vector"):
        return Key(_plain(peft["module"]), _PEFT_WHATS[peft["what"]])
    other = _OTHER.match(key)
    if other:
        end = other["end"]
        return Key(_plain(other["module"]), _REST.get(end, end))
    return None


def _plain(module: str) -> str:
    """The layer itself, without what old diffusers named beside it: attention processors, and text projections of theirs."""
    if ".processor.to_" in module or ".to_" in module or ".lora" in module:
        module = _HOLDERS.sub("", module.replace(".processor.to_", ".to_"))
        module = _OLD_TEXT.sub(lambda match: f".self_attn.{match[1]}_proj", module)
        return f"{module}.0" if module.endswith(".to_out") else module
    return module


def bare(module: str) -> str:
    """A text encoder's module path without the `text_model.` some classes put in front."""
    return module.removeprefix(TEXT)


def to_kohya(part: str, module: str, family: str = "sd1") -> str:
    """The kohya module name. `part` is `unet`, `text_encoder` or `text_encoder_2`."""
    return ARCHITECTURES[family].prefixes[part] + spelled(part, module).replace(".", "_")


def to_diffusers(part: str, module: str) -> str:
    """The module name in diffusers' own layout, as `load_lora_weights` takes it."""
    return f"{part}.{spelled(part, module)}"


def spelled(part: str, module: str) -> str:
    """The path as files spell it: text encoders' behind `text_model.`, but for the projection beside it."""
    return module if part == "unet" or module == PROJECTION else TEXT + bare(module)


_RESNET = {
    "conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection", "norm1": "in_layers.0", "norm2": "out_layers.0",
}  # fmt: skip


def to_sgm(module: str, family: str = "sd1") -> str:
    """A UNet layer's name in the original code, as single-file checkpoints and SDXL files of sd-scripts spell it.

    Three blocks a level on the way down (two layers and what shrinks), three on the way up. The growing convolution
    sits behind the attention where its level has one.
    """
    fixed = {"conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
             "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
             "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0"}  # fmt: skip
    if module in fixed:
        return fixed[module]
    match = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)|mid_block\.(\w+)\.(\d+)\.(.+)", module)
    if not match:
        return module
    if match[6]:
        place = "1" if match[6] == "attentions" else str(2 * int(match[7]))
        return f"middle_block.{place}.{_RESNET.get(match[8], match[8])}"
    level, kind, layer, rest = int(match[2]), match[3], int(match[4]), _RESNET.get(match[5], match[5])
    if kind == "downsamplers":
        return f"input_blocks.{3 + 3 * level}.0.op"
    if kind == "upsamplers":
        attends = ARCHITECTURES[family].unet.depths[::-1][level] > 0
        return f"output_blocks.{2 + 3 * level}.{2 if attends else 1}.conv"
    blocks = f"input_blocks.{1 + 3 * level + layer}" if match[1] == "down" else f"output_blocks.{3 * level + layer}"
    return f"{blocks}.{1 if kind == 'attentions' else 0}.{rest}"


def key_map(names: Iterable[tuple[str, str]], family: str = "sd1") -> dict[str, tuple[str, str]]:
    """kohya module name -> (part, module) for known modules. Underscores are ambiguous, so names are never parsed."""
    return {to_kohya(part, module, family): (part, module) for part, module in names}


def from_kohya(key: str, names: Mapping[str, Iterable[str]] | Iterable[str], family: str = "sd1") -> tuple[str, str] | None:
    """(part, module) of a kohya key, with or without `.lora_down.weight` at its end; None where no module is so called.

    `names` holds the paths by part; a bare list of paths is taken as the UNet's. The path comes back as given there.
    """
    by_part = names if isinstance(names, Mapping) else {"unet": names}
    known = key_map(((part, module) for part, paths in by_part.items() for module in paths), family)
    split = split_key(key)
    return known.get(split.module if split else key)


@cache
def universe() -> dict[str, tuple[str, str]]:
    """kohya module name -> (part, module) for any Stable Diffusion shaped model, small ones and other depths included.

    Both `lora_te_` and `lora_te1_` stand for the first text encoder.
    """
    wide = (
        UNet((8, 16, 32, 64, 128), (10, 10, 10, 10, 10), 8, layers_per_block=4),
        UNet((8, 16, 32, 64), (10, 10, 10, 10), 8, layers_per_block=4),
        UNet((8, 16, 32), (10, 10, 10), 8, layers_per_block=4),
        UNet((8, 16), (10, 10), 8, layers_per_block=4),
    )
    encoders = {"text_encoder": TextEncoder(48, 8, 8), "text_encoder_2": TextEncoder(48, 8, 8)}
    names: dict[str, tuple[str, str]] = {}
    for unet in wide:
        names.update(key_map(modules(unet, encoders), "sdxl"))
        for part, module in list(modules(unet, {})):
            # The skip convolution is where widths change; here every layer may have one.
            if module.endswith(".conv1"):
                shortcut = module.removesuffix("conv1") + "conv_shortcut"
                names[to_kohya(part, shortcut)] = (part, shortcut)
    names.update(key_map(modules(None, {"text_encoder": encoders["text_encoder"]}), "sd1"))
    return names


@cache
def norm_names() -> dict[str, tuple[str, str]]:
    """kohya module name -> (part, module) of the norms beside the layers of `universe`, which full differences may change."""
    norms_of = {
        "attn1.to_q": ("norm1", "norm2", "norm3"), "proj_in": ("norm",), "conv1": ("norm1", "norm2"),
        "conv_out": ("conv_norm_out",), "self_attn.q_proj": ("layer_norm1", "layer_norm2"),
    }  # fmt: skip
    by_name = {}
    for name, (part, module) in universe().items():
        for end, norms in norms_of.items():
            if module == end or module.endswith(f".{end}"):
                start, at = name[: len(name) - len(end)], module[: len(module) - len(end)]
                by_name.update({start + norm: (part, at + norm) for norm in norms})
    for prefix, part in (("lora_te_", "text_encoder"), ("lora_te1_", "text_encoder"), ("lora_te2_", "text_encoder_2")):
        by_name[f"{prefix}text_model_final_layer_norm"] = (part, "final_layer_norm")
    return by_name
