"""What a training lacks before it can start: judged in one place for the page, the queue and the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.config.plan import is_slider
from trainer.config.sections.slider import NEEDED
from trainer.core.problem import Problem

if TYPE_CHECKING:
    from trainer.config.train import TrainConfig


def check_slider(config: TrainConfig) -> None:
    """Problem where a slider lacks its words, or is asked for something that is defined by captions or by a word of its own."""
    if not is_slider(config):
        return
    for field in NEEDED:
        if not getattr(config.slider, field.partition(".")[2]).strip():
            raise Problem("slider_words", field=field)
    if config.slider.positive.strip() == config.slider.negative.strip():
        raise Problem("slider_same", field="slider.negative")
    captions, kept, judged = config.captions, config.preservation, config.validation
    for field, asked in (
        ("captions.trigger", captions.trigger.strip()), ("lora.embedding_tokens", config.lora.embedding_tokens),
        ("preservation.base_prior", kept.base_prior), ("preservation.regularization_folder", kept.regularization_folder),
        ("validation.split", judged.split), ("validation.images", judged.images),
    ):  # fmt: skip
        if asked:
            raise Problem("not_for_slider", field=field)
