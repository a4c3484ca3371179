"""Adapters that multiply the base's weight: OFT, BOFT, (IA)³ and GLoRA. Called by layers.py, and by what goes on from a file.

Each formula uses only what NumPy and torch arrays have in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
NAMES = {"oft_blocks": "oft", "ia3": "ia3", "glora_a1": "glora"}
"""The tensor by which a kind is known."""


def kind(names: Any) -> str | None:
    """oft (BOFT too, whose blocks have one axis more), ia3 or glora; None for all others."""
    return next((adapter for name, adapter in NAMES.items() if name in names), None)


def fits(shapes: Shapes, shape: tuple[int, ...]) -> bool:
    """Whether the tensors go with each other and with a weight [out, in, …]."""
    rows, columns, flat = shape[0], shape[1], math.prod(shape[1:])
    if "oft_blocks" in shapes:
        *_, number, side, _ = shapes["oft_blocks"]
        return is_complete(shapes) and number * side == rows and math.prod(shapes.get("rescale", (rows,))) == rows
    if "ia3" in shapes:
        return math.prod(shapes["ia3"]) in (rows, columns)
    a1, a2, b1, b2 = (_matrix(shapes[f"glora_{name}"]) for name in ("a1", "a2", "b1", "b2"))
    r = a1[1]
    return (a1, a2, b1, b2) == ((columns, r), (r, columns), (rows, r), (r, flat))


def is_complete(shapes: Shapes) -> bool:
    """Whether the tensors go with each other, without a weight to compare with."""
    if "oft_blocks" in shapes:
        blocks = shapes["oft_blocks"]
        square = len(blocks) in (3, 4) and blocks[-2] == blocks[-1] and 0 not in blocks
        if not square or len(blocks) == 3:
            return square
        stages, number, side, _ = blocks  # the last stage turns groups of 2^stages · side / 2 rows
        return side % 2 == 0 and number * 2 % 2**stages == 0
    if "ia3" in shapes:
        return "ia3_in" in shapes and math.prod(shapes["ia3"]) > 0 and math.prod(shapes["ia3_in"]) == 1
    names = [f"glora_{name}" for name in ("a1", "a2", "b1", "b2")]
    return all(name in shapes and len(shapes[name]) >= 2 and 0 not in shapes[name] for name in names)


def change(t: Mapping[str, Any], alpha: float, weight: Any) -> Any:
    """ΔW of a weight [out, in, …] at strength 1."""
    adapter = kind(t)
    return {"oft": _oft, "ia3": _ia3, "glora": _glora}[str(adapter)](t, alpha, weight) - weight


def generator(blocks: Any, bound: float) -> Any:
    """OFT's Q = B - Bᵀ, all of it shrunk where ‖Q‖ is over `bound` (0 bounds nothing)."""
    turn = blocks - blocks.swapaxes(-1, -2)
    size = float((turn * turn).sum()) ** 0.5 if bound > 0 else 0.0
    return turn * (bound / size) if size > bound else turn


def bound(blocks: Any, constraint: float) -> float:
    """How large ‖Q‖ may be: the file's constraint times the layer's rows, as LyCORIS, sd-scripts and A1111 have it."""
    return constraint * blocks.shape[-3] * blocks.shape[-2]


def _oft(t: Mapping[str, Any], constraint: float, weight: Any) -> Any:
    """OFT (Qiu et al. 2023): blocks of rows are turned by R = (I + Q)(I - Q)⁻¹, Q = B - Bᵀ, ‖Q‖ held below its bound.
    BOFT (Liu et al. 2024) turns them in several stages, each time other rows together."""
    blocks = t["oft_blocks"]
    turn = generator(blocks, bound(blocks, constraint))
    number, side = blocks.shape[-3:-1]
    one = turn * 0
    one[..., range(side), range(side)] = 1
    less = one - turn
    inverse = less.inverse() if hasattr(less, "inverse") else _inverse(less)
    turns = (one + turn) @ inverse
    if blocks.ndim == 3:
        turned = turns.swapaxes(1, 2) @ weight.reshape(number, side, -1)
    else:
        turned = weight
        for stage in range(blocks.shape[0]):
            turned = _butterfly(turns[stage], turned, 2**stage * side // 2)
    turned = turned.reshape(tuple(weight.shape))
    return turned * t["rescale"].reshape(-1, *[1] * (weight.ndim - 1)) if "rescale" in t else turned


def _butterfly(turns: Any, weight: Any, apart: int) -> Any:
    """One stage of BOFT: rows `apart` from each other become neighbours, are turned in blocks, and go back to their places."""
    number, side, _ = turns.shape
    mixed = weight.reshape(-1, 2, apart, math.prod(weight.shape[1:])).swapaxes(1, 2)
    turned = (turns @ mixed.reshape(number, side, -1)).reshape(tuple(mixed.shape))
    return turned.swapaxes(1, 2).reshape(tuple(weight.shape))


def _inverse(matrices: Any) -> Any:
    import numpy as np

    return np.linalg.inv(matrices)


def _ia3(t: Mapping[str, Any], alpha: float, weight: Any) -> Any:
    """(IA)³ (Liu et al. 2022): every output row, or where `on_input` every input column, times 1 + w."""
    ones = [1] * weight.ndim
    ones[1 if bool(t["ia3_in"].reshape(-1)[0]) else 0] = -1
    return weight * (1 + t["ia3"].reshape(ones))


def _glora(t: Mapping[str, Any], alpha: float, weight: Any) -> Any:
    """GLoRA (Chavan et al. 2023) as LyCORIS writes it: W + (W·A1·A2 + B1·B2) · alpha / r, on a convolution's channels."""
    a1, a2, b1, b2 = (t[f"glora_{name}"] for name in ("a1", "a2", "b1", "b2"))
    rows, columns, r = weight.shape[0], weight.shape[1], a1.shape[1]
    channels = weight.reshape(rows, columns, -1).swapaxes(1, 2)  # [out, kernel, in]
    across = (channels @ a1.reshape(columns, r) @ a2.reshape(r, columns)).swapaxes(1, 2).reshape(tuple(weight.shape))
    own = (b1.reshape(rows, r) @ b2.reshape(r, -1)).reshape(tuple(weight.shape))
    return weight + (across + own) * (alpha / r)


def old_order(shapes: Shapes) -> bool:
    """Whether a GLoRA's factors are named as in older files of LyCORIS: the two of each product the other way round. Of a
    square weight both could be meant; the smaller side is the rank."""
    a1, a2, b1, b2 = (_matrix(shapes[f"glora_{name}"]) for name in ("a1", "a2", "b1", "b2"))
    new, old = a1[1] == a2[0] == b1[1] == b2[0], a1[0] == a2[1] == b1[0] == b2[1]
    return old and (not new or a1[0] < a1[1])


def in_new_order(t: Mapping[str, Any]) -> dict[str, Any]:
    """GLoRA with A1 in front of A2, from its tensors or their shapes."""
    if not old_order({name: tuple(getattr(tensor, "shape", tensor)) for name, tensor in t.items()}):
        return dict(t)
    swapped = {"glora_a1": "glora_a2", "glora_a2": "glora_a1", "glora_b1": "glora_b2", "glora_b2": "glora_b1"}
    return {swapped.get(name, name): tensor for name, tensor in t.items()}


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])
