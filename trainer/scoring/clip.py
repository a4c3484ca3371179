"""CLIP score: a CLIP (Radford et al. 2021) of transformers, from pictures and sentences to unit vectors. Heavy inside.

Prepared as its preprocessor_config.json says: the shorter side scaled, the middle cut out. What a picture of a training
set came to is kept in the cache, so that a run looks at its set once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.core import files
from trainer.core.files import read_json
from trainer.images.set.picture import Picture
from trainer.scoring.scores import SMALL, ImageEmbeddings, small, unit

AT_ONCE = 8
ROOM = 4 * 2**30
"""Free bytes on the card from which `device="auto"` uses it."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """The model in `folder`. A run keeps it on the CPU, where it takes nothing from the training."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        if device == "auto":
            roomy = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] >= ROOM
            device = "cuda" if roomy else "cpu"
        self.name, self.device = folder.name if folder.name != "judge" else f"{folder.parent.name}/judge", device
        with torch.random.fork_rng():  # nothing of a training's chance is used up
            self.model: Any = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        self.model.eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        how = read_json(folder / "preprocessor_config.json", {})
        self.mean, self.std = (np.array(how.get(key, usual), np.float32) for key, usual in
                               (("image_mean", MEAN), ("image_std", STD)))  # fmt: skip
        self.side: int = self.model.config.vision_config.image_size
        weights = folder / "model.safetensors"
        self.key = hashlib.sha256(f"{folder.resolve()}:{weights.stat().st_size}:{weights.stat().st_mtime_ns}".encode())

    def encode_images(self, pictures: Sequence[Image.Image]) -> ImageEmbeddings:
        """Pictures as unit vectors, `clip [n, d]` and `pixels [n, 3 * SMALL**2]`, float32."""
        import torch

        vectors = []
        for start in range(0, len(pictures), AT_ONCE):
            pixels = np.stack([self._prepared(one) for one in pictures[start : start + AT_ONCE]])
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
            with torch.inference_mode():
                embeddings = self.model.visual_projection(self.model.vision_model(pixel_values=batch).pooler_output.flatten(1))
            vectors.append(embeddings.float().cpu().numpy())
        return ImageEmbeddings(unit(np.concatenate(vectors)), np.stack([small(one) for one in pictures]))

    def encode_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """Unit vectors `[n, d]` float32; what is beyond the model's length is not read."""
        import torch

        most = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(sentences), padding=True, truncation=True, max_length=most, return_tensors="pt")
        with torch.inference_mode():
            output = self.model.text_model(
                input_ids=tokens.input_ids.to(self.device), attention_mask=tokens.attention_mask.to(self.device)
            )
            return unit(self.model.text_projection(output.pooler_output).float().cpu().numpy())

    def reference_embeddings(
        self, pictures: Sequence[Picture], cache: Path, progress: Callable[[int, int], None]
    ) -> ImageEmbeddings:
        """`pictures` of a training set, each kept below `cache` by content; `progress(done, of)` between two."""
        rows = []
        for number, picture in enumerate(pictures):
            key = self.key.copy()
            key.update(picture.content.encode())
            file = cache / f"{key.hexdigest()[:40]}.f32"
            if not file.is_file():
                progress(number, len(pictures))
                embedding = self.encode_images([picture.load()])
                files.write_bytes(file, np.concatenate([embedding.clip[0], embedding.pixels[0]]).astype("<f4").tobytes())
            rows.append(np.frombuffer(file.read_bytes(), "<f4"))
        both = np.stack(rows)
        return ImageEmbeddings(both[:, : -3 * SMALL**2], both[:, -3 * SMALL**2 :])

    def _prepared(self, picture: Image.Image) -> np.ndarray:
        """`[side, side, 3]`: the middle square, each channel made even."""
        picture = picture.convert("RGB")
        scale = self.side / min(picture.size)
        wide, high = (max(self.side, round(length * scale)) for length in picture.size)
        left, top = (wide - self.side) // 2, (high - self.side) // 2
        scaled = picture.resize((wide, high), Image.Resampling.BICUBIC)
        square = scaled.crop((left, top, left + self.side, top + self.side))
        return (np.asarray(square, np.float32) / 255 - self.mean) / self.std
