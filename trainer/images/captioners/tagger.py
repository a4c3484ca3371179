"""WD taggers (SmilingWolf's wd-*-tagger-v3) as a captioner: booru tags for drawn pictures, by onnxruntime.

onnxruntime is not among the requirements; whoever wants tags installs it. Input and tag list are fixed by the models:
448 px, the picture on a white square, blue-green-red, 0..255; `selected_tags.csv` names what each output means.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.core.problem import Problem
from trainer.images.captioners import CaptionRequest

GENERAL, CHARACTER = "0", "4"
"""Categories in the list that are used; 9 is the rating, which says nothing about what is to be seen."""
CHARACTER_SURE = 0.85
"""Names of known characters are wrong more often: they need this much."""


def load(folder: Path) -> Tagger:
    """The tagger in `folder`: its one .onnx file and the list of tags."""
    return Tagger(next(iter(sorted(folder.glob("*.onnx")))), folder / "selected_tags.csv")


class Tagger:
    """The ONNX file `model` and its list of `tags`. Problem where the file is no such model, or the two do not fit."""

    def __init__(self, model: Path, tags: Path) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as cannot  # pyright: ignore[reportAttributeAccessIssue]

        with open(tags, encoding="utf-8", newline="") as file:
            self.tags = [(row.get("name", ""), row.get("category", "")) for row in csv.DictReader(file)]
        try:
            self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        except (cannot.InvalidProtobuf, cannot.InvalidGraph, cannot.Fail, cannot.NotImplemented, cannot.NoSuchFile) as error:
            raise Problem("captioner_parts", folder=str(model.parent), file=model.name) from error
        put, got = self.session.get_inputs()[0], self.session.get_outputs()[0]
        if len(put.shape) != 4 or put.shape[3] != 3 or got.shape[-1] != len(self.tags):
            raise Problem("captioner_unknown", folder=str(model.parent))
        self.put, self.side = put.name, int(put.shape[1])

    def __call__(self, pictures: Sequence[Image.Image], request: CaptionRequest) -> list[str]:
        """Tags by falling probability, characters in front; a variant asks for a tenth less to be sure of."""
        sure = max(0.05, request.threshold - 0.1 * request.variant)
        captions = []
        for picture in pictures:
            output = self.session.run(None, {self.put: prepared(picture, self.side)})[0]
            chances = np.asarray(output)[0]
            chosen = [
                (category == CHARACTER, float(chance), spoken(name))
                for (name, category), chance in zip(self.tags, chances, strict=True)
                if (category == GENERAL and chance >= sure) or (category == CHARACTER and chance >= CHARACTER_SURE)
            ]
            captions.append(", ".join(name for _, _, name in sorted(chosen, key=lambda tag: (-tag[0], -tag[1]))))
        return captions


def prepared(picture: Image.Image, side: int) -> np.ndarray:
    """(1, side, side, 3) float32 in blue-green-red, 0..255: the picture in the middle of a white square."""
    picture = picture.convert("RGB")
    longest = max(picture.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
    scaled = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(scaled, np.float32)[None, :, :, ::-1])


def spoken(tag: str) -> str:
    """A tag as it stands in a caption: `long_hair` is `long hair`; faces such as `>_<` and `0_0` keep their mark."""
    return tag.replace("_", " ") if re.search(r"[a-z]{2}", tag, re.IGNORECASE) else tag
