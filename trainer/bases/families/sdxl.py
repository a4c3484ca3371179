"""Stable Diffusion XL and what was built on it: Illustrious, Pony, NoobAI, Animagine and others, in ε- and v-prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.bases.families.base import END, Family, ModelComponents, SizedView

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class StableDiffusionXL(Family):
    """UNet with cross-attention to CLIP ViT-L and OpenCLIP ViT-bigG side by side (Podell et al. 2023).

    It is also conditioned on the second encoder's summary of the caption and, in six numbers, how large the picture was
    and what was cut from it, so that it learns neither blur from small pictures nor cut-off heads from cropped ones.
    """

    name = "sdxl"
    text_parts = ("text_encoder", "text_encoder_2")
    pads = (END, "!")
    pipeline_name = "StableDiffusionXLPipeline"
    pipeline_kwargs: dict[str, Any] = {"add_watermarker": False}

    def encode(self, parts: ModelComponents, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`hidden` `[batch, 77, 768 + 1280]`, each encoder's last layer but one without its final norm, and `pooled`
        `[batch, 1280]`, the second encoder's last state at the end of the caption, projected."""
        import torch

        outputs = {part: encoder(tokens[part], output_hidden_states=True) for part, encoder in parts.text_encoders.items()}
        hidden = torch.cat([outputs[part].hidden_states[-2] for part in self.text_parts], dim=-1)
        return {"hidden": hidden, "pooled": outputs["text_encoder_2"].text_embeds}

    def added_conditioning(self, parts: ModelComponents, views: Sequence[SizedView]) -> dict[str, torch.Tensor]:
        """`sizes` `[batch, 6]` float32: pixels, see `images.set.examples`."""
        import torch

        rows = [view.micro_conditioning for view in views]
        return {"sizes": torch.tensor(rows, dtype=torch.float32).to(parts.device, non_blocking=True)}

    def predict(
        self, parts: ModelComponents, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The UNet's output `[batch, 4, h, w]`: ε or v, as the base predicts."""
        added_cond = {"text_embeds": condition["pooled"], "time_ids": condition["sizes"]}
        hidden = condition["hidden"]
        return parts.unet(noisy, t, encoder_hidden_states=hidden, added_cond_kwargs=added_cond, return_dict=False)[0]
