"""A base with LoRAs inside: everything a file changes is there, and what has no place is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.lora_files import facts, raw
from trainer.adapters.fold import LoraStrength
from trainer.adapters.tools.bake import bake
from trainer.adapters.tools.base_weights import BaseWeights
from trainer.adapters.weights import read_tensors
from trainer.bases import catalog
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.formats.header import read_header
from trainer.formats.names import to_sgm


def _base(tmp_path: Path) -> Any:
    return catalog.find(Home(tmp_path / "home").create(), "mini")


def _whole(folder: Path, part: str) -> dict[str, np.ndarray]:
    file = next(iter((folder / part).glob("*.safetensors")))
    return read_tensors(file, read_header(file))


def test_a_file_of_comfyuis_trainer_changes_every_weight_norm_and_bias(tmp_path: Path) -> None:
    """Its trainer writes factors or a difference for each weight, and a difference for each bias."""
    base, rng, tensors = _base(tmp_path), np.random.default_rng(0), {}
    old = _whole(base.path, "unet")
    expected: dict[str, np.ndarray] = {}
    for key, weight in old.items():
        module, _, what = key.rpartition(".")
        name = f"diffusion_model.{to_sgm(module)}"
        if what == "weight" and weight.ndim > 1:
            down, up = rng.standard_normal((2, weight[0].size)), rng.standard_normal((len(weight), 2))
            tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": np.asarray(1.0)}
            expected[key] = (up @ down).reshape(weight.shape) / 2
        else:
            expected[key] = rng.standard_normal(weight.shape)
            tensors[f"{name}.{'diff' if what == 'weight' else 'diff_b'}"] = expected[key]
    path = raw(tmp_path / "a.safetensors", {key: np.asarray(array, np.float32) for key, array in tensors.items()})
    notes: list[tuple[str, dict]] = []
    new = bake(base, [LoraStrength(path, 0.5)], tmp_path / "new", note=lambda code, params: notes.append((code, params)))
    now = _whole(new, "unet")
    assert now.keys() == expected.keys()
    for key, array in now.items():
        assert np.allclose(array, old[key] + 0.5 * expected[key], rtol=2e-2, atol=2e-2), key
    layers = len({key.rpartition(".")[0] for key in old})
    assert ("layers_baked", {"name": "a", "read": layers, "total": layers, "layers": ""}) in notes
    assert ("tensors_changed", {"count": len(old), "total": len(old) + len(_whole(base.path, "text_encoder"))}) in notes


def test_a_layer_without_a_place_is_named_and_most_of_them_are_refused(tmp_path: Path) -> None:
    base = _base(tmp_path)
    fits = "lora_unet_conv_out.diff_b"
    strange = [f"lora_unet_up_blocks_0_attentions_{number}_proj_in.diff" for number in range(3)]
    bias = np.ones(8, np.float32)
    notes: list[tuple[str, dict]] = []
    for count, allowed in ((1, False), (2, True)):
        odd = {name: np.ones((7, 7), np.float32) for name in strange[:count]}
        path = raw(tmp_path / f"{count}.safetensors", {fits: bias} | odd)
        if allowed:
            with pytest.raises(Problem) as told:
                bake(base, [LoraStrength(path)], tmp_path / "new")
            assert told.value.code == "lora_half_fits" and "up_blocks.0.attentions.0.proj_in" in str(told.value)
            assert not (tmp_path / "new").exists()
        bake(base, [LoraStrength(path)], tmp_path / f"new{count}", partial=allowed, note=lambda *said: notes.append(said))
        code, params = notes[-2]
        assert code == "layers_unbaked" and (params["read"], params["total"]) == (1, count + 1)
        assert "unet.up_blocks.0.attentions.0.proj_in" in params["layers"]


@pytest.mark.parametrize("what", ["projection", "norm", "bias"])
def test_openclips_projection_norms_and_joint_biases_are_baked_where_they_lie(tmp_path: Path, what: str) -> None:
    block = "conditioner.embedders.1.model"
    old = {
        "model.diffusion_model.out.2.weight": np.ones((4, 4), np.float16),
        f"{block}.text_projection": np.arange(16, dtype=np.float16).reshape(4, 4),
        f"{block}.ln_final.weight": np.ones(4, np.float16), f"{block}.ln_final.bias": np.zeros(4, np.float16),
        f"{block}.transformer.resblocks.0.attn.in_proj_weight": np.ones((12, 4), np.float16),
        f"{block}.transformer.resblocks.0.attn.in_proj_bias": np.zeros(12, np.float16),
    }  # fmt: skip
    base = facts(path=raw(tmp_path / "base.safetensors", old), layout="file", family="sdxl")
    change = np.arange(16, dtype=np.float32).reshape(4, 4)
    row = np.arange(4, dtype=np.float32)
    tensors, key, expected = {
        "projection": ({"lora_te2_text_projection.diff": change}, f"{block}.text_projection", change.T),
        "norm": ({"lora_te2_text_model_final_layer_norm.w_norm": row}, f"{block}.ln_final.weight", row),
        "bias": (
            {"lora_te2_text_model_encoder_layers_0_self_attn_k_proj.diff_b": row},
            f"{block}.transformer.resblocks.0.attn.in_proj_bias",
            np.concatenate([0 * row, row, 0 * row]),
        ),
    }[what]
    new = bake(base, [LoraStrength(raw(tmp_path / "a.safetensors", tensors))], tmp_path / "new.safetensors")
    now = read_tensors(new)
    for name, array in old.items():
        assert np.array_equal(now[name], array + expected if name == key else array), name
    assert read_header(new).metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
    spot = BaseWeights(base).spot(("text_encoder_2", "text_projection"))
    assert spot is not None and spot.turned
