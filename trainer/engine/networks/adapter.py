"""Puts the layers that learn into a frozen base, and reads them out in the terms of the LoRA file. Called by the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.adapters.embedding import Embedding
from trainer.adapters.reading import Reading
from trainer.adapters.targets import choose, fitting
from trainer.adapters.weights import normalise
from trainer.bases.families import ModelComponents
from trainer.config.lines import read_factor
from trainer.config.train import TrainConfig
from trainer.core.problem import Problem
from trainer.engine.networks.continuing import Continuation, ContinuedLayers
from trainer.engine.networks.types import ADAPTER_TYPES
from trainer.engine.text import embeddings
from trainer.formats import architectures
from trainer.formats.architectures import Modules, TextEncoder, UNet
from trainer.formats.detect import FAMILY_NAMES
from trainer.formats.layers import Layer
from trainer.formats.names import bare
from trainer.images.set.examples import derive_seed

ADAPTER_NAMES = (".lora_", ".hada_", ".lokr_", ".oft_", ".ia3_", ".glora_", ".full_")


class Adapter:
    """The trainable layers of a run, by part and module name of the base."""

    def __init__(self, parts: ModelComponents, config: TrainConfig, continue_from: Path | None = None) -> None:
        """Wrap the chosen layers, doing nothing yet, or what the file `start_from` does. Problem where none is left."""
        self.parts, self.config, self.adapter_type = parts, config.lora, ADAPTER_TYPES[config.lora.type]
        self.layers: dict[tuple[str, str], Any] = {}
        self.has_dropout = bool(config.lora.dropout or config.lora.rank_dropout or config.lora.module_dropout)
        self.continued = ContinuedLayers(0, 0)
        """What became of `start_from`."""
        self.reading: Reading | None = None
        """How much of `start_from` is understood."""
        self.untrained_layers: tuple[str, ...] = ()
        """The layers of `start_from` that are not trained here, or whose bias is not."""
        self.token_embedding = None
        """The trigger's own token vectors, where they are learnt too; none without a trigger, unless nothing else learns."""
        if config.lora.embedding_tokens and (
            config.captions.trigger.strip() or not (config.lora.train_unet or config.lora.train_text_encoder)
        ):
            self.token_embedding = embeddings.begin(
                parts, config.captions.trigger, config.lora.embedding_tokens, config.lora.embedding_init
            )
            parts.token_embeddings = embeddings.TokenEmbeddings([self.token_embedding])
        layers = layers_of(parts)
        ranks = choose(layers, config.lora)
        self.lr_scales = _lr_scales([f"{part}.{module}" for part, module in layers], config.optimizer.block_lrs)
        if not ranks and self.token_embedding is None:
            raise Problem("no_layers", field="lora.include", only=config.lora.include or "–", skip=config.lora.exclude or "–")
        if config.lora.loraplus_ratio != 1 and config.optimizer.single_lr:
            raise Problem("ratio_with_prodigy", field="lora.loraplus_ratio")
        for part in dict.fromkeys(part for part, _ in ranks):
            model = parts.module(part)
            torch.manual_seed(derive_seed(config.run.seed, "init", part) % 2**63)
            names = {name if part == "unet" else bare(name): name for name, _ in model.named_modules()}
            ranks_of_part = {names[module]: rank for (p, module), rank in ranks.items() if p == part}
            self.layers |= {
                (part, name): layer for name, layer in self.adapter_type.inject(model, ranks_of_part, config.lora).items()
            }
        for parameter in self.parameters():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        if continue_from is not None:
            self._continue_from(continue_from)

    # --- learning ---------------------------------------------------------------------------------------------

    def before_step(self, step: int, total: int, seed: int) -> None:
        """Before each step: whether the text encoders still learn, and this step's chance for dropout."""
        first, second = self.config.text_encoder_stop_at, self.config.text_encoder_2_stop_at
        stop_at = {"text_encoder": first, "text_encoder_2": first if second is None else second}
        for (part, _), layer in self.layers.items():
            if stop_at.get(part, 1) < 1:
                for parameter in self.adapter_type.trainable(layer).values():
                    parameter.requires_grad_(step < round(stop_at[part] * total))
        if self.has_dropout:
            torch.manual_seed(derive_seed(seed, "dropout", step) % 2**63)
            for layer in self.layers.values():
                layer.train()

    @torch.no_grad()
    def after_step(self) -> None:
        """After each step: no more dropout, so that what is drawn and judged is steady; and every layer whose ‖s·ΔW‖ is
        over `lora.scale_weight_norms` shrunk to it, evenly over its factors. No host sync."""
        max_norm = self.config.scale_weight_norms
        for layer in self.layers.values() if self.has_dropout else ():
            layer.eval()
        for layer in self.layers.values() if max_norm else ():
            factors = [p for name, p in self.adapter_type.trainable(layer).items() if name != "dora"]
            exported = self.adapter_type.export(layer)
            change = Layer({k: v for k, v in exported.tensors.items() if k != "dora"}, exported.alpha).delta()
            shrink = (max_norm / change.norm().clamp(min=1e-12)).clamp(max=1.0) ** (1 / len(factors))
            for factor in factors:
                factor.mul_(shrink)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser: by part and `ratio`, how many times the part's rate they learn at, which is
        the block's own factor and with LoRA+ (Hayou et al. 2024), for up factors, another. What learns at the rate of the
        part comes last.
        """
        groups = []
        for part in dict.fromkeys(part for part, _ in self.layers):
            by_ratio: dict[float, list[torch.nn.Parameter]] = {}
            for (p, name), layer in self.layers.items():
                if p == part:
                    lr_scale = self._lr_scale(part, name)
                    for name_in_file, tensor in self.adapter_type.trainable(layer).items():
                        by_ratio.setdefault(
                            lr_scale * (self.config.loraplus_ratio if name_in_file == "up" else 1.0), []
                        ).append(tensor)
            in_order = sorted(by_ratio, key=lambda ratio: ratio == 1.0)
            groups += [{"name": part, "params": by_ratio[ratio], "ratio": ratio} for ratio in in_order]
        if self.token_embedding is not None:
            groups.append({"name": "embedding", "params": list(self.token_embedding.vectors.values()), "ratio": 1.0})
        return groups

    def _lr_scale(self, part: str, name: str) -> float:
        """The factor of `optimizer.block_lrs` for a layer by the name it has in the model."""
        return self.lr_scales.get(f"{part}.{name if part == 'unet' else bare(name)}", 1.0)

    def parameters(self) -> list[torch.nn.Parameter]:
        """All trainable tensors."""
        vectors: list[Any] = list(self.token_embedding.vectors.values()) if self.token_embedding is not None else []
        return [weight for layer in self.layers.values() for weight in self.adapter_type.trainable(layer).values()] + vectors

    def trains(self, part: str) -> bool:
        """Whether `part` has trainable layers, or reads a word that learns."""
        return any(p == part for p, _ in self.layers) or (self.token_embedding is not None and part != "unet")

    # --- files ------------------------------------------------------------------------------------------------

    def export_layers(self) -> dict[tuple[str, str], Layer]:
        """{(part, module): Layer} in float32 on the CPU, as `adapters.file.write` takes it."""
        return {key: self.adapter_type.export(layer).moved(_numpy) for key, layer in self.layers.items()}

    def export_embedding(self) -> Embedding | None:
        """The trigger's own vectors as they are saved."""
        if self.token_embedding is None:
            return None
        return Embedding(self.token_embedding.name, {part: _numpy(rows) for part, rows in self.token_embedding.vectors.items()})

    def state(self) -> dict[str, torch.Tensor]:
        """The exact tensors by name, for checkpoints: what learns and what does not."""
        return {name: weight.detach().cpu().clone() for name, weight in self._tensors().items()}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Put `state` back. KeyError or ValueError where names or shapes differ: another rank or other targets."""
        mine = self._tensors()
        if mine.keys() != state.keys():
            raise KeyError("the checkpoint has other layers")
        for name, weight in mine.items():
            if weight.shape != state[name].shape:
                raise ValueError(f"{name}: the checkpoint has another rank")
            weight.data.copy_(state[name])

    @contextmanager
    def at_strength(self, sign: float) -> Iterator[None]:
        """As at strength `sign`, 1 or -1, inside the block: base + sign · what was learnt, as drawing from the file has it."""
        negated = list(self.layers.values()) if sign < 0 else []
        for layer in negated:
            self.adapter_type.negate(layer)
        try:
            yield
        finally:
            for layer in negated:
                self.adapter_type.negate(layer)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The bare base inside the block, whatever was learnt; afterwards the same tensors learn as before."""
        requires_grad = [parameter.requires_grad for parameter in self.parameters()]
        for layer in self.layers.values():
            self.adapter_type.set_enabled(layer, False)
        try:
            with embeddings.switched_off(self.parts):
                yield
        finally:
            for layer in self.layers.values():
                self.adapter_type.set_enabled(layer, True)
            for parameter, required in zip(self.parameters(), requires_grad, strict=True):
                parameter.requires_grad_(required)

    def _tensors(self) -> dict[str, torch.Tensor]:
        vectors = self.token_embedding.vectors if self.token_embedding is not None else {}
        return {
            f"{part}|{name}|{side}": weight
            for (part, name), layer in self.layers.items()
            for side, weight in (self.adapter_type.trainable(layer) | self.adapter_type.buffers(layer)).items()
        } | {f"embedding|{part}": rows for part, rows in vectors.items()}

    @torch.no_grad()
    def _continue_from(self, path: Path) -> None:
        """Begin where a file ends. What it lacks begins at nothing (further vectors of the trigger as new ones do);
        what is not trained here is left behind, counted in `taken` and named in `left`. Problem where less than half of
        the file is known, unless `lora.partial` allows it."""
        source = normalise(path, partial=self.config.partial, field="lora.continue_from")
        if source.family != self.parts.family.name:
            raise Problem(
                "lora_other_family",
                field="lora.continue_from",
                name=path.stem,
                theirs=FAMILY_NAMES[source.family],
                ours=self.parts.facts.title,
            )
        self.continued = Continuation(path, self.adapter_type, self.config).fill(self.layers, source)
        trained = {(part, name if part == "unet" else bare(name)) for part, name in self.layers}
        self.reading = source.reading
        self.untrained_layers = tuple(
            ".".join(place) for place, layer in source.modules.items() if place not in trained or layer.bias is not None
        )
        own = self.token_embedding
        for embedding in embeddings.of_files(self.parts, [path]):
            if own is not None and embedding.name == own.name:  # a trigger learnt there goes on, too
                for name, vectors in own.vectors.items():
                    rows = embedding.vectors[name][: len(vectors)]
                    vectors[: len(rows)] = rows


def layers_of(parts: ModelComponents) -> Modules:
    """Every layer of a loaded base an adapter can sit on, by the names of LoRA files."""
    encoders = {part: TextEncoder.from_config(model.config.to_dict()) for part, model in parts.text_encoders.items()}
    return architectures.modules(UNet.from_config(parts.unet.config), encoders)


def _lr_scales(names: list[str], lines: tuple[str, ...]) -> dict[str, float]:
    """{layer's name: factor} by the lines of `optimizer.block_lrs`. Problem where a line fits no layer of the base."""
    factors = dict(read_factor(line) for line in lines)
    for block in factors:
        if not any(fitting(name, [block]) for name in names):
            raise Problem("block_unknown", field="optimizer.block_lrs", block=block)
    blocks = {name: fitting(name, factors) for name in names}
    return {name: factors[block] for name, block in blocks.items() if block is not None}


def _numpy(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().cpu().float().numpy().copy()


def base_hash(parts: ModelComponents) -> str:
    """SHA-256 over the base's weights by name, wrapped for training or not: equal before and after a run."""
    import hashlib

    digest = hashlib.sha256()
    for part in ("unet", *parts.family.text_parts):
        for name, weight in sorted(parts.module(part).state_dict().items()):
            if any(mark in name for mark in ADAPTER_NAMES):
                continue
            digest.update(f"{part}.{name.replace('.base_layer', '')}".encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
