"""Detects the family of a base from its configs or its header.

Refuses what is no ordinary Stable Diffusion, and what lacks parts, with a sentence. Called by facts.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from trainer.core.files import read_json
from trainer.core.problem import Problem
from trainer.formats.detect import file_format
from trainer.formats.header import Header

PICKLE_SUFFIXES = {".ckpt", ".pt", ".pth", ".bin", ".pkl"}
SUPPORTED = ("sd1", "sd2", "sdxl")
_UNET = "model.diffusion_model."
_CROSS_ATTENTION_KEY = re.compile(r"model\.diffusion_model\.input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight")
_OTHER_ARCHITECTURES = tuple((kind, re.compile(mark)) for kind, mark in (
    ("Stable Diffusion 3", r"joint_blocks\.|transformer_blocks\.\d+\.(attn2|norm1_context)\.|pos_embed$"),
    ("Chroma", r"distilled_guidance_layer\."),
    ("Flux", r"double_blocks\.|single_transformer_blocks\."),
    ("AuraFlow", r"double_layers\."),
    ("Lumina 2, Z-Image", r"(noise_refiner|cap_embedder)\."),
    ("Qwen-Image", r"transformer_blocks\.\d+\.img_mod\."),
    ("PixArt", r"adaln_single\.|t_block\."),
    ("Wan, Cosmos", r"(net\.)?blocks\.\d+\.(self_attn|cross_attn)\."),
))  # fmt: skip
"""Families with a transformer in the UNet's place, by how a key begins behind `model.diffusion_model.`."""
_EDITING_CHANNELS = (5, 7, 8, 9)
"""Input channels of UNets that take depth, a low-resolution picture, a picture, or a picture and a mask besides the latents."""
_BY_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_PARTS = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_LIBRARIES = (None, "diffusers", "transformers")
"""Where the classes of a folder's parts come from; any other word is a Python file the folder brings along."""
_TEXT_ENCODER_PREFIXES = {
    "sd1": ("cond_stage_model.",), "sd2": ("cond_stage_model.",),
    "sdxl": ("conditioner.embedders.0.", "conditioner.embedders.1."),
}  # fmt: skip
"""Family -> how the keys of its text encoders begin in a single file."""


def version(family: str, prediction: str) -> str:
    """What other programs call the base a LoRA belongs to."""
    if family == "sd2":
        return "sd_v2_v" if prediction == "v_prediction" else "sd_v2"
    return {"sd1": "sd_v1", "sdxl": "sdxl_base_v1-0"}.get(family, "")


# --- diffusers folders ----------------------------------------------------------------------------------------


def folder_family(path: Path, index: dict[str, Any], unet: dict[str, Any]) -> str:
    """The family by the UNet's cross-attention; Problem for inpainting, upscaling, refiner and foreign models, and own code."""
    named = [index.get(part) or [None] for part in _PARTS]
    if isinstance(index.get("_class_name"), list) or any(next(iter(one)) not in _LIBRARIES for one in named):
        raise Problem("base_own_code", field="model.base", base=path.name)
    kind = str(index.get("_class_name", "?")).removesuffix("Pipeline")
    if not unet:
        raise Problem("base_other_kind", field="model.base", base=path.name, kind=kind)
    if unet.get("in_channels", 4) != unet.get("out_channels", 4):
        raise Problem("base_inpainting", field="model.base", base=path.name)
    if unet.get("class_embed_type"):
        raise Problem("base_other_kind", field="model.base", base=path.name, kind=kind)
    has_second_encoder = (index.get("text_encoder_2") or [None])[0] is not None
    if unet.get("addition_embed_type") == "text_time" or has_second_encoder:
        if (index.get("text_encoder") or [""])[0] is None or unet.get("cross_attention_dim") == 1280:
            raise Problem("base_refiner", field="model.base", base=path.name)
        return "sdxl"
    return _BY_WIDTH.get(unet.get("cross_attention_dim", 0), "sd1")


def check_parts(path: Path, family: str, unet: dict[str, Any]) -> None:
    """Every part but the VAE must be there as .safetensors: a pickle beside it is never opened."""
    texts = ("text_encoder", "text_encoder_2") if family == "sdxl" else ("text_encoder",)
    for part in ("unet", *(("vae",) if (path / "vae").is_dir() else ()), *texts):
        stem, folder = "model" if part in texts else "diffusion_pytorch_model", path / part
        if not (folder / "config.json").is_file():
            raise _incomplete(path.name, f"{part}/config.json")
        if not list(folder.glob(f"{stem}*.safetensors")):
            if any(file.suffix in PICKLE_SUFFIXES for file in folder.iterdir()):
                raise Problem("base_pickle_only", field="model.base", base=path.name)
            raise _incomplete(path.name, f"{part}/{stem}.safetensors")
    configs = [read_json(path / part / "config.json") for part in texts]
    widths = [config.get("hidden_size", 0) for config in configs if isinstance(config, dict)]
    if unet.get("cross_attention_dim") != sum(widths):
        raise _incomplete(path.name, f"unet ≠ {' + '.join(texts)}")
    for part in texts:
        tokenizer = part.replace("text_encoder", "tokenizer")
        if not (path / tokenizer).is_dir():
            raise _incomplete(path.name, tokenizer)


# --- single files ---------------------------------------------------------------------------------------------


def file_family(header: Header, name: str) -> str:
    """The family of a single file by its keys and shapes; Problem for what is none or lacks parts."""
    keys = header.tensors
    first = keys.get(f"{_UNET}input_blocks.0.0.weight")
    if first is None:
        if file_format(header).kind not in ("none", "checkpoint"):
            raise Problem("base_is_lora", field="model.base", base=name)
        bare = [key.removeprefix(_UNET) for key in keys]
        kind = next((kind for kind, mark in _OTHER_ARCHITECTURES if any(mark.match(key) for key in bare)), None)
        if kind or any(key.startswith((_UNET, "transformer.")) for key in keys):
            raise Problem("base_other_kind", field="model.base", base=name, kind=kind or "?")
        raise Problem("base_not_a_model", field="model.base", base=name)
    inputs = first.shape[1] if len(first.shape) == 4 else 0
    if inputs not in (4, *_EDITING_CHANNELS):
        raise Problem("base_other_kind", field="model.base", base=name, kind=f"{inputs} latent channels")
    if inputs != 4:
        raise Problem("base_inpainting", field="model.base", base=name)
    width = next(
        (tensor.shape[-1] for key, tensor in keys.items() if _CROSS_ATTENTION_KEY.match(key) and len(tensor.shape) == 2), 0
    )
    if width == 1280:
        raise Problem("base_refiner", field="model.base", base=name)
    family = _BY_WIDTH.get(width)
    unclip = family != "sdxl" and any(key.startswith(f"{_UNET}label_emb.") for key in keys)
    if family is None or unclip:
        raise Problem("base_other_kind", field="model.base", base=name, kind="?")
    missing = [part for part in _TEXT_ENCODER_PREFIXES[family] if not any(key.startswith(part) for key in keys)]
    if missing:
        raise _incomplete(name, ", ".join(missing))
    return family


def _incomplete(base: str, detail: str) -> Problem:
    return Problem("base_parts", field="model.base", base=base, detail=detail)
