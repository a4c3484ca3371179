"""A family to copy from: not registered, so nothing calls it. docs/adding-a-family.md goes through it step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.bases.families.base import END, Family, ModelComponents, SizedView

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class NewFamily(Family):
    """One sentence: what the model is made of, and the paper that says so."""

    # The word that stands for this family everywhere: in BaseFacts, in presets (`[for.newfamily.lora]`), in the name of
    # its folder under assets, in trainer/formats/architectures.py and in the metadata of its LoRAs.
    name = "newfamily"

    # The text encoders, named as the diffusers pipeline and LoRA files name them, in the order their outputs are joined;
    # and for each the token that fills up short captions.
    text_parts = ("text_encoder",)
    pads = (END,)

    # The pipeline of diffusers that loads and draws the family, and its further arguments.
    pipeline_name = "StableDiffusionPipeline"
    pipeline_kwargs: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}

    def encode(self, parts: ModelComponents, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What depends on the captions alone. It is kept by caption where no text encoder learns, so nothing that
        depends on the picture may go in here. Every tensor has the batch first."""
        read = parts.text_encoders["text_encoder"](tokens["text_encoder"])
        return {"hidden": read.last_hidden_state}

    def added_conditioning(self, parts: ModelComponents, views: Sequence[SizedView]) -> dict[str, torch.Tensor]:
        """What depends on the pictures: sizes, cuts, scores. Leave this method out where there are none."""
        import torch

        shapes = [view.bucket for view in views]
        return {"shape": torch.tensor(shapes, dtype=torch.float32).to(parts.device, non_blocking=True)}

    def predict(
        self, parts: ModelComponents, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """One call of the network with all that `encode` and `added_conditioning` returned, in `condition`."""
        return parts.unet(noisy, t, encoder_hidden_states=condition["hidden"], return_dict=False)[0]
