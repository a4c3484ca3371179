"""Tells the family, the prediction type and the noise schedule of a base from its configs, its header and a few numbers.

Refuses what is no ordinary Stable Diffusion, and what lacks parts, with a sentence. Called by base_facts.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapters.header import Header
from trainer.adapters.kinds import look
from trainer.files import read_json
from trainer.problem import Problem

PICKLE_SUFFIXES = {".ckpt", ".pt", ".pth", ".bin", ".pkl"}
SUPPORTED = ("sd1", "sd2", "sdxl")
_UNET = "model.diffusion_model."
_READS = re.compile(r"model\.diffusion_model\.input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight")
_SD2_BIAS = f"{_UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
_BY_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_PARTS = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_LIBRARIES = (None, "diffusers", "transformers")
"""Where the classes of a folder's parts come from; any other word is a Python file the folder brings along."""
_READERS = {
    "sd1": ("cond_stage_model.",), "sd2": ("cond_stage_model.",),
    "sdxl": ("conditioner.embedders.0.", "conditioner.embedders.1."),
}  # fmt: skip
"""Family -> how the keys of its text encoders begin in a single file."""


def prediction(said: str, base: str) -> str:
    """`said` where it can be taught; else a Problem."""
    if said not in ("epsilon", "v_prediction"):
        raise Problem("base_prediction", field="model.base", base=base, prediction=said)
    return said


def version(family: str, prediction: str) -> str:
    """What other programs call the base a LoRA belongs to."""
    if family == "sd2":
        return "sd_v2_v" if prediction == "v_prediction" else "sd_v2"
    return {"sd1": "sd_v1", "sdxl": "sdxl_base_v1-0"}.get(family, "")


# --- diffusers folders ----------------------------------------------------------------------------------------


def folder_family(path: Path, index: dict[str, Any], unet: dict[str, Any]) -> str:
    """The family by what the UNet reads; Problem for inpainting, upscaling, refiner and foreign models, and own code."""
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
    two_readers = (index.get("text_encoder_2") or [None])[0] is not None
    if unet.get("addition_embed_type") == "text_time" or two_readers:
        if (index.get("text_encoder") or [""])[0] is None or unet.get("cross_attention_dim") == 1280:
            raise Problem("base_refiner", field="model.base", base=path.name)
        return "sdxl"
    return _BY_WIDTH.get(unet.get("cross_attention_dim", 0), "sd1")


def folder_prediction(path: Path, scheduler: dict[str, Any]) -> str:
    """What the UNet predicts, by the scheduler's config."""
    if str(scheduler.get("_class_name", "")).startswith("EDM"):
        return prediction("EDM", path.name)
    return prediction(str(scheduler.get("prediction_type", "epsilon")), path.name)


def check_parts(path: Path, family: str, unet: dict[str, Any]) -> None:
    """Every part must be there as .safetensors: a pickle beside it is never opened."""
    texts = ("text_encoder", "text_encoder_2") if family == "sdxl" else ("text_encoder",)
    for part in ("unet", "vae", *texts):
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
        if look(header).kind not in ("none", "checkpoint"):
            raise Problem("base_is_lora", field="model.base", base=name)
        if any(key.startswith((_UNET, "double_blocks.", "transformer.")) for key in keys):
            raise Problem("base_other_kind", field="model.base", base=name, kind="?")
        raise Problem("base_not_a_model", field="model.base", base=name)
    if len(first.shape) != 4 or first.shape[1] != 4:
        raise Problem("base_inpainting", field="model.base", base=name)
    if any(key.startswith("edm_") for key in keys):
        prediction("EDM", name)
    width = next((tensor.shape[-1] for key, tensor in keys.items() if _READS.match(key) and len(tensor.shape) == 2), 0)
    if width == 1280:
        raise Problem("base_refiner", field="model.base", base=name)
    family = _BY_WIDTH.get(width)
    unclip = family != "sdxl" and any(key.startswith(f"{_UNET}label_emb.") for key in keys)
    if family is None or unclip:
        raise Problem("base_other_kind", field="model.base", base=name, kind="?")
    parts = (*_READERS[family], "first_stage_model.")
    missing = [part for part in parts if not any(key.startswith(part) for key in keys)]
    if missing:
        raise _incomplete(name, ", ".join(missing))
    return family


def file_prediction(path: Path, header: Header, family: str) -> str:
    """What a single file's UNet predicts, by what tells it best: a marker tensor, the file's own words, the .yaml beside
    it, its name; and for SD 2.x one bias that spreads wide where v is predicted, as ComfyUI tells them apart."""
    if "v_pred" in header.tensors:
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    if said in ("v", "v_prediction", "epsilon", "eps"):
        return "v_prediction" if said.startswith("v") else "epsilon"
    if header.metadata.get("modelspec.architecture", "").endswith("-v"):
        return "v_prediction"
    if re.search(r"parameterization:\s*[\"']?v\b", _beside(path)):
        return "v_prediction"
    if family == "sd2" and _SD2_BIAS in header.tensors:
        return "v_prediction" if _numbers(path, header, _SD2_BIAS).std() > 0.09 else "epsilon"
    return "v_prediction" if re.search(r"v[-_ ]?pred|\bv-?param", path.stem.lower()) else "epsilon"


def file_zero_snr(path: Path, header: Header) -> bool:
    """Whether a single file says that its noise schedule ends in pure noise."""
    if "ztsnr" in header.tensors or re.search(r"z(ero)?[-_ ]?t?(erminal)?[-_ ]?snr", path.stem.lower()):
        return True
    return bool(re.search(r"(zsnr|rescale_betas_zero_snr|zero_terminal_snr):\s*[Tt]rue", _beside(path)))


def _beside(path: Path) -> str:
    """The .yaml of the same name, which other programs read too."""
    try:
        return path.with_suffix(".yaml").read_text("utf-8", "replace")[:100_000]
    except OSError:
        return ""


def _numbers(path: Path, header: Header, key: str) -> np.ndarray:
    """One small tensor's numbers in float32, flat."""
    tensor = header.tensors[key]
    with open(path, "rb") as file:
        file.seek(header.offset + tensor.start)
        data = file.read(min(tensor.end - tensor.start, 2**16))
    if tensor.dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    kind = {"F16": "<f2", "F64": "<f8"}.get(tensor.dtype, "<f4")
    return np.frombuffer(data, kind).astype(np.float32)


def _incomplete(base: str, detail: str) -> Problem:
    return Problem("base_parts", field="model.base", base=base, detail=detail)
