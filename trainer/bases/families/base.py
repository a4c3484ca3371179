"""The contract every model family fulfils. A family is one file beside this one and one line in `__init__`.

What Stable Diffusion's families share stands here; docs/adding-a-family.md says how to add one, template.py shows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from trainer.bases.catalog import BaseFacts

ASSETS = Path(__file__).parent / "assets"
"""Configurations by family and the CLIP vocabulary, so that a single file loads without any network."""
END = "<|endoftext|>"


class SizedView(Protocol):
    """What a family may know of a training image: see `images.set.examples.View`."""

    @property
    def bucket(self) -> tuple[int, int]:
        """Width and height in pixels it is cut to."""
        ...

    @property
    def micro_conditioning(self) -> tuple[float, ...]:
        """Six numbers of pixels: height and width of the picture, top and left of the cut, height and width of the bucket."""
        ...


@dataclass
class ModelComponents:
    """A loaded base model. Everything in it is frozen; `text_encoders` and `tokenizers` share their keys."""

    family: Family
    facts: BaseFacts
    unet: Any
    text_encoders: dict[str, Any]
    tokenizers: dict[str, Any]
    vae: Any
    scheduler: Any
    device: Any
    dtype: Any
    vae_from: Path | None = None
    """Where a VAE other than the base's own was read from."""
    clip_skip: int = 1
    """The layer from the end the text encoders are cut to."""
    token_embeddings: Any = None
    """Textual-inversion tokens read besides the vocabulary (`engine/text/embeddings.py`, TokenEmbeddings); usually none."""

    def module(self, part: str) -> Any:
        """The torch module called `unet`, `text_encoder`, … in LoRA names."""
        return self.unet if part == "unet" else self.text_encoders[part]


class Family(ABC):
    """What differs between Stable Diffusion's families. Class attributes are light facts; methods import torch inside."""

    name: str
    """Short name, such as `sd1`: BaseFacts.family, presets and LoRA metadata use it."""
    text_parts: tuple[str, ...]
    """The text encoders' names in LoRA files and in the diffusers pipeline, in order."""
    pads: tuple[str, ...]
    """The token that fills up a short caption, by text encoder."""
    pipeline_name: str
    """The diffusers pipeline that loads and draws this family."""
    pipeline_kwargs: dict[str, Any] = {}
    """Further arguments of that pipeline, besides its components."""

    @property
    def assets(self) -> Path:
        """The folder with the configurations a single file of this family is loaded by."""
        return ASSETS / self.name

    def tokens(self, parts: ModelComponents, captions: list[str]) -> dict[str, torch.Tensor]:
        """Token ids by text encoder, each `[batch, 77]` int64; what is longer is cut."""
        token_ids = {}
        for part, tokenizer in parts.tokenizers.items():
            length = tokenizer.model_max_length
            encoding = tokenizer(captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
            token_ids[part] = encoding.input_ids.to(parts.device, non_blocking=True)
        return token_ids

    @abstractmethod
    def encode(self, parts: ModelComponents, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The captions as the UNet is conditioned on them, batch first. For SD 1.x: `hidden` `[batch, 77, width]`."""

    def added_conditioning(self, parts: ModelComponents, views: Sequence[SizedView]) -> dict[str, torch.Tensor]:
        """What the UNet is conditioned on besides captions: tensors of the views, batch first; nothing for most families."""
        return {}

    @abstractmethod
    def predict(
        self, parts: ModelComponents, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The UNet's output `[batch, channels, h, w]` for latents `noisy` at timesteps `t` `[batch]`.

        `condition` holds what `encode` and `added_conditioning` returned.
        """

    def prompts(self, cond: dict[str, torch.Tensor], uncond: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The pipeline's embedding arguments for prompt (`cond`) and negative prompt (`uncond`), each as of `encode`."""
        kwargs = {"prompt_embeds": cond["hidden"], "negative_prompt_embeds": uncond["hidden"]}
        if "pooled" in cond:
            kwargs |= {"pooled_prompt_embeds": cond["pooled"], "negative_pooled_prompt_embeds": uncond["pooled"]}
        return kwargs

    def pipeline(self, parts: ModelComponents) -> Any:
        """The diffusers pipeline that draws with these parts."""
        import diffusers

        components = parts.text_encoders | {tokenizer_of(part): parts.tokenizers[part] for part in self.text_parts}
        pipeline_class = getattr(diffusers, self.pipeline_name)
        pipe = pipeline_class(vae=parts.vae, unet=parts.unet, scheduler=parts.scheduler, **components, **self.pipeline_kwargs)
        pipe.set_progress_bar_config(disable=True)
        return pipe


def tokenizer_of(part: str) -> str:
    """`tokenizer_2` for `text_encoder_2`."""
    return part.replace("text_encoder", "tokenizer")
