"""The judge at work: how well does a picture fit a sentence. `evaluate.py` and `lora_eval.py` ask it.

A judge is a small CLIP (transformers) with its tokenizer in one folder, here `models/mini/judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .mascot import TRIGGER
from .sources import STYLES

MASCOT_NAME = f"{TRIGGER} mascot"
TEXT_LENGTH = 32  # the judge reads a sentence's first 32 tokens; it looks at the end mark, so padding changes nothing


def style_sentence(words: str) -> str:
    """How the judge is asked about a style."""
    return f"{words} style"


STYLE_SENTENCES = tuple(style_sentence(s.words) for s in STYLES)


def background_sentence(name: str) -> str:
    """How the judge is asked about a background."""
    return f"{name} background"


def text_embeddings(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Unit vectors (N, D) of token ids (N, T)."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return torch.nn.functional.normalize(model.text_projection(pooled).float(), dim=-1)


def picture_embeddings(model: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Unit vectors (N, D) of pictures (N, 3, H, W) in -1..1."""
    pooled = model.vision_model(pixel_values=pictures).pooler_output.flatten(1)
    return torch.nn.functional.normalize(model.visual_projection(pooled).float(), dim=-1)


class Judge:
    """A judge loaded from a folder."""

    def __init__(self, folder: Path, tokenizer: Any | None = None) -> None:
        from transformers import AutoModel, CLIPTokenizer

        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = tokenizer or CLIPTokenizer.from_pretrained(folder)
        self.side: int = self.model.config.vision_config.image_size

    @torch.no_grad()
    def scores(self, pictures: Sequence[Image.Image], sentences: Sequence[str]) -> np.ndarray:
        """Logits (pictures, sentences): the higher, the better the sentence fits."""
        from .tokenizer import token_ids

        ids = torch.from_numpy(token_ids(self.tokenizer, list(sentences), TEXT_LENGTH)).long()
        words = torch.cat([text_embeddings(self.model, part) for part in ids.split(256)])
        seen = torch.cat([picture_embeddings(self.model, part) for part in self._tensor(pictures).split(64)])
        return (self.model.logit_scale.exp() * seen @ words.T).numpy()

    def _tensor(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        size = (self.side, self.side)
        arrays = [
            np.asarray(p.convert("RGB").resize(size, Image.Resampling.LANCZOS) if p.size != size else p.convert("RGB"))
            for p in pictures
        ]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1
