"""Reads a base's weights: diffusers folders, single files in the original names, another VAE. Called by Family.load."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from trainer.bases.families.base import ASSETS, Family, ModelComponents, tokenizer_of
from trainer.core.problem import Problem
from trainer.formats.header import read_header
from trainer.formats.names import bare

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch

    from trainer.bases.catalog import BaseFacts


CLIP_NAMES = {"sd1": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}
"""How the tensors of CLIP ViT-L are named in a single file, before `text_model.` where that is there."""


def load(
    family: Family, facts: BaseFacts, device: torch.device, dtype: torch.dtype, vae: Path | None = None
) -> ModelComponents:
    """Everything of a base, frozen, on `device`: UNet and text encoders in `dtype`, the VAE in float32; None for the VAE of
    a base that has none where none is chosen."""
    import torch

    if facts.path is None:
        raise _incomplete(facts, "it is not on this disk")
    chosen_vae, vae = vae, vae or facts.vae
    try:
        own = None
        if not vae and facts.has_vae:
            own = _read_vae(family, facts.path if facts.layout == "file" else facts.path / "vae")
        read = _single_file if facts.layout == "file" else _folder
        pipe = read(family, facts, facts.path, dtype, {"vae": load_vae(family, vae) if vae else own})
    except _broken() as error:
        raise _incomplete(facts, _first_line(error)) from error
    encoders = {part: getattr(pipe, part) for part in family.text_parts}
    for name, model in {"unet": pipe.unet, "vae": pipe.vae, **encoders}.items():
        if model is None:
            continue
        lacking = _lacking(model)
        if lacking:
            raise _incomplete(facts, f"{name}: {lacking}")
        model.requires_grad_(False).eval()
        model.to(device, torch.float32 if name == "vae" else dtype)
    tokenizers = {part: getattr(pipe, tokenizer_of(part)) for part in family.text_parts}
    return ModelComponents(family, facts, pipe.unet, encoders, tokenizers, pipe.vae, pipe.scheduler, device, dtype, chosen_vae)


def load_vae(family: Family, path: Path) -> Any:
    """The separate VAE at `path`, a diffusers folder or a single file (see bases.find_vae), in float32.

    A folder says its own scaling factor; a single file has none and gets that of the family.
    """
    params = {"field": "model.vae", "vae": path.name}
    try:
        vae = _read_vae(family, path)
    except _broken() as error:
        raise Problem("vae_broken", detail=_first_line(error), **params) from error
    if lacking := _lacking(vae):
        raise Problem("vae_broken", detail=lacking, **params)
    if vae.config.latent_channels != 4:
        raise Problem("vae_other", channels=vae.config.latent_channels, **params)
    return vae


def _read_vae(family: Family, path: Path) -> Any:
    """A VAE in float32, never rounded to fewer bits on the way. Of a single file only its own tensors are read."""
    import torch
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]
    from safetensors import safe_open

    kwargs: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if path.is_dir():
        return AutoencoderKL.from_pretrained(path, use_safetensors=True, variant=_variant([path]), **kwargs)
    read_header(path)
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        inside = [name for name in names if name.startswith("first_stage_model.")] or names
        weights: Any = {name: file.get_tensor(name) for name in inside}
    return AutoencoderKL.from_single_file(weights, config=str(family.assets), subfolder="vae", **kwargs)


def _lacking(model: torch.nn.Module) -> str | None:
    """The first weight no file had."""
    return next((key for key, weight in model.named_parameters() if weight.is_meta), None)


def _folder(family: Family, facts: BaseFacts, path: Path, dtype: torch.dtype, components: dict[str, Any]) -> Any:
    variant = _variant(folder for folder in path.iterdir() if folder.is_dir())
    return _pipeline(family).from_pretrained(
        path, dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant, **family.pipeline_kwargs, **components
    )


def _variant(folders: Iterable[Path]) -> str | None:
    """`fp16` where a part lies there in half precision only; diffusers then takes the plain files of the other parts."""
    for folder in folders:
        names = [file.name for file in folder.glob("*.safetensors")]
        if names and all(".fp16" in name for name in names):
            return "fp16"
    return None


def _single_file(family: Family, facts: BaseFacts, path: Path, dtype: torch.dtype, components: dict[str, Any]) -> Any:
    components = components | {
        "scheduler": _scheduler(family, facts),
        **_tokenizers(family),
        **_bare_text_encoder(family, path, dtype),
    }
    kwargs = {"config": str(family.assets), "dtype": dtype, "local_files_only": True}
    return _pipeline(family).from_single_file(str(path), **kwargs, **family.pipeline_kwargs, **components)


def _bare_text_encoder(family: Family, path: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The CLIP text encoder of a single file that names its tensors without `text_model.`, as the first anime models of 2022
    do; nothing for other files, whose names diffusers knows. The names map one to one."""
    from safetensors import safe_open
    from transformers import CLIPTextConfig, CLIPTextModel

    start = CLIP_NAMES.get(family.name)
    names = read_header(path).tensors
    if start is None or not any(name.startswith(f"{start}encoder.") for name in names):
        return {}
    model: Any = CLIPTextModel(CLIPTextConfig.from_pretrained(family.assets / "text_encoder"))
    model.to(dtype)
    with safe_open(path, framework="pt") as file:
        weights = {key: file.get_tensor(f"{start}{bare(key)}") for key in model.state_dict() if f"{start}{bare(key)}" in names}
    lacking = [key for key, _ in model.named_parameters() if key not in weights]
    if lacking:
        raise KeyError(f"text_encoder: {lacking[0]}")
    model.load_state_dict(weights, strict=False)
    return {"text_encoder": model}


def _scheduler(family: Family, facts: BaseFacts) -> Any:
    """The sampler of the family for what this file predicts. With zero terminal SNR sampling begins at the very last
    timestep, which DDIM can (Lin et al. 2024)."""
    import diffusers

    config = json.loads((family.assets / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    config["prediction_type"] = facts.prediction
    name = config["_class_name"]
    if facts.zero_snr:
        name = "DDIMScheduler"
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
    return getattr(diffusers, name).from_config(config)


def _tokenizers(family: Family) -> dict[str, Any]:
    """All families read with the same vocabulary; they differ in what fills up short captions."""
    return {tokenizer_of(part): _tokenizer(pad) for part, pad in zip(family.text_parts, family.pads, strict=True)}


@cache
def _tokenizer(pad: str) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(ASSETS / "tokenizer", pad_token=pad)


def _pipeline(family: Family) -> Any:
    import diffusers

    return getattr(diffusers, family.pipeline_name)


def _broken() -> tuple[type[Exception], ...]:
    """What the libraries raise where a file lacks parts, is cut off or does not fit its configuration."""
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from safetensors import SafetensorError

    return (OSError, ValueError, KeyError, RuntimeError, SafetensorError, SingleFileComponentError)


def _incomplete(facts: BaseFacts, detail: str) -> Problem:
    return Problem("base_parts", field="model.base", base=facts.title, detail=detail)


def _first_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "some of its weights are missing" if "meta tensor" in first else first[:200]
