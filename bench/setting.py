"""What both sides of a training case share: the base, the pictures' latents, the options, and each step's chance."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.cases import Case
from trainer.bases import catalog
from trainer.bases.families import ModelComponents, base, family, loading
from trainer.config import load
from trainer.config.train import TrainConfig
from trainer.core.home import PROJECT, Home
from trainer.engine.data import batches as data
from trainer.engine.data.latents import LatentCache, Posterior
from trainer.engine.objective.noise import draw_noise
from trainer.engine.setup import TrainingData
from trainer.engine.speed import offload
from trainer.images.captions.captions import training_caption
from trainer.images.set.examples import View, derive_seed

STEPS = 1000
"""The length the runs pretend to have."""
SET = PROJECT / "datasets" / "example-style"
ASSETS = Path(base.__file__).parent / "assets"


def config_of(case: Case) -> TrainConfig:
    """The style preset, as a person would start it, at the case's size."""
    facts = catalog.find(Home(PROJECT), "mini")
    memory = {
        "base_dtype": case.dtype,
        "gradient_checkpointing": case.checkpointing,
        "quantize_base": case.precision,
        "offload_fraction": case.offload,
        "cuda_graphs": "off" if case.kind == "rung" else "auto",
    }
    return load.build(
        load.preset("style", facts),
        {"images": {"folder": str(SET), "resolution": case.resolution}},
        {
            "memory": memory,
            "lora": {"train_text_encoder": case.text_encoder},
            "captions": {"trigger": "stylex"},
            "run": {"batch_size": case.batch, "device": case.device, "steps": STEPS},
        },
    )


def load_parts(case: Case) -> ModelComponents:
    """The embedded base from disk, or the real size of a family with random weights that keep signals in bounds."""
    device, dtype = torch.device(case.device), {"fp32": torch.float32, "bf16": torch.bfloat16}[case.dtype]
    facts = catalog.find(Home(PROJECT), "mini")
    if not case.large:
        parts = loading.load(family("sd1"), facts, device, dtype)
        return parts if case.base == "mini" else _tiny(parts)
    first = offload.MAIN if case.precision != "full" or case.offload else device  # as the recipe loads it
    parts = _random(case.base, replace(facts, id=f"{case.base}-random", family=case.base), first, dtype)
    return replace(parts, device=device)


def _tiny(parts: ModelComponents) -> ModelComponents:
    """The embedded base with a UNet so small that a step is mostly what is around the arithmetic."""
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        norm_num_groups=8,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=parts.unet.config.cross_attention_dim,
        in_channels=parts.unet.config.in_channels,
        out_channels=parts.unet.config.out_channels,
    )
    return replace(parts, unet=unet.requires_grad_(False).eval().to(parts.device, parts.dtype))


def _random(name: str, facts: Any, device: torch.device, dtype: torch.dtype) -> ModelComponents:
    folder, known = ASSETS / name, family(name)
    torch.manual_seed(0)
    made: dict[str, Any] = {}
    for part, value in json.loads((folder / "model_index.json").read_text("utf-8")).items():
        if part in ("unet", "vae", *known.text_parts, "scheduler"):
            library, kind = value
            made[part] = _made(folder / part, getattr(importlib.import_module(library), kind))
    for part, model in made.items():
        if part != "scheduler":
            model.requires_grad_(False).eval().to(device, torch.float32 if part == "vae" else dtype)
    tokenizer = loading.load(family("sd1"), catalog.find(Home(PROJECT), "mini"), torch.device("cpu"), torch.float32).tokenizers
    words = {part: next(iter(tokenizer.values())) for part in known.text_parts}
    texts = {part: made[part] for part in known.text_parts}
    return ModelComponents(known, facts, made["unet"], texts, words, made["vae"], made["scheduler"], device, dtype)


def _made(folder: Path, kind: Any) -> Any:
    """A model of `kind` by its config alone."""
    config = json.loads(next(folder.glob("*config.json")).read_text("utf-8"))
    if hasattr(kind, "config_class"):
        return kind(kind.config_class(**config))
    return kind.from_config(config)


class ReadyLatents(LatentCache):
    """Posteriors as a cache would give them, without the VAE: preparing has a case of its own."""

    def __init__(self, parts: ModelComponents) -> None:
        self.parts, self.keep, self.memory = parts, True, {}
        self.scaling, self.shift = float(parts.vae.config.scaling_factor), 0.0

    def posterior(self, look: View) -> Posterior:
        key = f"{look.item.picture.id}|{look.flipped}"
        if key not in self.memory:
            generator = torch.Generator().manual_seed(derive_seed(key))
            width, height = (side // 8 for side in look.item.bucket)
            shape = (self.parts.vae.config.latent_channels, height, width)
            self.memory[key] = Posterior(torch.randn(shape, generator=generator) / self.scaling, torch.full(shape, 0.01))
        return self.memory[key]


def training_data(config: TrainConfig, parts: ModelComponents) -> TrainingData:
    """The example set with latents that need no VAE."""
    return TrainingData(config, data.load_examples(config, config.images.resolution or 0), [], ReadyLatents(parts))


def batches(case: Case, config: TrainConfig) -> Iterator[list[View]]:
    """The run's own order of views."""
    examples = data.load_examples(config, case.resolution)
    return data.BucketBatchSampler(examples, case.batch, config.run.seed, config.images.flip_augment).batches()


def drawn(config: TrainConfig, latents: LatentCache, step: int, looks: list[View]) -> tuple[Any, ...]:
    """What the engine draws for this step: latents, noise, timesteps and captions, so that both sides see the same."""
    generator = torch.Generator().manual_seed(derive_seed(config.run.seed, "noise", step, 0))
    x0 = latents.sample(looks, generator)
    noise = draw_noise(x0.shape, generator, config.noise.offset)
    t = torch.randint(0, 1000, (len(looks),), generator=generator)
    rng = random.Random(derive_seed(config.run.seed, "caption", step, 0))
    return x0, noise, t, [training_caption(look.item.picture.caption, config.captions, rng) for look in looks]
