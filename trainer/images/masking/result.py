"""What a way of making masks gives. Fulfilled by plain.py, clipseg.py and u2net.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from trainer.core.problem import Problem

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class MaskResult:
    """A mask in mode L at the picture's size, white where it counts, and how sure it is (0..1)."""

    mask: Image.Image
    sure: float


class Masker(Protocol):
    """A way of making masks, ready to be used; `word` says what to look for, where it can be told."""

    def __call__(self, pictures: Sequence[Image.Image], word: str) -> list[MaskResult | Problem]: ...


DEFAULT_PROMPT = "the character"
"""What is looked for where no word is given."""
