"""The options of a slider: a LoRA whose strength moves one quality up and down. Part of the tree in train.py."""

from __future__ import annotations

from pydantic import Field

from trainer.core.schema import Section

NEEDED = ("slider.target", "slider.positive", "slider.negative")
"""The options without which there is no slider."""


class Slider(Section):
    """The prompts that take the place of captions (Concept Sliders, Gandikota et al. 2023)."""

    target: str = Field(default="", max_length=500)
    """The target concept the slider acts on, in words the base knows: `a fox`, `a person`. The slider works best on it; the
    more general the words, the more it affects."""
    positive: str = Field(default="", max_length=500)
    """The target with the quality at its strongest: `a huge fox`. Strengths from 1 upwards lead there."""
    negative: str = Field(default="", max_length=500)
    """The target with the opposite quality: `a tiny fox`. Strengths below 0 lead there."""
    preserve: tuple[str, ...] = ()
    """Attributes that must not change along with it, one per line: `male` and `female` for an age slider. Each is appended
    to all three prompts after a comma, in turn, so that the slider acts alike on all of them."""
    guidance: float = Field(default=3.0, gt=0, le=30)
    """How far strength 1 goes, as a multiple of the difference the base itself predicts between the two ends. 2 to 4 is
    usual; more moves further and breaks images sooner."""
    generated_images: int = Field(default=16, ge=0, le=500)
    """How many images of the target the base generates at the start to train on; no images of your own are needed. More
    gives more variety and takes longer to begin. 0 uses the images of the set, whatever their captions say."""

    def ways(self) -> dict[str, tuple[str, str]]:
        """{target: (positive, negative)}, once for each attribute that is kept, or once as they are."""

        def joined(prompt: str, attribute: str) -> str:
            return f"{prompt.strip()}, {attribute.strip()}" if attribute.strip() else prompt.strip()

        return {
            joined(self.target, attribute): (joined(self.positive, attribute), joined(self.negative, attribute))
            for attribute in self.preserve or ("",)
        }
