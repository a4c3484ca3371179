"""Gradient checkpointing: activations are computed twice instead of kept (Chen et al. 2016)."""

from __future__ import annotations

from trainer.bases.families import ModelComponents


def checkpoint_gradients(parts: ModelComponents) -> None:
    """Compute activations twice instead of keeping them (Chen et al. 2016)."""
    parts.unet.enable_gradient_checkpointing()
    parts.unet.train()  # diffusers checkpoints only in training mode; SD's UNets have no dropout
    for encoder in parts.text_encoders.values():
        encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        encoder.train()
