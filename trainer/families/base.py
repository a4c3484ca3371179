"""The contract every model family fulfils. A family is one file beside this one and one line in `__init__`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from trainer.bases import BaseFacts


@dataclass
class Parts:
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
    extra: dict[str, Any] = field(default_factory=dict)

    def module(self, part: str) -> Any:
        """The torch module called `unet`, `text_encoder`, … in LoRA names."""
        return self.unet if part == "unet" else self.text_encoders[part]


class Family(ABC):
    """What differs between Stable Diffusion's families. Class attributes are light facts; methods import torch inside."""

    name: str
    """Short name, such as `sd1`: BaseFacts.family, presets and LoRA metadata use it."""
    text_parts: tuple[str, ...]
    """The text encoders' names in LoRA files, in order."""
    targets: dict[str, dict[str, tuple[str, ...]]]
    """Target choice -> part -> the endings of the module names it means."""

    @abstractmethod
    def load(self, facts: BaseFacts, device: torch.device, dtype: torch.dtype) -> Parts:
        """Load a base from disk, frozen and in evaluation mode. The VAE stays in float32 whatever `dtype` is.

        Raises Problem where parts are missing or broken.
        """

    @abstractmethod
    def tokens(self, parts: Parts, captions: list[str]) -> dict[str, torch.Tensor]:
        """Token ids by text encoder, each `[batch, 77]` int64; what is longer is cut."""

    def is_long(self, parts: Parts, caption: str) -> bool:
        """Whether `caption` has more tokens than one text encoder reads (75 and the two that frame them)."""
        return any(len(t(caption).input_ids) > t.model_max_length for t in parts.tokenizers.values())

    @abstractmethod
    def encode(self, parts: Parts, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The conditioning the UNet takes. For SD 1.x: `hidden` `[batch, 77, width]`."""

    @abstractmethod
    def predict(
        self, parts: Parts, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The UNet's output `[batch, channels, h, w]` for latents `noisy` at timesteps `t` `[batch]`."""

    @abstractmethod
    def pipeline(self, parts: Parts) -> Any:
        """The diffusers pipeline that draws with these parts."""
