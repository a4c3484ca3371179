"""LoRAs of every layout come out as the same factors, with the strength their author meant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.lora_files import factors, raw
from trainer.adapters import file as lora_file
from trainer.formats.names import to_diffusers

UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
TEXT = "encoder.layers.0.self_attn"


def _peft(weights: dict, down: str = "lora_A.weight", up: str = "lora_B.weight") -> dict[str, np.ndarray]:
    found = {}
    for (part, module), layer in weights.items():
        a, b = (layer.down, layer.up) if isinstance(layer, lora_file.Layer) else layer[:2]
        found[f"{to_diffusers(part, module)}.{down}"] = a
        found[f"{to_diffusers(part, module)}.{up}"] = b
    return found


def _told(**words: object) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps(words), "format": "pt"}


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A.weight", "lora_B.weight"),
        ("lora.down.weight", "lora.up.weight"),
        ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
    ],
)
def test_kohya_to_diffusers_names_and_back_is_exact(tmp_path: Path, down: str, up: str) -> None:
    weights = factors(groups=("attention", "mlp"), alpha=2.0)
    first = lora_file.normalise(lora_file.write(tmp_path / "a.safetensors", weights, {}, "fp32"))
    said = _told(**{"unet.lora_alpha": 2, "unet.r": 4, "text_encoder.lora_alpha": 2, "text_encoder.r": 4})
    theirs = raw(tmp_path / "b.safetensors", _peft(first.modules, down, up), said)
    second = lora_file.normalise(theirs)
    assert second.layout == "diffusers" and first.layout == "kohya" and set(second.modules) == set(weights)
    back = lora_file.write(tmp_path / "c.safetensors", second.modules, {}, "fp32")
    assert back.read_bytes() == (tmp_path / "a.safetensors").read_bytes()


def test_the_old_spelling_of_attention_is_read(tmp_path: Path) -> None:
    a, b = np.ones((4, 320), np.float32), np.ones((320, 4), np.float32)
    tensors = {}
    for name in ("to_q", "to_out"):
        tensors[f"unet.{UNET}.processor.{name}_lora.down.weight"] = a
        tensors[f"{UNET.replace('attn1', 'attn2')}.processor.{name}_lora.up.weight"] = b
        tensors[f"unet.{UNET}.processor.{name}_lora.up.weight"] = b
        tensors[f"{UNET.replace('attn1', 'attn2')}.processor.{name}_lora.down.weight"] = a
    found = lora_file.normalise(raw(tmp_path / "a.safetensors", tensors)).modules
    assert set(found) == {
        ("unet", f"{UNET.replace('attn1', attn)}.{name}") for attn in ("attn1", "attn2") for name in ("to_q", "to_out.0")
    }
    assert {factor.alpha for factor in found.values()} == {4.0}


@pytest.mark.parametrize(
    ("said", "unet", "text"),
    [
        ({}, 4.0, 4.0),
        (_told(**{"unet.lora_alpha": 16, "unet.r": 4}), 16.0, 4.0),
        (_told(**{"unet.lora_alpha": 1, "text_encoder.lora_alpha": 2}), 1.0, 2.0),
        (_told(**{"unet.lora_alpha": 2, "unet.use_rslora": True}), 4.0, 4.0),
        (_told(**{"unet.lora_alpha": 2, "unet.alpha_pattern": {"attn1.to_q": 6}}), 6.0, 4.0),
        (_told(**{"text_encoder.alpha_pattern": {f"text_model.{TEXT}.q_proj": 3}}), 4.0, 3.0),
        ({"lora_adapter_metadata": "{not json"}, 4.0, 4.0),
        ({"lora_adapter_metadata": "[1]"}, 4.0, 4.0),
        (_told(**{"unet.lora_alpha": "x", "text_encoder.alpha_pattern": 3}), 4.0, 4.0),
    ],
)
def test_alpha_of_diffusers_files_comes_from_their_metadata(tmp_path: Path, said: dict, unet: float, text: float) -> None:
    a, b = np.ones((4, 320), np.float32), np.ones((320, 4), np.float32)
    c, d = np.ones((4, 768), np.float32), np.ones((768, 4), np.float32)
    tensors = _peft({("unet", f"{UNET}.to_q"): (a, b, 0), ("text_encoder", f"{TEXT}.q_proj"): (c, d, 0)})
    found = lora_file.normalise(raw(tmp_path / "a.safetensors", tensors, said)).modules
    assert found["unet", f"{UNET}.to_q"].alpha == unet
    assert found["text_encoder", f"{TEXT}.q_proj"].alpha == text


@pytest.mark.parametrize(("stated", "meant"), [(None, 4.0), (0.0, 4.0), (1.0, 1.0), (8.0, 8.0)])
def test_a_missing_alpha_means_no_scaling(tmp_path: Path, stated: float | None, meant: float) -> None:
    tensors = lora_file.kohya_tensors(factors())
    for key in [key for key in tensors if key.endswith(".alpha")]:
        if stated is None:
            del tensors[key]
        else:
            tensors[key] = np.asarray(stated, np.float32)
    found = lora_file.normalise(raw(tmp_path / "a.safetensors", {k: np.asarray(v) for k, v in tensors.items()}))
    assert {factor.alpha for factor in found.modules.values()} == {meant}


def test_the_text_encoder_may_be_called_te_or_te1(tmp_path: Path) -> None:
    tensors = lora_file.kohya_tensors(factors())
    other = {key.replace("lora_te_", "lora_te1_"): value for key, value in tensors.items()}
    found = lora_file.normalise(raw(tmp_path / "a.safetensors", other))
    assert set(found.modules) == set(factors()) and not found.unknown


def test_linear_factors_of_a_1x1_convolution_are_read(tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{name}.lora_down.weight": np.ones((2, 1280), np.float32),
        f"{name}.lora_up.weight": np.ones((1280, 2), np.float32),
    }
    found = lora_file.normalise(raw(tmp_path / "a.safetensors", tensors)).modules["unet", "mid_block.attentions.0.proj_in"]
    assert found.delta().shape == (1280, 1280) and found.rank == 2


def test_a_lora_of_the_small_base_is_read_like_any_other(tmp_path: Path) -> None:
    from trainer.bases import catalog
    from trainer.core.home import Home

    layers = catalog.layers(catalog.find(Home.find(tmp_path), "mini"))
    weights = factors(layers)
    found = lora_file.normalise(lora_file.write(tmp_path / "a.safetensors", weights, {}))
    assert set(found.modules) == set(weights) and len(weights) > 50 and found.family == "sd1"
