"""The VAE's two ways, pictures to latents and back: whole where memory allows, else fewer at once, else in pieces."""

from __future__ import annotations

from typing import Any

import torch

from trainer.hardware.memory import TILE


def encode(vae: Any, pixels: torch.Tensor) -> Any:
    """The latent distribution's parameters `[batch, 2·channels, h, w]` of `pixels` `[batch, 3, H, W]` in -1..1."""
    try:
        return vae.encode(pixels).latent_dist.parameters
    except torch.OutOfMemoryError:
        if len(pixels) > 1:
            return torch.cat([encode(vae, half) for half in pixels.tensor_split(2)])
        _in_pieces(vae)
    return vae.encode(pixels).latent_dist.parameters


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Pixels `[batch, 3, H, W]` of unscaled `latents` `[batch, channels, h, w]`."""
    try:
        return vae.decode(latents, return_dict=False)[0]
    except torch.OutOfMemoryError:
        _in_pieces(vae)
    return vae.decode(latents, return_dict=False)[0]


def _in_pieces(vae: Any) -> None:
    """From here on pictures larger than TILE go in pieces, blended where they overlap. A second shortage is an error."""
    if vae.use_tiling:
        raise torch.OutOfMemoryError("CUDA out of memory: even a piece of a picture does not fit")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    vae.enable_tiling()
    vae.tile_sample_min_size = TILE
    vae.tile_latent_min_size = TILE // 2 ** (len(vae.config.block_out_channels) - 1)
