"""CLIPSeg (Lüddecke & Ecker 2022) by transformers' own class: the part of a picture that a word describes. Heavy inside.

Safetensors alone, no code from the model's folder. The model sees the whole picture squeezed into its square, as its
preprocessor does, and answers at the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.core.files import read_json
from trainer.core.problem import Problem
from trainer.images.captioners import silence_transformers
from trainer.images.masking.result import DEFAULT_PROMPT, MaskResult

SEEN = 0.4
"""The probability from which a pixel belongs to the word; at half of it the mask is black, at twice white."""
ROOM = 4 * 2**30
"""Free bytes on the card from which it is used."""


class ClipSeg:
    """The model in `folder`, on the card where there is room."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoTokenizer, CLIPSegForImageSegmentation

        silence_transformers()
        roomy = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] >= ROOM
        self.device = "cuda" if roomy else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = CLIPSegForImageSegmentation.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        self.model.eval().to(self.device)
        how = read_json(folder / "preprocessor_config.json", {})
        self.mean = np.array(how.get("image_mean", [0.485, 0.456, 0.406]), np.float32)
        self.std = np.array(how.get("image_std", [0.229, 0.224, 0.225]), np.float32)
        size = how.get("size", {})
        self.side = int(size.get("height", 352)) if isinstance(size, dict) else int(size)

    def __call__(self, pictures: Sequence[Image.Image], word: str) -> list[MaskResult | Problem]:
        """The mask of `word` in each picture; Problem where nothing of it is seen."""
        chances = self.chances(pictures, word or DEFAULT_PROMPT)
        return [masked(chance, picture.size, word or DEFAULT_PROMPT) for chance, picture in zip(chances, pictures, strict=True)]

    def chances(self, pictures: Sequence[Image.Image], word: str) -> np.ndarray:
        """`[n, side, side]`: the probability of `word` at each pixel of the squeezed pictures."""
        import torch

        tokens = self.tokenizer([word] * len(pictures), padding=True, truncation=True, max_length=77, return_tensors="pt")
        size = (self.side, self.side)
        arrays = [np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32) for picture in pictures]
        pixels = torch.from_numpy((np.stack(arrays) / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        with torch.inference_mode():
            logits = self.model(
                pixel_values=pixels.to(self.device), input_ids=tokens.input_ids.to(self.device),
                attention_mask=tokens.attention_mask.to(self.device),
            ).logits  # fmt: skip
        return logits.reshape(len(pictures), *logits.shape[-2:]).float().sigmoid().cpu().numpy()


def masked(chance: np.ndarray, size: tuple[int, int], word: str) -> MaskResult | Problem:
    """Probabilities `[h, w]` as a soft mask of a picture of `size`; sure is the mean of what is seen."""
    seen = chance >= SEEN
    if seen.mean() < 0.002:
        return Problem("mask_unseen", word=word)
    soft = np.clip((chance / SEEN - 0.5) / 1.5, 0, 1)
    image = Image.fromarray((255 * soft).round().astype(np.uint8))
    return MaskResult(image.resize(size, Image.Resampling.BICUBIC), float(chance[seen].mean()))
