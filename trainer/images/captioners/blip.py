"""BLIP (Li et al. 2022) as a captioner: a sentence about any photograph or picture, by transformers' own class.

Safetensors alone, no code from the model's folder. Pictures are prepared here, as its preprocessor_config.json says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.core.files import read_json
from trainer.core.problem import Problem
from trainer.images.captioners import CaptionRequest, silence_transformers

LONGEST = 40
"""Tokens of a caption."""
ROOM = 4 * 2**30
"""Free bytes on the card from which it is used; below, a training that runs there must not be pushed out."""


def load(folder: Path) -> Blip:
    """The model in `folder`, on the card where there is room."""
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != "blip":
        raise Problem("captioner_unknown", folder=str(folder))
    return Blip(folder)


class Blip:
    """The model in `folder` with its tokenizer, in float32; `side` is the square it sees, in pixels."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoTokenizer, BlipForConditionalGeneration

        silence_transformers()
        roomy = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] >= ROOM
        self.device = torch.device("cuda" if roomy else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = BlipForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        self.model.eval().to(self.device)
        how = read_json(folder / "preprocessor_config.json", {})
        self.mean = np.array(how.get("image_mean", [0.48145466, 0.4578275, 0.40821073]), np.float32)
        self.std = np.array(how.get("image_std", [0.26862954, 0.26130258, 0.27577711]), np.float32)
        self.side: int = self.model.config.vision_config.image_size

    def __call__(self, pictures: Sequence[Image.Image], request: CaptionRequest) -> list[str]:
        """The likeliest sentence (three beams); for another variant one drawn by chance from the likely words."""
        import torch

        how: dict[str, Any] = {"num_beams": 3} if request.variant == 0 else {"do_sample": True, "top_p": 0.9}
        torch.manual_seed(request.variant)
        with torch.inference_mode():
            ids = self.model.generate(pixel_values=self._pixels(pictures), max_new_tokens=LONGEST, **how)
        return [tidy(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _pixels(self, pictures: Sequence[Image.Image]) -> Any:
        """(B, 3, S, S): the whole picture squeezed into the square BLIP learnt on, each channel made even."""
        import torch

        size = (self.side, self.side)
        arrays = [np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32) for picture in pictures]
        pixels = (np.stack(arrays) / 255 - self.mean) / self.std
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)


def tidy(text: str) -> str:
    """Without `araffe` and its kin, a word the large model made up and puts in front of many captions, and without
    blanks before commas."""
    text = re.sub(r"\b(an? )?araf+\w*\s*", "", text)
    return re.sub(r"\s+([,.])", r"\1", text).strip(" .")
