"""Puts trainable LoRA layers into a frozen base through PEFT, and reads them out in the terms of the LoRA file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from trainer.config.train import TrainConfig
from trainer.engine.data import chance
from trainer.families import Parts

NAME = "default"


class Adapter:
    """The trainable layers of a run, by part and module name of the base."""

    def __init__(self, parts: Parts, config: TrainConfig) -> None:
        """Inject: rank r, W + alpha/r · B·A, A Kaiming-uniform and B zero (Hu et al. 2021), in float32."""
        self.alpha = config.lora.alpha
        self.parts = parts
        self.layers: dict[tuple[str, str], LoraLayer] = {}
        wanted = parts.family.targets[config.lora.targets]
        chosen = [p for p in wanted if (config.lora.unet if p == "unet" else config.lora.text_encoder)]
        for part in chosen:
            model = parts.module(part)
            torch.manual_seed(chance(config.run.seed, "init", part) % 2**63)
            names = [
                name for name, module in model.named_modules()
                if isinstance(module, torch.nn.Linear) and name.endswith(wanted[part])
            ]
            peft = LoraConfig(r=config.lora.rank, lora_alpha=cast(int, config.lora.alpha), target_modules=names)
            inject_adapter_in_model(peft, model, adapter_name=NAME)
            for name, module in model.named_modules():
                if isinstance(module, LoraLayer):
                    self.layers[part, name] = module
        for parameter in self.parameters():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser: one a part, in the order of injection."""
        parts = dict.fromkeys(part for part, _ in self.layers)
        return [{"name": p, "params": [w for (q, _), layer in self.layers.items() if q == p for w in _pair(layer)]}
                for p in parts]

    def parameters(self) -> list[torch.nn.Parameter]:
        """All trainable tensors."""
        return [weight for layer in self.layers.values() for weight in _pair(layer)]

    def trains(self, part: str) -> bool:
        """Whether `part` has trainable layers."""
        return any(p == part for p, _ in self.layers)

    def factors(self) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray, float]]:
        """{(part, module): (down, up, alpha)} float32, as `adapters.file.write` takes it."""
        return {
            key: (_numpy(down), _numpy(up), self.alpha)
            for key, (down, up) in ((key, _pair(layer)) for key, layer in self.layers.items())
        }

    def state(self) -> dict[str, torch.Tensor]:
        """The exact tensors by name, for checkpoints."""
        return {f"{part}|{name}|{side}": weight.detach().cpu().clone()
                for (part, name), layer in self.layers.items()
                for side, weight in zip("AB", _pair(layer), strict=True)}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Put `state` back. KeyError or ValueError where names or shapes differ: another rank or other targets."""
        mine = {f"{part}|{name}|{side}": weight for (part, name), layer in self.layers.items()
                for side, weight in zip("AB", _pair(layer), strict=True)}
        if mine.keys() != state.keys():
            raise KeyError("the checkpoint has other layers")
        for name, weight in mine.items():
            if weight.shape != state[name].shape:
                raise ValueError(f"{name}: the checkpoint has another rank")
            weight.data.copy_(state[name])

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The bare base inside the block, whatever was learnt."""
        for layer in self.layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enable_adapters(True)
            for parameter in self.parameters():
                parameter.requires_grad_(True)


def _pair(layer: LoraLayer) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    return cast(torch.nn.Parameter, layer.lora_A[NAME].weight), cast(torch.nn.Parameter, layer.lora_B[NAME].weight)


def _numpy(weight: torch.nn.Parameter) -> np.ndarray:
    return weight.detach().cpu().float().numpy().copy()


def base_hash(parts: Parts) -> str:
    """SHA-256 over the base's weights by name, wrapped for training or not: equal before and after a run."""
    import hashlib

    digest = hashlib.sha256()
    for part in ("unet", *parts.family.text_parts):
        for name, weight in sorted(parts.module(part).state_dict().items()):
            if ".lora_" in name:
                continue
            digest.update(f"{part}.{name.replace('.base_layer', '')}".encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
