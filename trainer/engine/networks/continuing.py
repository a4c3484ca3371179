"""Going on from a LoRA file: what it holds goes into the layers that learn, so that the training begins exactly where the
file ends, or a Problem says what to set. Called by adapter.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

from trainer.adapters.weights import LoraWeights
from trainer.config.sections.lora import Lora
from trainer.core.problem import Problem
from trainer.engine.networks.types import NAME, AdapterType
from trainer.formats import layers, multiplied
from trainer.formats.layers import Layer
from trainer.formats.names import bare

PAIRS = {
    "up": "down", "hada_w1_a": "hada_w1_b", "hada_w2_a": "hada_w2_b", "lokr_w1_a": "lokr_w1_b", "lokr_w2_a": "lokr_w2_b",
    "glora_a1": "glora_a2", "glora_b1": "glora_b2",
}  # fmt: skip
"""Factors whose product matters, [n, r] and [r, m]: a wider rank than the file's is filled up with nothing."""
SCALED = ("up", "hada_w1_a", "lokr_w1", "lokr_w1_a", "glora_a1", "glora_b1")
"""The factors that take up how much the file's scale differs from the training's."""
MOST = 512
"""The largest rank that can be set."""


class Pair(NamedTuple):
    """A layer that learns, and what the file holds for it."""

    key: tuple[str, str]
    """Part and module, by the names of LoRA files."""
    layer: Any
    source: Layer

    @property
    def place(self) -> str:
        return ".".join(self.key)

    @property
    def shape(self) -> tuple[int, ...]:
        """The base's weight's."""
        return tuple(self.layer.base_layer.weight.shape)


class ContinuedLayers(NamedTuple):
    """What became of a file."""

    left: int
    """How many of its layers and biases are not trained here."""
    shaped: int
    """How many layers have the file's own factors or blocks, other than the options ask for."""


class Continuation:
    """From one file, at the options of one training."""

    def __init__(self, path: Path, adapter_type: AdapterType, lora: Lora) -> None:
        self.path, self.adapter_type, self.lora = path, adapter_type, lora

    @torch.no_grad()
    def fill(self, trained: Mapping[tuple[str, str], Any], theirs: LoraWeights) -> ContinuedLayers:
        """Fill the layers that learn. What the file lacks begins at nothing. Problem where the training cannot begin exactly
        where the file ends."""
        pairs: list[Pair] = []
        left = len(theirs.modules)
        for (part, name), layer in trained.items():
            key = (part, name if part == "unet" else bare(name))
            source = theirs.modules.get(key)
            if source is not None and not source.bias_alone:
                pairs.append(Pair(key, layer, source.moved(torch.from_numpy)))
                left -= 1 if source.bias is None else 0  # a bias does not learn here
        if not pairs:
            self._refuse("lora_no_match")
        for pair in pairs:
            self._check(pair)
        if self.adapter_type.file_kind == "oft":
            pairs = [Pair(key, layer, unbounded(source)) for key, layer, source in pairs]
        adopted = [pair for pair in pairs if self._other_shape(pair)]
        filled = [pair for pair in pairs if pair not in adopted]
        self._check_ranks(filled)
        for pair in adopted:
            self._adopt(pair)
        for pair in filled:
            self._fill(pair)
        return ContinuedLayers(left, len(adopted))

    def _refuse(self, code: str, **params: Any) -> NoReturn:
        raise Problem(code, field="lora.continue_from", name=self.path.stem, **params)

    # --- whether it can be exact ---------------------------------------------------------------------------------

    def _check(self, pair: Pair) -> None:
        theirs = kind_of(pair.source)
        if theirs != self.adapter_type.file_kind:
            self._refuse("start_kind", theirs=theirs, ours=self.lora.type)
        if not pair.source.fits(pair.shape):
            self._refuse("start_size", layer=pair.place, ours=f"{pair.shape[0]} x {prod(pair.shape[1:])}")
        if theirs == "dora" and len(pair.source.tensors["dora"]) != 1:
            self._refuse("start_dora_rows")
        if theirs == "ia3" and bool(pair.source.tensors["ia3_in"].reshape(-1)[0]):
            self._refuse("start_ia3_input", layer=pair.place)

    def _other_shape(self, pair: Pair) -> bool:
        """Whether a LoKr is split elsewhere than ours or keeps more than ours can, or an OFT's blocks do not fit into ours."""
        mine = self.adapter_type.trainable(pair.layer)
        if self.adapter_type.file_kind == "lokr":
            return split_of(mine) != split_of(pair.source.tensors) or any(self._ranks(pair))
        if self.adapter_type.file_kind == "oft":
            return mine["oft_blocks"].shape[-1] % pair.source.tensors["oft_blocks"].shape[-1] != 0
        return False

    def _check_ranks(self, pairs: list[Pair]) -> None:
        """Every product of two factors has room in ours."""
        needed = max(((need, ours, pair.place) for pair in pairs for need, ours in self._ranks(pair)), default=(0, 0, ""))
        rank, ours, layer = needed
        if rank > MOST:
            self._refuse("start_too_large", layer=layer, theirs=rank, ours=MOST)
        if rank:
            self._refuse("start_rank", layer=layer, theirs=rank, ours=ours)

    def _ranks(self, pair: Pair) -> Iterable[tuple[int, int]]:
        """(the rank needed, ours) of each product that has no room."""
        mine = self.adapter_type.trainable(pair.layer)
        for left, right in PAIRS.items():
            if left in mine:
                n, r, m = len(mine[left]), len(mine[right]), mine[right][0].numel()
                need = min(rank_of(pair.source, left), n, m)
                if need > r:
                    yield need, r

    # --- filling -------------------------------------------------------------------------------------------------

    def _adopt(self, pair: Pair) -> None:
        """Exchange the tensors that learn for the file's own: what is made of them does not ask for their shapes."""
        layer, tensors = pair.layer, pair.source.tensors
        device = layer.base_layer.weight.device
        if self.adapter_type.file_kind == "oft":
            layer.oft_blocks = torch.nn.Parameter(tensors["oft_blocks"].float().to(device))
            return
        scale = pair.source.scale / scale_of(layer)
        for name in layer.adapter_layer_names:
            parameters = getattr(layer, name)
            if NAME in parameters:
                del parameters[NAME]
            if name in tensors:
                tensor = tensors[name].float() * (scale if name in SCALED else 1.0)
                parameters[NAME] = torch.nn.Parameter((tensor.flatten(1) if name.endswith("_b") else tensor).to(device))

    def _fill(self, pair: Pair) -> None:
        mine, source = self.adapter_type.trainable(pair.layer), pair.source
        own_scale = scale_of(pair.layer)
        for name, tensor in mine.items():
            if name in PAIRS.values():
                continue
            scale = source.scale / own_scale if name in SCALED else 1.0
            if name in PAIRS:
                fill_pair(tensor, mine[PAIRS[name]], source, name, scale)
            elif name == "oft_blocks":
                fill_blocks(tensor, source.tensors[name])
            elif name.startswith("lokr_"):
                tensor.copy_(scale * layers.factor(source.tensors, name, core_of(name)).reshape(tensor.shape))
            else:
                tensor.copy_(scale * source.tensors[name].reshape(tensor.shape))


def scale_of(layer: Any) -> float:
    """What a layer that learns multiplies its product by."""
    scaling: Any = getattr(layer, "scaling", 1.0)
    return scaling if isinstance(scaling, float) else scaling[NAME]  # PEFT's layers have one for each adapter


def kind_of(source: Layer) -> str:
    """The kind of a file's layer, with all that a training here could not go on with named beside it."""
    names = source.tensors.keys()
    if source.kind == "dora":
        inside = layers.kind(names - {"dora"})
        return "dora" if inside == "lora" else f"dora + {inside}"
    if source.kind == "oft":
        return ("oft" if source.tensors["oft_blocks"].ndim == 3 else "boft") + (" + rescale" if "rescale" in names else "")
    return source.kind


def unbounded(source: Layer) -> Layer:
    """An OFT without a constraint: half of Q as it is bounded gives the same Q."""
    blocks = source.tensors["oft_blocks"]
    return Layer({"oft_blocks": multiplied.generator(blocks, multiplied.bound(blocks, source.alpha)) / 2}, 0.0)


def split_of(tensors: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of a LoKr's first factor."""
    if "lokr_w1" in tensors:
        rows, columns = tensors["lokr_w1"].shape
        return rows, columns
    return tensors["lokr_w1_a"].shape[0], tensors["lokr_w1_b"].shape[1]


def core_of(name: str) -> str:
    """The core that may stand between the two factors of a LoHa's or LoKr's own factor."""
    return name.replace("_w", "_t").removesuffix("_a") if name.startswith(("hada_", "lokr_")) else ""


def rank_of(source: Layer, left: str) -> int:
    """How many ranks the product named by its left factor has in the file; a whole factor has as many as its smaller side."""
    t = source.tensors
    if left in t and core_of(left) not in t:
        return t[left].shape[1]
    product = layers.factor(t, left.removesuffix("_a"), core_of(left))
    return min(len(product), product[0].numel())


def fill_pair(left: torch.nn.Parameter, right: torch.nn.Parameter, source: Layer, name: str, scale: float) -> None:
    """left · right = scale · the file's product; ranks beyond it have nothing on the left. A product of more ranks than there
    are is written by its singular values, of which there is room for all."""
    t = source.tensors
    paired = name in t and core_of(name) not in t
    a, b = (t[name].flatten(1), t[PAIRS[name]].flatten(1)) if paired else (None, None)
    if a is None or b is None or a.shape[1] > len(right):
        product = a @ b if a is not None and b is not None else layers.factor(t, name.removesuffix("_a"), core_of(name))
        u, sigma, vt = torch.linalg.svd(product.reshape(len(left), -1).float(), full_matrices=False)
        root = sigma.sqrt()
        a, b = u * root, root[:, None] * vt
    left.zero_()
    left.flatten(1)[:, : a.shape[1]] = scale * a.to(left)
    right.flatten(1)[: len(b)] = b.to(right)


def fill_blocks(ours: torch.nn.Parameter, theirs: torch.Tensor) -> None:
    """Smaller blocks of the file along the diagonal of ours."""
    side = theirs.shape[-1]
    many = ours.shape[-1] // side
    ours.zero_()
    for index in range(many):
        at = slice(index * side, (index + 1) * side)
        ours[:, at, at] = theirs[index::many].to(ours)
