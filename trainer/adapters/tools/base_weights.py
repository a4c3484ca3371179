"""Where a layer's weight lies in a base on disk, a diffusers folder or a single file. Used by extract and bake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.adapters.weights import to_float32
from trainer.bases.catalog import layers
from trainer.bases.facts import BaseFacts
from trainer.core.problem import Problem
from trainer.formats.header import Header, read_header
from trainer.formats.names import to_sgm

_CLIP = tuple(
    f"{start}.transformer.{inner}" for start in ("cond_stage_model", "conditioner.embedders.0") for inner in ("text_model.", "")
)
_OPENCLIP = {
    "sd2": ("text_encoder", "cond_stage_model.model.transformer.resblocks"),
    "sdxl": ("text_encoder_2", "conditioner.embedders.1.model.transformer.resblocks"),
}
_INNER = {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "layer_norm1": "ln_1",
          "layer_norm2": "ln_2"}  # fmt: skip
_FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


class Spot(NamedTuple):
    """A layer's weight or bias: a tensor of a file, or the third of it that OpenCLIP's fused q, k and v give it."""

    file: Path
    key: str
    third: int | None = None

    @property
    def turned(self) -> bool:
        """Whether the file keeps the matrix input first, as OpenCLIP does its projection."""
        return self.key.endswith("text_projection")


class BaseWeights:
    """The weights of a base by (part, module), read one at a time. Nothing here writes."""

    def __init__(self, facts: BaseFacts) -> None:
        if facts.path is None:
            raise Problem("base_parts", field="base", base=facts.title, detail="it is not on this disk")
        self.facts, self.headers = facts, {file: read_header(file) for file in _files(facts)}
        self.modules = layers(facts)
        self.spots = {place: spot for place in self.modules if (spot := self._spot(*place)) is not None}
        if not self.spots:
            raise Problem("base_parts", field="base", base=facts.title, detail="no weights of a known name")

    def spot(self, place: tuple[str, str], what: str = "weight") -> Spot | None:
        """Where the weight (or the bias) of any layer lies, of norms and projections too; None where the base has none."""
        return self._spot(*place, what)

    def read(self, place: tuple[str, str]) -> np.ndarray[Any, np.dtype[Any]]:
        """The weight in float32."""
        return self.at(self.spots[place])

    def at(self, spot: Spot) -> np.ndarray[Any, np.dtype[Any]]:
        """The numbers at a spot in float32, output first."""
        header = self.headers[spot.file]
        tensor = header.tensors[spot.key]
        with open(spot.file, "rb") as file:
            file.seek(header.offset + tensor.start)
            array = to_float32(file.read(tensor.end - tensor.start), tensor.dtype).reshape(tensor.shape)
        array = array.T if spot.turned else array
        return array if spot.third is None else np.split(array, 3)[spot.third]

    def _spot(self, part: str, module: str, what: str = "weight") -> Spot | None:
        for file, header in self.headers.items():
            for key, third in self._keys(part, module, file, what):
                if key in header.tensors:
                    return Spot(file, key, third)
        return None

    def _keys(self, part: str, module: str, file: Path, what: str) -> list[tuple[str, int | None]]:
        """The names a weight or bias may have in `file`, likeliest first."""
        if self.facts.layout != "file":
            if file.parent.name != part:
                return []
            return [(f"{module}.{what}", None), (f"text_model.{module}.{what}", None)]
        if part == "unet":
            return [(f"model.diffusion_model.{to_sgm(module, self.facts.family)}.{what}", None)]
        names: list[tuple[str, int | None]] = []
        own, start = _OPENCLIP.get(self.facts.family, ("", ""))
        match = re.match(r"encoder\.layers\.(\d+)\.(.+)", module)
        if part == own and match:
            block = f"{start}.{match[1]}"
            if match[2] in _FUSED:
                names.append((f"{block}.attn.in_proj_{what}", _FUSED.index(match[2])))
            names += [(f"{block}.{inner}.{what}", None) for inner in (_INNER.get(match[2]),) if inner]
        elif part == own:
            model = start.removesuffix(".transformer.resblocks")
            names += [(f"{model}.ln_final.{what}", None)] if module == "final_layer_norm" else []
            names += [(f"{model}.text_projection", None)] if (module, what) == ("text_projection", "weight") else []
        if part == "text_encoder":
            names += [(f"{clip}{module}.{what}", None) for clip in _CLIP]
        return names


def _files(facts: BaseFacts) -> list[Path]:
    """The files that hold the UNet and the text encoders."""
    assert facts.path is not None
    if facts.layout == "file":
        return [facts.path]
    weight_files = []
    for part, stems in (("unet", ("diffusion_pytorch_model",)), ("text_encoder", ("model",)), ("text_encoder_2", ("model",))):
        names = [f"{stem}{variant}.safetensors" for stem in stems for variant in ("", ".fp16")]
        file = next((facts.path / part / name for name in names if (facts.path / part / name).is_file()), None)
        if file is None and (facts.path / part / "config.json").exists():
            raise Problem("base_parts", field="base", base=facts.title, detail=f"{part}: no single .safetensors file")
        weight_files += [file] if file else []
    return weight_files


__all__ = ["BaseWeights", "Header", "Spot"]
