"""How an error becomes a number: the pointwise loss, the mask over it, and its mean a picture. Used by step and judge."""

from __future__ import annotations

import torch


def pointwise(error: torch.Tensor, kind: str, threshold: torch.Tensor) -> torch.Tensor:
    """The loss of each element of `error` = prediction - target `[batch, channels, h, w]`, c the `threshold` `[batch]`.

    `mse` e². `huber` 2c(√(e²+c²) - c), e² for small errors and 2c·|e| for large ones; `smooth_l1` is that over c
    (pseudo-Huber, Charbonnier et al. 1997; for diffusion Song & Dhariwal 2024).
    """
    if kind == "mse":
        return error.pow(2)
    c = threshold.view(-1, 1, 1, 1)
    soft = 2 * ((error.pow(2) + c * c).sqrt() - c)
    return c * soft if kind == "huber" else soft


def per_picture(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`[batch]`: the mean of `values` `[batch, channels, h, w]`, under `mask` `[batch, 1, h, w]` Σ m·v / Σ m, so that each
    picture counts alike however little of it is marked."""
    if mask is None:
        return values.mean((1, 2, 3))
    return (values * mask).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * values.shape[1])
