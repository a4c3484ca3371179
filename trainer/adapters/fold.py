"""Fuses LoRAs of any strength into a loaded base and takes them out again to the bit. Used by preview, samples and `sample`.

The delta (for plain LoRA (alpha / r) · up·down, layers.py has the others) is added to the layer's weight itself, and a bias's
own to the bias, so that drawing costs nothing beside the bare base.
The pristine weights stay where they are: a changed layer gets another tensor, and `unfuse` puts the first one back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.adapters.reading import listed
from trainer.adapters.weights import LoraWeights, normalise
from trainer.core.problem import Problem
from trainer.formats.detect import FAMILY_NAMES
from trainer.formats.layers import Layer
from trainer.formats.names import bare

if TYPE_CHECKING:
    from trainer.bases.families import ModelComponents


@dataclass(frozen=True)
class LoraStrength:
    """One LoRA at its own strengths."""

    path: Path
    unet: float = 1.0
    text_encoder: float = 1.0


class LoraFuser:
    """Fuses LoRA files into the layers of `components` (which may already be wrapped for training)."""

    def __init__(self, components: ModelComponents) -> None:
        self.components = components
        self._pristine: dict[tuple[str, str, str], tuple[Any, Any]] = {}
        self._read: dict[tuple[Path, int], LoraWeights] = {}
        self.unmatched: dict[Path, tuple[str, ...]] = {}
        """The layers of each file that had no effect when it was last fused, by its own or by diffusers' names."""

    def fuse(self, uses: Iterable[LoraStrength], scale: float = 1.0, partial: bool = False) -> list[tuple[Path, int, int]]:
        """Leave exactly `uses`, each times `scale`, in the base. Strength 0 leaves the pristine tensor itself.

        Returns (path, matched, total) by file; `unmatched` has what did not fit. Problem where a file fits no layer or
        belongs to another family, and where less than half of one is known or fits, unless `partial` allows it.
        """
        self.unfuse()
        matched = []
        changes: dict[tuple[str, str], list[tuple[Layer, float]]] = {}
        for use in uses:
            weights = self.weights(use.path)
            weights.reading.check(partial, "loras")
            fits, unfit = 0, []
            for (part, module), adapter in weights.modules.items():
                layer = self._layer(part, module)
                if layer is None or not adapter.fits(_weight_shape(layer)):
                    unfit.append(f"{part}.{module}")
                    continue
                fits += 1
                strength = scale * (use.unet if part == "unet" else use.text_encoder)
                if strength != 0:
                    changes.setdefault((part, module), []).append((adapter, strength))
            if not fits and weights.modules:
                raise Problem("lora_no_match", name=use.path.stem)
            total, self.unmatched[use.path] = weights.reading.total, (*weights.reading.unread, *unfit)
            if not partial and 2 * fits < total:
                raise Problem("lora_half_fits", field="loras", name=use.path.stem, read=fits, total=total, layers=listed(unfit))
            matched.append((use.path, fits, total))
        for (part, module), pieces in changes.items():
            layer = self._layer(part, module)
            quantized = _is_quantized(layer)
            device = self.components.device if quantized else layer.weight.device
            on_device = [(_on_device(adapter, device), strength) for adapter, strength in pieces]
            weights_on = [(adapter, strength) for adapter, strength in on_device if not adapter.bias_alone]
            if weights_on and quantized:  # in 8 or 4 bits a sum would be rounded away: made at each use
                self._pristine[part, module, "added"] = (layer, None)
                layer.added = functools.partial(_fused, pieces=weights_on)
            elif weights_on:
                self._put(part, module, "weight", _fused(layer.weight.detach(), weights_on))
            own = layer.bias
            biases = [a.bias.reshape(own.shape) * s for a, s in on_device if a.bias is not None and own is not None]
            if own is not None and biases:
                self._put(part, module, "bias", own.detach().float() + sum(biases[1:], biases[0]))
        return matched

    def unfuse(self) -> None:
        """Put the pristine tensors back, the very same objects."""
        for (_, _, name), (layer, pristine) in self._pristine.items():
            setattr(layer, name, pristine)
        self._pristine = {}

    def _put(self, part: str, module: str, name: str, tensor: Any) -> None:
        """Exchange the layer's weight or bias, keeping the pristine one."""
        import torch

        layer = self._layer(part, module)
        old = getattr(layer, name)
        self._pristine[part, module, name] = (layer, old)
        setattr(layer, name, torch.nn.Parameter(tensor.to(old.dtype), requires_grad=False))

    def weights(self, path: Path) -> LoraWeights:
        """The file's factors, kept until the file changes. Problem where it belongs to another family."""
        key = (path, path.stat().st_mtime_ns) if path.exists() else (path, 0)
        if key not in self._read:
            weights = normalise(path, embeddings=True, partial=True)
            if weights.family != self.components.family.name:
                theirs = FAMILY_NAMES[weights.family]
                raise Problem("lora_other_family", name=path.stem, theirs=theirs, ours=self.components.facts.title)
            self._read = {k: v for k, v in self._read.items() if k[0] != path}
            self._read[key] = weights
        return self._read[key]

    def _layer(self, part: str, module: str) -> Any:
        """The plain layer under a LoRA's module name: a training wrapper is looked through, `text_model.` may be missing."""
        if part != "unet" and part not in self.components.text_encoders:
            return None
        names = (module,) if part == "unet" else (bare(module), f"text_model.{bare(module)}")
        for name in names:
            try:
                layer = self.components.module(part).get_submodule(name)
            except AttributeError:
                continue
            return getattr(layer, "base_layer", layer)
        return None


def _is_quantized(layer: Any) -> bool:
    """Whether a layer's weight is kept in 8 or 4 bits (engine/speed/quantize.py), so that it is made anew at each use."""
    return getattr(layer, "is_quantized", False) is True


def _weight_shape(layer: Any) -> tuple[int, ...]:
    """[out, in, …], of a quantized layer without unpacking it."""
    return tuple(layer.packed.shape if _is_quantized(layer) else layer.weight.shape)


def _fused(weight: Any, pieces: list[tuple[Layer, float]]) -> Any:
    """W + Σ strength · ΔW, summed in float32, in the weight's own format."""
    weight32 = weight.float()
    deltas = [adapter.delta(weight32) * strength for adapter, strength in pieces]
    return (weight32 + sum(deltas[1:], deltas[0])).to(weight.dtype)


def _on_device(adapter: Layer, device: Any) -> Layer:
    """The adapter's tensors in float32 on `device`."""
    import torch

    return adapter.moved(lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device).float())
