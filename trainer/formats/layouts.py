"""Which layer of a Stable Diffusion model a key of any program's LoRA means. Used by all that reads LoRA files.

Names are looked up, never parsed: a layout is a prefix (or none), then the layer's path in diffusers' names or in those of
the original code, with dots or with underscores. `base_model.model.` of PEFT may stand before or behind the prefix. Prefixes
as in sd-scripts `networks/lora.py`, OneTrainer `convert_sd_lora.py`, `convert_sdxl_lora.py` and `convert_lora_util.py`, ComfyUI
`comfy/lora.py` (its trainer and its extraction write the names of its own state dict), SimpleTuner's LyCORIS files, PEFT.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Literal, NamedTuple

from trainer.formats.architectures import TextEncoder, UNet, modules
from trainer.formats.names import PROJECTION, TEXT, bare, spelled, split_key, to_sgm

Layout = Literal["kohya", "diffusers", "comfyui", "onetrainer", "lycoris", "original", "other"]
"""`original` are the original code's names without a program's prefix."""

_PEFT = "base_model.model."
_UNET, _FIRST, _SECOND = ("unet",), ("text_encoder",), ("text_encoder_2",)
_ANY = ("unet", "text_encoder")
_PREFIXES: tuple[tuple[str, tuple[str, ...], Layout], ...] = (
    ("lora_unet_", _UNET, "kohya"), ("lora_te2_", _SECOND, "kohya"), ("lora_te1_", _FIRST, "kohya"),
    ("lora_te_", _FIRST, "kohya"),
    ("lora_unet.", _UNET, "onetrainer"), ("lora_te2.", _SECOND, "onetrainer"), ("lora_te1.", _FIRST, "onetrainer"),
    ("lora_te.", _FIRST, "onetrainer"),
    ("text_encoders.clip_l.transformer.", _FIRST, "comfyui"), ("text_encoders.clip_h.transformer.", _FIRST, "comfyui"),
    ("text_encoders.clip_g.transformer.", _SECOND, "comfyui"), ("text_encoders.clip_l.", _FIRST, "comfyui"),
    ("text_encoders.clip_h.", _FIRST, "comfyui"), ("text_encoders.clip_g.", _SECOND, "comfyui"),
    ("clip_l.transformer.", _FIRST, "comfyui"), ("clip_h.transformer.", _FIRST, "comfyui"),
    ("clip_g.transformer.", _SECOND, "comfyui"),
    ("clip_l.", _FIRST, "onetrainer"), ("clip_h.", _FIRST, "onetrainer"), ("clip_g.", _SECOND, "onetrainer"),
    ("model.diffusion_model.", _UNET, "comfyui"), ("diffusion_model.", _UNET, "comfyui"),
    ("lycoris_", _ANY, "lycoris"), ("lycoris.", _ANY, "lycoris"),
    ("unet.", _UNET, "diffusers"), ("text_encoder_2.", _SECOND, "diffusers"), ("text_encoder_1.", _FIRST, "diffusers"),
    ("text_encoder.", _FIRST, "diffusers"), ("model.", _UNET, "original"), ("", _ANY, "diffusers"),
)  # fmt: skip
"""(what a key begins with, the parts it may mean, whose layout it is), the longer of two that begin alike first."""
_NORMS = (".norm", ".norm1", ".norm2", ".norm3", ".layer_norm1", ".layer_norm2")


class Name(NamedTuple):
    """A layer by a file's name for it."""

    layout: Layout
    part: str
    path: str
    """In diffusers' names, a text encoder's without `text_model.`"""

    @property
    def norm(self) -> bool:
        """Whether it is a norm, which full differences alone can change."""
        return is_norm(self.path)


def is_norm(path: str) -> bool:
    """Whether a layer's path is a norm's."""
    return path in ("conv_norm_out", "final_layer_norm") or f".{path}".endswith(_NORMS)


def locate(key: str) -> tuple[str, str] | None:
    """(part, bare module path) of any LoRA key of a Stable Diffusion shaped model, or None."""
    split = split_key(key)
    name = read(split.module) if split else None
    if split is None or name is None or (name.norm and split.what not in ("diff", "diff_b")):
        return None
    return name.part, name.path


@lru_cache(maxsize=2**16)
def read(module: str) -> Name | None:
    """The layer a file calls `module` (a key without `.lora_down.weight` and the like), or None."""
    inner = module.removeprefix(_PEFT)
    for prefix, parts, layout in _PREFIXES:
        if not inner.startswith(prefix):
            continue
        flat = inner[len(prefix) :].removeprefix(_PEFT).replace(".", "_")
        for part in parts:
            path = _unet_paths().get(flat) if part == "unet" else _text_paths().get(flat)
            if path:
                return Name(_whose(layout, flat), part, path)
    return None


def _whose(layout: Layout, flat: str) -> Layout:
    """diffusers' prefix in front of the original code's names is OneTrainer's; no prefix at all is nobody's."""
    if layout == "diffusers" and flat.startswith(("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "out_",
                                                  "label_emb_")):  # fmt: skip
        return "original"
    return layout


@cache
def _unet_paths() -> dict[str, str]:
    """A UNet layer's name with underscores, diffusers' or the original code's -> its path."""
    by_name: dict[str, str] = {}
    for levels in (5, 4, 3, 2):  # where the last level is decides which blocks shrink and grow
        for layers in (4, 2):
            channels = tuple(8 * 2**level for level in range(levels))
            for path in _unet(UNet(channels, (10,) * levels, 8, layers_per_block=layers)):
                by_name[path.replace(".", "_")] = path
                if layers == 2:  # the original code counts through, three blocks a level
                    for original in _originals(path):
                        by_name[original.replace(".", "_")] = path
    return by_name


def _unet(net: UNet) -> list[str]:
    paths = [path for _, path in modules(net, {})]
    neighbours = {"attn1.to_q": ("norm1", "norm2", "norm3"), "proj_in": ("norm",), "conv1": ("norm1", "norm2", "conv_shortcut")}
    more = [path[: -len(end)] + name for path in paths for end, names in neighbours.items() if path.endswith(f".{end}")
            for name in names]  # fmt: skip
    return [*paths, *more, "conv_norm_out", "add_embedding.linear_1", "add_embedding.linear_2"]


def _originals(path: str) -> list[str]:
    """The original code's names: what grows stands behind the attention, in families that have one there."""
    if ".upsamplers." in path:
        block = 2 + 3 * int(path.split(".")[1])
        return [f"output_blocks.{block}.1.conv", f"output_blocks.{block}.2.conv"]
    return [to_sgm(path)]


@cache
def _text_paths() -> dict[str, str]:
    """A text encoder layer's name with underscores, with and without `text_model_` -> its bare path."""
    paths = [path for _, path in modules(None, {"text_encoder": TextEncoder(48, 8, 8)})]
    paths += [f"encoder.layers.{layer}.layer_norm{i}" for layer in range(48) for i in (1, 2)] + ["final_layer_norm", PROJECTION]
    by_name = {(TEXT + path).replace(".", "_"): path for path in paths}
    return by_name | {path.replace(".", "_"): path for path in paths}


def comfy_names(part: str, path: str, family: str) -> list[str]:
    """What ComfyUI calls a layer in files of its own, and SimpleTuner's name, which it reads too."""
    if part == "unet":
        return [f"diffusion_model.{to_sgm(path, family)}", "lycoris_" + path.replace(".", "_")]
    clip = "clip_h" if family == "sd2" else {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}[part]
    return [f"text_encoders.{clip}.transformer.{spelled(part, bare(path))}"]
