"""Stable Diffusion 1.x, and the embedded base which has its parts at a small size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.families.base import Family, Parts
from trainer.problem import Problem

if TYPE_CHECKING:
    import torch

    from trainer.bases import BaseFacts

ASSETS = Path(__file__).parent / "assets" / "sd1"
"""Configs and the CLIP vocabulary, so that a single file loads without any network."""


class StableDiffusion1(Family):
    """UNet with cross-attention to one CLIP text encoder (Rombach et al. 2022)."""

    name = "sd1"
    text_parts = ("text_encoder",)
    targets = {
        "attention": {
            "unet": tuple(f"attn{i}.{p}" for i in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out.0")),
            "text_encoder": tuple(f"self_attn.{p}" for p in ("q_proj", "k_proj", "v_proj", "out_proj")),
        },
    }

    def load(self, facts: BaseFacts, device: torch.device, dtype: torch.dtype) -> Parts:
        pipe = _single_file(facts, dtype) if facts.layout == "file" else _folder(facts, dtype)
        for model in (pipe.unet, pipe.text_encoder, pipe.vae):
            model.requires_grad_(False).eval()
        pipe.unet.to(device, dtype)
        pipe.text_encoder.to(device, dtype)
        import torch

        pipe.vae.to(device, torch.float32)
        return Parts(
            self, facts, pipe.unet, {"text_encoder": pipe.text_encoder}, {"text_encoder": pipe.tokenizer}, pipe.vae,
            pipe.scheduler, device, dtype,
        )

    def tokens(self, parts: Parts, captions: list[str]) -> dict[str, torch.Tensor]:
        tokenizer = parts.tokenizers["text_encoder"]
        ids = tokenizer(
            captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        return {"text_encoder": ids.to(parts.device, non_blocking=True)}

    def encode(self, parts: Parts, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"hidden": parts.text_encoders["text_encoder"](tokens["text_encoder"]).last_hidden_state}

    def predict(
        self, parts: Parts, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        return parts.unet(noisy, t, encoder_hidden_states=condition["hidden"], return_dict=False)[0]

    def pipeline(self, parts: Parts) -> Any:
        import diffusers

        made: Any = diffusers.StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
        pipe = made(
            vae=parts.vae, text_encoder=parts.text_encoders["text_encoder"], tokenizer=parts.tokenizers["text_encoder"],
            unet=parts.unet, scheduler=parts.scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe


def _folder(facts: BaseFacts, dtype: torch.dtype) -> Any:
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    if facts.path is None:
        raise Problem("base_parts", field="model.base", base=facts.title, detail="it is not on this disk")
    unet = facts.path / "unet"
    variant = None
    if not (unet / "diffusion_pytorch_model.safetensors").exists() and not list(unet.glob("*.index.json")):
        variant = "fp16" if (unet / "diffusion_pytorch_model.fp16.safetensors").exists() else None
    try:
        return StableDiffusionPipeline.from_pretrained(
            facts.path, dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant,
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Problem("base_parts", field="model.base", base=facts.title, detail=_first_line(error)) from error


def _single_file(facts: BaseFacts, dtype: torch.dtype) -> Any:
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    try:
        pipe = StableDiffusionPipeline.from_single_file(
            str(facts.path), config=str(ASSETS), dtype=dtype, local_files_only=True, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Problem("base_parts", field="model.base", base=facts.title, detail=_first_line(error)) from error
    if facts.prediction == "v_prediction":
        pipe.scheduler.register_to_config(prediction_type="v_prediction")
    return pipe


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
