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
    """What a family may be told of a training image: see `images.examples.Look`."""

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
    words: Any = None
    """Words with token vectors of their own that are read beside the vocabulary (engine/text/embeddings.py); usually none."""

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
    pipeline_words: dict[str, Any] = {}
    """What that pipeline is told beside its parts."""

    @property
    def assets(self) -> Path:
        """The folder with the configurations a single file of this family is loaded by."""
        return ASSETS / self.name

    def tokens(self, parts: ModelComponents, captions: list[str]) -> dict[str, torch.Tensor]:
        """Token ids by text encoder, each `[batch, 77]` int64; what is longer is cut."""
        found = {}
        for part, tokenizer in parts.tokenizers.items():
            length = tokenizer.model_max_length
            words = tokenizer(captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
            found[part] = words.input_ids.to(parts.device, non_blocking=True)
        return found

    @abstractmethod
    def encode(self, parts: ModelComponents, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the UNet is told of the captions, batch first. For SD 1.x: `hidden` `[batch, 77, width]`."""

    def describe(self, parts: ModelComponents, looks: Sequence[SizedView]) -> dict[str, torch.Tensor]:
        """What the UNet is told of the pictures themselves, batch first; nothing for most families."""
        return {}

    @abstractmethod
    def predict(
        self, parts: ModelComponents, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The UNet's output `[batch, channels, h, w]` for latents `noisy` at timesteps `t` `[batch]`.

        `condition` holds what `encode` and `describe` returned.
        """

    def prompts(self, told: dict[str, torch.Tensor], untold: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the pipeline is given in place of prompt (`told`) and negative prompt (`untold`), each as of `encode`."""
        given = {"prompt_embeds": told["hidden"], "negative_prompt_embeds": untold["hidden"]}
        if "pooled" in told:
            given |= {"pooled_prompt_embeds": told["pooled"], "negative_pooled_prompt_embeds": untold["pooled"]}
        return given

    def pipeline(self, parts: ModelComponents) -> Any:
        """The diffusers pipeline that draws with these parts."""
        import diffusers

        pieces = parts.text_encoders | {tokenizer_of(part): parts.tokenizers[part] for part in self.text_parts}
        made = getattr(diffusers, self.pipeline_name)
        pipe = made(vae=parts.vae, unet=parts.unet, scheduler=parts.scheduler, **pieces, **self.pipeline_words)
        pipe.set_progress_bar_config(disable=True)
        return pipe


def tokenizer_of(part: str) -> str:
    """`tokenizer_2` for `text_encoder_2`."""
    return part.replace("text_encoder", "tokenizer")
