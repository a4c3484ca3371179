"""A U²-Net (Qin et al. 2020) or its kin as an .onnx file, as rembg uses them: what stands out in a picture, by onnxruntime.

onnxruntime is not among the requirements. The picture is squeezed into the network's square, divided by its brightest
value and made even as ImageNet is; the first output, stretched to 0..1, is the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.core.problem import Problem
from trainer.images.masking.result import MaskResult

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class U2Net:
    """The network in `file`. Problem where it is none."""

    def __init__(self, file: Path) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as cannot  # pyright: ignore[reportAttributeAccessIssue]

        try:
            self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except (cannot.InvalidProtobuf, cannot.InvalidGraph, cannot.Fail, cannot.NotImplemented) as error:
            raise Problem("masker_parts", folder=str(file.parent), file=file.name) from error
        put = self.session.get_inputs()[0]
        if len(put.shape) != 4 or put.shape[1] != 3 or not isinstance(put.shape[2], int):
            raise Problem("masker_unknown", folder=str(file))
        self.put, self.side = put.name, put.shape[2]

    def __call__(self, pictures: Sequence[Image.Image], word: str) -> list[MaskResult | Problem]:
        """What stands out in each picture; the word cannot be told to it."""
        return [self._segment(picture) for picture in pictures]

    def _segment(self, picture: Image.Image) -> MaskResult | Problem:
        square = picture.convert("RGB").resize((self.side, self.side), Image.Resampling.LANCZOS)
        pixels = np.asarray(square, np.float32)
        pixels = (pixels / max(1e-6, float(pixels.max())) - MEAN) / STD
        output = np.asarray(self.session.run(None, {self.put: pixels.transpose(2, 0, 1)[None]})[0], np.float32)
        chance = output.reshape(output.shape[-2:])
        low, high = float(chance.min()), float(chance.max())
        if high - low < 1e-3:
            return Problem("mask_nothing")
        chance = (chance - low) / (high - low)
        image = Image.fromarray((255 * chance).round().astype(np.uint8))
        return MaskResult(image.resize(picture.size, Image.Resampling.LANCZOS), float(np.abs(2 * chance - 1).mean()))
