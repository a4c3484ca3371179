"""The best adapter of a given size for a change of a weight: truncated singular values (Eckart & Young 1936)."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.core.problem import Problem
from trainer.formats.architectures import inner_shape
from trainer.formats.layers import Layer

Array = np.ndarray[Any, np.dtype[Any]]


def check_size(rank: int | None, energy: float | None) -> None:
    """Problem for a rank or a share that nothing can be reduced to."""
    if rank is not None and not 1 <= rank <= 4096:
        raise Problem("rank_range", field="rank", given=rank)
    if energy is not None and not 0 < energy <= 1:
        raise Problem("energy_range", field="energy", given=energy)


def reduced(layer: Layer, place: tuple[str, str], family: str, rank: int | None, energy: float | None) -> Layer:
    """A plain LoRA of at most `rank`, or of as few ranks as keep the share `energy` of ‖ΔW‖², or both.

    alpha is the rank itself, so that alpha / r = 1. The factors share each singular value evenly. A magnitude (DoRA) and
    the difference of a bias stay as they are, and so does a norm, which has no directions to choose from.
    """
    if layer.no_matrix:
        return layer
    unchanged = {name: layer.tensors[name] for name in ("dora", "diff_b") if name in layer.tensors}
    layer = Layer({name: tensor for name, tensor in layer.tensors.items() if name not in unchanged}, layer.alpha)
    if layer.kind == "lora":  # the SVD of the small middle of Q1·(R1·R2ᵀ)·Q2ᵀ is exact and quick
        r = layer.down.shape[0]
        q1, r1 = np.linalg.qr(layer.up.reshape(-1, r).astype(np.float64))
        q2, r2 = np.linalg.qr(layer.down.reshape(r, -1).T.astype(np.float64))
        u, sigma, vt = np.linalg.svd(r1 @ r2.T * layer.scale)
        u, vt, inside = q1 @ u, vt @ q2.T, layer.down.shape[1:]
    else:
        change = np.asarray(layer.delta(), np.float64)
        inside = inner_shape(place, family, change.shape)
        u, sigma, vt = singular(change.reshape(change.shape[0], -1))
    keep = kept(sigma, rank, energy)
    root = np.sqrt(sigma[:keep])
    up, down = u[:, :keep] * root, root[:, None] * vt[:keep]
    wide = len(inside) > 1
    up = up.reshape(-1, keep, *([1, 1] if wide else []))
    factors = {"down": down.reshape(keep, *inside).astype(np.float32), "up": up.astype(np.float32)}
    return Layer(factors | unchanged, float(keep))


def kept(sigma: Array, rank: int | None, energy: float | None) -> int:
    """How many singular values to keep: at least one, none that is nothing."""
    count = len(sigma)
    if energy is not None and sigma[0] > 0:
        share = np.cumsum(sigma**2) / np.sum(sigma**2)
        count = int(np.searchsorted(share, energy * (1 - 1e-12)) + 1)
    count = min(count, rank or count, int(np.sum(sigma > 1e-7 * sigma[0])))
    return max(1, count)


def singular(matrix: Array) -> tuple[Array, Array, Array]:
    """u, σ, vᵀ in float64 through the smaller side's Gram matrix: many times quicker than a full SVD of a wide layer."""
    if matrix.shape[0] > matrix.shape[1]:
        v, sigma, ut = singular(matrix.T)
        return ut.T, sigma, v.T
    squares, u = np.linalg.eigh(matrix @ matrix.T)
    order = np.argsort(squares)[::-1]
    sigma, u = np.sqrt(np.clip(squares[order], 0, None)), u[:, order]
    return u, sigma, (u.T @ matrix) / np.maximum(sigma, 1e-300)[:, None]
