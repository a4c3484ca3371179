"""The judge that comes with the embedded base as a captioner: it picks the words that fit best from a list (`words.json`).

A small CLIP (Radford et al. 2021; transformers) whose text half knows only these words: for drawings like the base's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.core.files import read_json
from trainer.core.problem import Problem
from trainer.images.captioners import CaptionRequest, silence_transformers

SURE = 0.4
"""A thing with less probability than this among all the things is not named: no word is better than a wrong one."""


def load(folder: Path) -> MiniClip:
    """The judge in `folder` with the words it can choose from."""
    data = read_json(folder / "words.json")
    data = data if isinstance(data, dict) else {}
    things, styles, grounds = (data.get(key) for key in ("things", "styles", "backgrounds"))
    for phrases in (things, styles, grounds):
        if not (isinstance(phrases, list) and phrases and all(isinstance(word, str) for word in phrases)):
            raise Problem("captioner_parts", folder=str(folder), file="words.json")
    return MiniClip(folder, things or [], styles or [], grounds or [])


class MiniClip:
    """`things`, `styles` and `backgrounds` are phrases as they stand in a caption: `an owl`, `flat style`."""

    def __init__(self, folder: Path, things: list[str], styles: list[str], backgrounds: list[str]) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        silence_transformers()
        self.phrases = (things, styles, backgrounds)
        self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
        self.model.eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.side: int = self.model.config.vision_config.image_size
        with torch.inference_mode():
            self.phrase_vectors = [self._text_vectors(tokenizer, phrases) for phrases in self.phrases]

    def __call__(self, pictures: Sequence[Image.Image], request: CaptionRequest) -> list[str]:
        """`an owl, flat style, white background`; without the style for a set that teaches one."""
        import torch

        with torch.inference_mode():
            images = self._image_vectors(pictures)
            scale = self.model.logit_scale.exp()
            things, styles, grounds = ((scale * images @ vectors.T).softmax(1) for vectors in self.phrase_vectors)
        captions = []
        for thing, style, ground in zip(things, styles, grounds, strict=True):
            best = thing.argsort(descending=True)[min(request.variant, len(thing) - 1)]
            parts = [self.phrases[0][int(best)]] if request.variant or float(thing[best]) >= SURE else []
            parts += [self.phrases[1][int(style.argmax())]] if request.kind == "concept" else []
            captions.append(", ".join([*parts, self.phrases[2][int(ground.argmax())]]))
        return captions

    def _text_vectors(self, tokenizer: Any, phrases: list[str]) -> Any:
        """Unit vectors (N, D) of phrases."""
        import torch

        tokens = tokenizer(phrases, padding=True, return_tensors="pt")
        pooled = self.model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return torch.nn.functional.normalize(self.model.text_projection(pooled), dim=-1)

    def _image_vectors(self, pictures: Sequence[Image.Image]) -> Any:
        """Unit vectors (B, D) of pictures, each scaled to the judge's square in -1..1."""
        import torch

        size = (self.side, self.side)
        arrays = [np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)) for picture in pictures]
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, S, S)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output.flatten(1)
        return torch.nn.functional.normalize(self.model.visual_projection(pooled), dim=-1)
