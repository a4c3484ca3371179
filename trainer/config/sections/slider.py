"""The options of a slider: a LoRA whose strength moves one quality up and down. Part of the tree in train.py."""

from __future__ import annotations

from pydantic import Field

from trainer.core.schema import Section

NEEDED = ("slider.target", "slider.positive", "slider.negative")
"""The words without which there is no slider."""


class Slider(Section):
    """What is said to the base in place of captions (Concept Sliders, Gandikota et al. 2023)."""

    target: str = Field(default="", max_length=500)
    """What the slider moves, in words the base knows: `a fox`, `a person`. The slider works best on this; the wider the
    words, the more it reaches."""
    positive: str = Field(default="", max_length=500)
    """The same with the quality in full: `a huge fox`. Strength 1 and more leads there."""
    negative: str = Field(default="", max_length=500)
    """The same with its opposite: `a tiny fox`. Strengths below 0 lead there."""
    preserve: tuple[str, ...] = ()
    """What must not change with it, one a line: `male` and `female` where age is moved. Each is added to all three behind a
    comma, in turn, so that the quality is learnt for each of them alike."""
    guidance: float = Field(default=3.0, gt=0, le=30)
    """How far strength 1 goes: so many times the difference the base itself sees between the two. 2 to 4 is usual; more
    moves further and breaks pictures sooner."""
    generated_images: int = Field(default=16, ge=0, le=500)
    """How many pictures of the target the base draws at the start, to learn on; no pictures of one's own are needed. More
    is more varied and takes longer to begin. 0 takes the pictures of the image set, whatever their captions say."""

    def ways(self) -> dict[str, tuple[str, str]]:
        """{target: (positive, negative)}, once for each attribute that is kept, or once as they are."""

        def said(words: str, more: str) -> str:
            return f"{words.strip()}, {more.strip()}" if more.strip() else words.strip()

        return {
            said(self.target, more): (said(self.positive, more), said(self.negative, more)) for more in self.preserve or ("",)
        }
