"""Adapter types (LoRA, LoHa, LoKr, …) behind one contract: how each is injected, what it trains, what the file holds of it.

PEFT's tuners do LoRA, rsLoRA, LoHa and LoKr; DoRA (dora.py), OFT and (IA)³ (oft_ia3.py), GLoRA
and full differences (glora_full.py) are our own. adapter.py uses
this and nothing else does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Protocol, cast

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer

from trainer.adapters.targets import LayerRank
from trainer.config.sections.lora import Lora
from trainer.engine.networks.dora import ColumnDora
from trainer.engine.networks.glora_full import FullDiffLayer, GloraLayer
from trainer.engine.networks.oft_ia3 import Ia3Layer, OftLayer
from trainer.formats.layers import Layer

NAME = "default"
Tensors = dict[str, torch.Tensor]
LayerRanks = Mapping[str, LayerRank]


class AdapterType(Protocol):
    """One kind of adapter."""

    file_kind: str
    """What `Layer.kind` calls the files it can go on from."""

    def inject(self, model: Any, ranks: LayerRanks, lora: Lora) -> dict[str, Any]:
        """Wrap the layers called in `ranks`; returns them by name, doing nothing yet, with float32 tensors."""
        ...

    def trainable(self, layer: Any) -> dict[str, torch.nn.Parameter]:
        """The tensors that learn, by their short names in a file (formats/layers.py)."""
        ...

    def buffers(self, layer: Any) -> Tensors:
        """Tensors that do not learn and are no part of the base."""
        ...

    def export(self, layer: Any) -> Layer:
        """What the file holds: alpha / r in it is what `forward` multiplies by."""
        ...

    def set_enabled(self, layer: Any, on: bool) -> None:
        """Whether the layer adds anything to the base."""
        ...

    def negate(self, layer: Any) -> None:
        """Turn the sign of what the layer adds, as at strength -1; once more, and it is as before."""
        ...


class Peft:
    """What PEFT's tuners have in common."""

    def trainable(self, layer: Any) -> dict[str, torch.nn.Parameter]:
        raise NotImplementedError

    def buffers(self, layer: Any) -> Tensors:
        return {}

    def set_enabled(self, layer: Any, on: bool) -> None:
        layer.enable_adapters(on)

    def negate(self, layer: Any) -> None:
        layer.scaling[NAME] = -layer.scaling[NAME]

    def _inject_with_peft(self, model: Any, config: Any) -> dict[str, Any]:
        inject_adapter_in_model(config, model, adapter_name=NAME)
        layers: dict[str, Any] = {}
        layers |= {key: module for key, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
        for layer in layers.values():
            layer.eval()
        return layers


class PeftLora(Peft):
    """W + s·B·A with s = alpha / r (Hu et al. 2021), or alpha / √r (rsLoRA, Kalajdzievski 2023)."""

    file_kind = "lora"

    def __init__(self, rank_stabilised: bool) -> None:
        self.rank_stabilised = rank_stabilised

    def inject(self, model: Any, ranks: LayerRanks, lora: Lora) -> dict[str, Any]:
        kwargs = _peft_kwargs(ranks)
        kwargs["lora_alpha"] = kwargs.pop("alpha")
        layers = self._inject_with_peft(model, LoraConfig(use_rslora=self.rank_stabilised, **kwargs))
        for name, layer in layers.items():
            if lora.init != "default":
                pissa_olora_init(layer, lora.init)
                subtract_initial(layer)
            if lora.dropout or lora.rank_dropout or lora.module_dropout:
                layer.lora_A[NAME].register_forward_hook(_dropout_hook(layer, dropout_between(lora, name)))
        return layers

    def trainable(self, layer: Any) -> dict[str, torch.nn.Parameter]:
        return {"down": layer.lora_A[NAME].weight, "up": layer.lora_B[NAME].weight}

    def buffers(self, layer: Any) -> Tensors:
        if not hasattr(layer, "lora_start"):
            return {}
        return {f"start_{side}": layer.lora_start[side].weight for side in ("down", "up")}

    def export(self, layer: Any) -> Layer:
        """rsLoRA's alpha times √r; with a start, [B, -B0]·[A; A0] at rank 2r with 2 alpha: the scale stays the same."""
        down, up = self.trainable(layer).values()
        kept = self.buffers(layer)
        if kept:
            down = torch.cat([down.detach(), kept["start_down"]])
            up = torch.cat([up.detach(), -kept["start_up"]], dim=1)
        return Layer({"down": down.detach(), "up": up.detach()}, layer.scaling[NAME] * down.shape[0])


class PeftLycoris(Peft):
    """LoHa, (A1·B1) ∘ (A2·B2) (Hyeon-Woo et al. 2022), and LoKr, W1 ⊗ W2 (Yeh et al. 2024)."""

    def __init__(self, kind: str) -> None:
        self.file_kind, self.start = kind, "hada_" if kind == "loha" else "lokr_"

    def inject(self, model: Any, ranks: LayerRanks, lora: Lora) -> dict[str, Any]:
        kwargs = _peft_kwargs(ranks)
        kwargs |= {"rank_dropout": lora.rank_dropout, "module_dropout": lora.module_dropout}
        if self.start == "hada_":
            return self._inject_with_peft(model, LoHaConfig(**kwargs))
        factor = lora.lokr_factor or -1
        return self._inject_with_peft(model, LoKrConfig(decompose_factor=factor, init_weights="lycoris", **kwargs))

    def trainable(self, layer: Any) -> dict[str, torch.nn.Parameter]:
        names = [name for name in layer.adapter_layer_names if name.startswith(self.start)]
        return {name: getattr(layer, name)[NAME] for name in names if NAME in getattr(layer, name)}

    def export(self, layer: Any) -> Layer:
        """A LoKr of two whole factors has no rank that programs could divide by: the scale goes into the first."""
        tensors: Tensors = {name: tensor.detach() for name, tensor in self.trainable(layer).items()}
        scale = layer.scaling[NAME]
        rank = Layer(tensors, 1.0).rank
        if rank is None:
            tensors["lokr_w1"] = tensors["lokr_w1"] * scale
        return Layer(tensors, scale * rank if rank else 1.0)


class CustomLayer:
    """Layers of our own around the base's, which say themselves what learns and what their file holds: DoRA (Liu et al.
    2024), OFT (Qiu et al. 2023), (IA)³ (Liu et al. 2022), GLoRA (Chavan et al. 2023) and full differences."""

    def __init__(self, file_kind: str, make: Callable[[Any, str, LayerRank, Lora], Any]) -> None:
        self.file_kind, self.make = file_kind, make

    def inject(self, model: Any, ranks: LayerRanks, lora: Lora) -> dict[str, Any]:
        layers: dict[str, Any] = {}
        for name, rank in ranks.items():
            parent, _, last = name.rpartition(".")
            layers[name] = self.make(model.get_submodule(name), name, rank, lora)
            setattr(model.get_submodule(parent), last, layers[name])
        return layers

    def trainable(self, layer: Any) -> dict[str, torch.nn.Parameter]:
        return layer.trainable()

    def buffers(self, layer: Any) -> Tensors:
        return {}

    def export(self, layer: Any) -> Layer:
        return layer.export()

    def set_enabled(self, layer: Any, on: bool) -> None:
        layer.enabled = on

    def negate(self, layer: Any) -> None:
        layer.sign = -layer.sign


def _dora(base: Any, name: str, rank: LayerRank, lora: Lora) -> ColumnDora:
    return ColumnDora(base, rank.rank, rank.alpha, dropout_between(lora, name))


def _oft(base: Any, name: str, rank: LayerRank, lora: Lora) -> OftLayer:
    return OftLayer(base, rank.rank, lora.rank_dropout, lora.module_dropout)


def _ia3(base: Any, name: str, rank: LayerRank, lora: Lora) -> Ia3Layer:
    return Ia3Layer(base, lora.rank_dropout, lora.module_dropout)


def _glora(base: Any, name: str, rank: LayerRank, lora: Lora) -> GloraLayer:
    return GloraLayer(base, rank.rank, rank.alpha, lora.rank_dropout, lora.module_dropout)


def _full(base: Any, name: str, rank: LayerRank, lora: Lora) -> FullDiffLayer:
    return FullDiffLayer(base, lora.rank_dropout, lora.module_dropout)


ADAPTER_TYPES: dict[str, AdapterType] = {
    "lora": PeftLora(False), "rslora": PeftLora(True), "dora": CustomLayer("dora", _dora), "loha": PeftLycoris("loha"),
    "lokr": PeftLycoris("lokr"), "oft": CustomLayer("oft", _oft), "ia3": CustomLayer("ia3", _ia3),
    "glora": CustomLayer("glora", _glora), "full": CustomLayer("full", _full),
}  # fmt: skip


def _peft_kwargs(ranks: LayerRanks) -> dict[str, Any]:
    """What all of PEFT's configurations take: the commonest rank and alpha, and the layers that differ."""
    common, _ = Counter(ranks.values()).most_common(1)[0]
    other = {name: rank for name, rank in ranks.items() if rank != common}
    return {
        "r": common.rank, "alpha": cast(int, common.alpha), "target_modules": list(ranks),
        "rank_pattern": {name: rank.rank for name, rank in other.items()},
        "alpha_pattern": {name: cast(int, rank.alpha) for name, rank in other.items()},
    }  # fmt: skip


def dropout_between(lora: Lora, name: str) -> Any:
    """What is left of the values between the two factors, [B, …, r] or [B, r, h, w]: `drop(hidden, learning)`.

    Values and ranks are made up for (1 / (1 - p)); a layer left out is left out, as others do it. Chance comes from
    torch's own generator, which `Adapter.before_step` sets at every step.
    """
    values, ranks, layers = lora.dropout, lora.rank_dropout, lora.module_dropout

    def drop(hidden: torch.Tensor, training: bool) -> torch.Tensor:
        if not training:
            return hidden
        if values:
            hidden = torch.nn.functional.dropout(hidden, values)
        if ranks:
            shape = [1] * hidden.ndim
            axis = 1 if hidden.ndim == 4 else hidden.ndim - 1
            shape[0], shape[axis] = hidden.shape[0], hidden.shape[axis]
            hidden = hidden * (torch.rand(shape, device=hidden.device) >= ranks) / (1 - ranks)
        if layers:
            hidden = hidden * (torch.rand((), device=hidden.device) >= layers)
        return hidden

    return drop


def _dropout_hook(layer: Any, drop: Any) -> Any:
    return lambda module, args, hidden: drop(hidden, layer.training)


@torch.no_grad()
def pissa_olora_init(layer: Any, init: str) -> None:
    """B0 and A0 from the base's weight W, into the factors that learn.

    PiSSA (Meng et al. 2024): s·B0·A0 = U·Σ·Vᵀ of the r largest singular values, shared evenly between the two.
    OLoRA (Büyükakyüz 2024): W = Q·R; B0 the first r columns of Q, A0 the first r rows of R.
    """
    weight = layer.get_base_layer().weight.detach().float().flatten(1)
    down, up, scale = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight, layer.scaling[NAME]
    r = down.shape[0]
    if init == "pissa":
        u, sigma, vt = torch.linalg.svd(weight, full_matrices=False)
        root = (sigma[:r] / scale).sqrt()
        b, a = u[:, :r] * root, root[:, None] * vt[:r]
    else:
        q, upper = torch.linalg.qr(weight)
        b, a = q[:, :r], upper[:r]
    down.data = a.reshape(down.shape).contiguous()
    up.data = b.reshape(up.shape).contiguous()


def subtract_initial(layer: Any) -> None:
    """Subtract the first factors, frozen, from whatever the layer gives: at first the sum is the base's own output."""
    sides = {"down": deepcopy(layer.lora_A[NAME]), "up": deepcopy(layer.lora_B[NAME])}
    layer.lora_start = torch.nn.ModuleDict(sides).float().requires_grad_(False)

    def subtract(module: Any, args: tuple[torch.Tensor, ...], result: torch.Tensor) -> torch.Tensor:
        if module.disable_adapters:
            return result
        x = args[0].to(module.lora_start["down"].weight.dtype)
        start = module.lora_start["up"](module.lora_start["down"](x))
        return (result - module.scaling[NAME] * start).to(result.dtype)

    layer.register_forward_hook(subtract)
