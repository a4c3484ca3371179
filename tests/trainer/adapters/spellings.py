"""One LoRA in the names of many programs, for tests: tensors by key from {(part, module): (down, up, alpha)}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trainer.formats.names import to_sgm

Place = tuple[str, str]
Weights = dict[Place, tuple[np.ndarray, np.ndarray, float]]
Write = Callable[[Weights, str], dict[str, np.ndarray]]

KOHYA = ("lora_down.weight", "lora_up.weight", "alpha")
PEFT = ("lora_A.weight", "lora_B.weight", "alpha")
BARE = ("lora_A.weight", "lora_B.weight", "")
"""Without alpha."""
_TE = {"text_encoder": "te1", "text_encoder_2": "te2"}
_CLIP = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _te(part: str, family: str) -> str:
    return _TE[part] if family == "sdxl" else "te"


def _clip(part: str, family: str) -> str:
    return "clip_h" if family == "sd2" else _CLIP[part]


def kohya(place: Place, family: str) -> str:
    part, module = place
    return f"lora_unet_{_flat(module)}" if part == "unet" else f"lora_{_te(part, family)}_text_model_{_flat(module)}"


def kohya_original(place: Place, family: str) -> str:
    return f"lora_unet_{_flat(to_sgm(place[1], family))}" if place[0] == "unet" else kohya(place, family)


def original_behind_unet(place: Place, family: str) -> str:
    return f"unet.{to_sgm(place[1], family)}" if place[0] == "unet" else kohya(place, family)


def onetrainer_dotted(place: Place, family: str) -> str:
    part, module = place
    return f"lora_unet.{module}" if part == "unet" else f"lora_{_te(part, family)}.text_model.{module}"


def onetrainer_omi(place: Place, family: str) -> str:
    part, module = place
    return f"unet.{to_sgm(module, family)}" if part == "unet" else f"{_CLIP[part]}.text_model.{module}"


def onetrainer_raw(place: Place, family: str) -> str:
    part, module = place
    return f"unet.{module}" if part == "unet" else f"{part}.text_model.{module}"


def comfyui(place: Place, family: str) -> str:
    part, module = place
    if part == "unet":
        return f"diffusion_model.{to_sgm(module, family)}"
    return f"text_encoders.{_clip(part, family)}.transformer.text_model.{module}"


def comfyui_short(place: Place, family: str) -> str:
    part, module = place
    if part == "unet":
        return f"model.diffusion_model.{to_sgm(module, family)}"
    return f"{_clip(part, family)}.transformer.text_model.{module}"


def model_dot(place: Place, family: str) -> str:
    return f"model.{to_sgm(place[1], family)}"


def bare_original(place: Place, family: str) -> str:
    return to_sgm(place[1], family)


def simpletuner(place: Place, family: str) -> str:
    return f"lycoris_{_flat(place[1])}"


def peft(place: Place, family: str) -> str:
    return f"base_model.model.{place[1]}"


def diffusers_peft(place: Place, family: str) -> str:
    part, module = place
    return f"{part}.base_model.model.{module if part == 'unet' else f'text_model.{module}'}"


def _suffixed(name: Callable[[Place, str], str], ends: tuple[str, str, str], only_unet: bool = False) -> Write:
    def write(weights: Weights, family: str) -> dict[str, np.ndarray]:
        tensors: dict[str, Any] = {}
        for place, (down, up, alpha) in weights.items():
            if only_unet and place[0] != "unet":
                continue
            stem = name(place, family)
            tensors[f"{stem}.{ends[0]}"], tensors[f"{stem}.{ends[1]}"] = down, up
            if ends[2]:
                tensors[f"{stem}.{ends[2]}"] = np.asarray(alpha, np.float32)
        return tensors

    return write


def old_diffusers(weights: Weights, family: str) -> dict[str, np.ndarray]:
    """Attention processors (diffusers before 0.22), text encoders with `lora_linear_layer`."""
    tensors: dict[str, Any] = {}
    for (part, module), (down, up, alpha) in weights.items():
        if part == "unet" and ".to_" in module:
            stem = "unet." + module.removesuffix(".0").replace(".to_", ".processor.to_") + "_lora"
            ends = ("down.weight", "up.weight")
        elif part == "unet":
            stem, ends = f"unet.{module}", ("lora.down.weight", "lora.up.weight")
        else:
            stem, ends = f"{part}.text_model.{module}", ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight")
        tensors[f"{stem}.{ends[0]}"], tensors[f"{stem}.{ends[1]}"] = down, up
        tensors[f"{stem}.alpha"] = np.asarray(alpha, np.float32)
    return tensors


ALL: dict[str, Write] = {
    "kohya": _suffixed(kohya, KOHYA),
    "kohya, original names": _suffixed(kohya_original, KOHYA),
    "unet. and original names": _suffixed(original_behind_unet, KOHYA),
    "OneTrainer, dotted": _suffixed(onetrainer_dotted, KOHYA),
    "OneTrainer, omi": _suffixed(onetrainer_omi, KOHYA),
    "OneTrainer, raw": _suffixed(onetrainer_raw, KOHYA),
    "OneTrainer for ComfyUI": _suffixed(comfyui, PEFT),
    "ComfyUI": _suffixed(comfyui, KOHYA),
    "ComfyUI, short": _suffixed(comfyui_short, KOHYA),
    "model.": _suffixed(model_dot, KOHYA, only_unet=True),
    "OneTrainer, original": _suffixed(bare_original, PEFT, only_unet=True),
    "SimpleTuner": _suffixed(simpletuner, KOHYA, only_unet=True),
    "PEFT": _suffixed(peft, ("lora_A.default.weight", "lora_B.default.weight", "alpha"), only_unet=True),
    "PEFT behind a part": _suffixed(diffusers_peft, ("lora_A.fox.weight", "lora_B.fox.weight", "alpha")),
    "diffusers": _suffixed(onetrainer_raw, PEFT),
    "diffusers, old": old_diffusers,
}
UNET_ALONE = ("model.", "OneTrainer, original", "SimpleTuner", "PEFT")
