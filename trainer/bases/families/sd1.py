"""Stable Diffusion 1.x, and the embedded base which has its parts at a small size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.bases.families.base import END, Family, ModelComponents

if TYPE_CHECKING:
    import torch


class StableDiffusion1(Family):
    """UNet with cross-attention to one CLIP text encoder (Rombach et al. 2022)."""

    name = "sd1"
    text_parts = ("text_encoder",)
    pads = (END,)
    pipeline_name = "StableDiffusionPipeline"
    pipeline_kwargs: dict[str, Any] = {
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip

    def encode(self, parts: ModelComponents, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`hidden` `[batch, 77, width]`: the last layer's states under the final norm."""
        return {"hidden": parts.text_encoders["text_encoder"](tokens["text_encoder"]).last_hidden_state}

    def predict(
        self, parts: ModelComponents, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The UNet's output `[batch, 4, h, w]`: ε or v, as the base predicts."""
        return parts.unet(noisy, t, encoder_hidden_states=condition["hidden"], return_dict=False)[0]
