"""How long a training is, computed in one place: the page, the forecast and the engine ask here."""

from __future__ import annotations

import math
from typing import Any

from trainer.config.load import Tree
from trainer.config.options import option
from trainer.config.train import TrainConfig


def epoch_images(config: TrainConfig, repeats: list[int]) -> int:
    """How many images one epoch shows. `repeats` holds the repeats of every training image (0 counts as 1); a slider without
    a set of its own shows its generated images."""
    return config.slider.generated_images if draws(config) else sum(max(1, count) for count in repeats)


def total_steps(config: TrainConfig, images: int) -> int:
    """The optimizer steps of a training: `run.steps`, or as many as its epochs of `images` images take. A step sees
    batch size × gradient accumulation images; the last one may be smaller."""
    return config.run.steps or math.ceil(images * config.run.epochs / step_images(config))


def epochs(config: TrainConfig, images: int) -> float:
    """How often each of `images` images is seen until the last step."""
    return total_steps(config, images) * step_images(config) / images if config.run.steps and images else config.run.epochs


def step_images(config: TrainConfig) -> int:
    """The effective batch size: how many images one optimizer step sees."""
    return config.run.batch_size * config.run.gradient_accumulation


def is_slider(settings: TrainConfig | Tree) -> bool:
    """Whether a training makes a slider."""
    return setting(settings, "run.kind") == "slider"


def draws(settings: TrainConfig | Tree) -> bool:
    """Whether a training generates the images it is trained on and needs none of one's own."""
    return is_slider(settings) and bool(setting(settings, "slider.generated_images"))


def setting(settings: TrainConfig | Tree, name: str) -> Any:
    """The value of the option `name`, in a tree that does not hold it its default."""
    section, _, field = name.partition(".")
    if isinstance(settings, TrainConfig):
        return getattr(getattr(settings, section), field)
    return settings.get(section, {}).get(field, option(name).default)
