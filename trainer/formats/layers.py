"""One layer's adapter of any kind, and the change it makes to a weight. Used by the file, the preview and the tools.

The formulas use only what NumPy and torch arrays have in common, so that the same lines serve a file on a disk and a
base on a GPU. Names of tensors are kohya's and LyCORIS's, shortened: `down up mid dora diff diff_b hada_* lokr_*`, and those
of multiplied.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.formats import multiplied

SUFFIXES = {
    "down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "dora": "dora_scale",
    "ia3": "weight", "ia3_in": "on_input", "glora_a1": "a1.weight", "glora_a2": "a2.weight", "glora_b1": "b1.weight",
    "glora_b2": "b2.weight",
}  # fmt: skip
"""How a tensor's name ends in a kohya file, where it is not the same word."""
NORMS = {"diff": "w_norm", "diff_b": "b_norm"}
"""The same for a norm's full difference."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layer:
    """W + strength · ΔW, with ΔW from a few small tensors; alpha / rank scales it as in every program."""

    tensors: dict[str, Any]
    alpha: float

    @classmethod
    def lora(cls, down: Any, up: Any, alpha: float) -> Layer:
        """Plain factors: down [r, in] or [r, in, kh, kw], up [out, r] or [out, r, 1, 1]."""
        return cls({"down": down, "up": up}, alpha)

    @property
    def down(self) -> Any:
        """The factor `[rank, in, …]` that the input meets first. KeyError for kinds without one."""
        return self.tensors["down"]

    @property
    def up(self) -> Any:
        """The factor `[out, rank, …]` behind `down`. KeyError for kinds without one."""
        return self.tensors["up"]

    @property
    def kind(self) -> str:
        """lora, tucker, dora, loha, lokr, oft (BOFT as well), ia3, glora or full."""
        return kind(self.tensors)

    @property
    def rank(self) -> int | None:
        """What alpha is divided by; None where nothing divides it (a full difference, a LoKr of two whole factors)."""
        return rank(_shapes(self.tensors))

    @property
    def scale(self) -> float:
        """alpha / r. OFT's alpha is a constraint instead, and (IA)³ has none."""
        return self.alpha / self.rank if self.rank else 1.0

    @property
    def size(self) -> tuple[int, int] | None:
        """(rows, columns) of ΔW as a matrix; None where the tensors do not fit each other."""
        return size(_shapes(self.tensors))

    @property
    def is_complete(self) -> bool:
        """Whether the tensors fit each other."""
        if multiplied.kind(self.tensors):
            return multiplied.is_complete(_shapes(self.tensors))
        return self.bias_alone or self.size is not None

    @property
    def bias(self) -> Any:
        """What is added to the layer's bias at strength 1 (`diff_b`), whatever alpha is; None where nothing is."""
        return self.tensors.get("diff_b")

    @property
    def needs_weight(self) -> bool:
        """Whether ΔW depends on the base's weight: DoRA, OFT, (IA)³ and GLoRA."""
        return "dora" in self.tensors or multiplied.kind(self.tensors) is not None

    @property
    def bias_alone(self) -> bool:
        """Whether the weight stays as it is."""
        return self.tensors.keys() == {"diff_b"}

    @property
    def no_matrix(self) -> bool:
        """Whether it changes no matrix, but a norm or a bias alone."""
        return self.bias_alone or (self.kind == "full" and self.tensors["diff"].ndim == 1)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether ΔW has this weight's size. A 1x1 convolution and a linear layer take each other's adapters."""
        if multiplied.kind(self.tensors):
            return len(shape) > 1 and multiplied.fits(_shapes(self.tensors), shape)
        if self.bias_alone:
            return self.bias.reshape(-1).shape == shape[:1]
        return self.size == (shape[0], math.prod(shape[1:]))

    def moved(self, convert: Callable[[Any], Any]) -> Layer:
        """The same layer with every tensor passed through `convert` (to torch, to a device, to a number format)."""
        return Layer({name: convert(tensor) for name, tensor in self.tensors.items()}, self.alpha)

    def delta(self, weight: Any = None) -> Any:
        """ΔW at strength 1, in the weight's shape (without one, in the adapter's own). Some kinds need the base's weight.

        DoRA (Liu et al. 2024): W' = m · (W + ΔW) / ‖W + ΔW‖, the norm by input column where m is [1, in] (LyCORIS and all
        programs), by output row where m is [out, 1] (PEFT).
        """
        if weight is None and self.needs_weight:
            raise ValueError(f"{self.kind} is a change of a base's weight, which is needed here")
        if multiplied.kind(self.tensors):
            return multiplied.change(self.tensors, self.alpha, weight)
        change = product(self.tensors) * self.scale
        change = change.reshape(tuple(weight.shape) if weight is not None else self._shape())
        if "dora" not in self.tensors:
            return change
        return decomposed(weight + change, self.tensors["dora"]) - weight

    def _shape(self) -> tuple[int, ...]:
        if "diff" in self.tensors:
            return tuple(self.tensors["diff"].shape)
        rows, columns = self.size or (0, 0)
        if "down" in self.tensors and (self.down.ndim == 4 or "mid" in self.tensors):
            kernel = self.tensors.get("mid", self.down).shape[2:]
            return (rows, int(self.down.shape[1]), *map(int, kernel))
        return (rows, columns)


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def kind(names: Any) -> str:
    """The adapter's kind from the names of its tensors: lora, tucker, dora, loha, lokr, oft, ia3, glora or full."""
    if "dora" in names:
        return "dora"
    if adapter := multiplied.kind(names):
        return adapter
    for start, adapter in (("hada", "loha"), ("lokr", "lokr")):
        if any(name.startswith(start) for name in names):
            return adapter
    return "full" if "diff" in names or set(names) == {"diff_b"} else "tucker" if "mid" in names else "lora"


def rank(shapes: Shapes) -> int | None:
    """What alpha is divided by: as A1111, ComfyUI and LyCORIS find it."""
    for name in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in shapes:
            return shapes[name][0]
    return shapes["glora_a1"][1] if "glora_a1" in shapes else None


def size(shapes: Shapes) -> tuple[int, int] | None:
    """(rows, columns) of ΔW as a matrix from the shapes of its tensors; None where they do not fit each other."""
    try:
        matrix = _size(shapes)
    except (IndexError, KeyError):
        return None
    if matrix is None or any(0 in shape for shape in shapes.values()):
        return None
    rows, columns = matrix
    if math.prod(shapes.get("diff_b", (rows,))) != rows:
        return None
    magnitude = shapes.get("dora")
    if magnitude is not None:
        by_row = magnitude[:1] == (rows,) and math.prod(magnitude) == rows
        by_column = magnitude[:1] == (1,) and columns % math.prod(magnitude) == 0
        if not (by_row or by_column):
            return None
    return matrix


def _size(shapes: Shapes) -> tuple[int, int] | None:
    if "down" in shapes or "up" in shapes:
        down, up = shapes["down"], shapes["up"]
        r, mid = down[0], shapes.get("mid")
        flat = up[2:] in ((), (1, 1)) and len(down) in (2, 4)  # DyLoRA keeps one or both of a convolution's flat
        if not flat or len(up) < 2 or up[1] != (mid[0] if mid else r):
            return None
        if mid and (len(mid) != 4 or mid[1] != r or down[2:] not in ((), (1, 1))):
            return None
        return up[0], math.prod(down[1:]) * (math.prod(mid[2:]) if mid else 1)
    if "hada_w1_a" in shapes:
        one, two = (_pair(shapes, f"hada_w{i}_a", f"hada_w{i}_b", f"hada_t{i}") for i in (1, 2))
        return one if one == two else None
    if any(name.startswith("lokr_w1") for name in shapes):
        one, two = (_factor_size(shapes, i) for i in (1, 2))
        return (one[0] * two[0], one[1] * two[1]) if one and two else None
    diff = shapes["diff"]
    return diff[0], math.prod(diff[1:])


def _factor_size(shapes: Shapes, i: int) -> tuple[int, int] | None:
    weight = shapes.get(f"lokr_w{i}")
    return (weight[0], math.prod(weight[1:])) if weight else _pair(shapes, f"lokr_w{i}_a", f"lokr_w{i}_b", f"lokr_t{i}")


def _pair(shapes: Shapes, a: str, b: str, core: str) -> tuple[int, int] | None:
    left, right, t = shapes[a], shapes[b], shapes.get(core)
    if t is None:
        return (left[0], math.prod(right[1:])) if left[1] == right[0] else None
    fits = len(t) == 4 and len(left) == len(right) == 2 and (left[0], right[0]) == t[:2]
    return (left[1], right[1] * t[2] * t[3]) if fits else None


# --- formulas ---------------------------------------------------------------------------------------------------------


def product(t: Mapping[str, Any]) -> Any:
    """ΔW before alpha / r, as a matrix or in the weight's shape."""
    if "down" in t:  # LoRA (Hu et al. 2021): B·A; with a core in the middle, a Tucker product
        up, r = t["up"].reshape(t["up"].shape[0], -1), t["down"].shape[0]
        if "mid" in t:
            return tucker(t["mid"], up.swapaxes(0, 1), t["down"].reshape(r, -1))
        return up @ t["down"].reshape(r, -1)
    if "hada_w1_a" in t:  # LoHa (Hyeon-Woo et al. 2022): (A1·B1) ∘ (A2·B2)
        return factor(t, "hada_w1", "hada_t1") * factor(t, "hada_w2", "hada_t2")
    if any(name.startswith("lokr_w1") for name in t):  # LoKr (Yeh et al. 2024): W1 ⊗ W2
        return kronecker(factor(t, "lokr_w1", "lokr_t1"), factor(t, "lokr_w2", "lokr_t2"))
    return t["diff"]


def factor(t: Mapping[str, Any], name: str, core: str) -> Any:
    """One factor of a LoHa or LoKr, from its own two factors where it is split, and from `core` between them."""
    if name in t:
        return t[name]
    a, b = t[f"{name}_a"], t[f"{name}_b"]
    return tucker(t[core], a, b) if core in t else a @ b.reshape(b.shape[0], -1)


def tucker(core: Any, left: Any, right: Any) -> Any:
    """[out, in, kh, kw] from core [n, m, kh, kw], left [n, out] and right [m, in]."""
    n, m, *kernel = core.shape
    inner = right.swapaxes(0, 1) @ core.swapaxes(0, 1).reshape(m, -1)  # [in, n · kh · kw]
    inner = inner.reshape(-1, n, *kernel).swapaxes(0, 1)
    return (left.swapaxes(0, 1) @ inner.reshape(n, -1)).reshape(left.shape[1], -1, *kernel)


def kronecker(one: Any, two: Any) -> Any:
    """W1 ⊗ W2 as a matrix; behind the first two axes of W2 its kernel follows."""
    (a, b), c = one.shape, two.shape[0]
    return (one.reshape(a, 1, b, 1) * two.reshape(1, c, 1, -1)).reshape(a * c, -1)


def decomposed(weight: Any, magnitude: Any) -> Any:
    """m · V / ‖V‖ (DoRA, Liu et al. 2024) for V `weight` [out, in, …] and m by input column ([1, in, …]) or by output row
    ([out, 1, …])."""
    return weight * (magnitude.reshape(_along(weight, magnitude)) / norms(weight, magnitude))


def norms(weight: Any, magnitude: Any) -> Any:
    """‖V‖ in the magnitude's axis, ready to divide by."""
    by_row = magnitude.shape[0] == weight.shape[0] and magnitude.shape[0] != 1
    axes = tuple(axis for axis in range(weight.ndim) if axis != (0 if by_row else 1))
    return (weight * weight).sum(axis=axes, keepdims=True) ** 0.5


def _along(weight: Any, magnitude: Any) -> tuple[int, ...]:
    ones = [1] * weight.ndim
    by_row = magnitude.shape[0] == weight.shape[0] and magnitude.shape[0] != 1
    ones[0 if by_row else 1] = -1
    return tuple(ones)
