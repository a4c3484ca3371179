"""The file is what we promise: same bytes for the same tensors, right hashes, right order, nothing lost."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, load_file, save

from tests.helpers.lora_files import factors
from trainer.adapters import file as lora_file
from trainer.core.problem import Problem
from trainer.formats.architectures import family_modules
from trainer.formats.hashes import file_model_hash

SAID = {"ss_network_dim": "4", "ss_output_name": "狐", "modelspec.title": "fox", "atelier.run": "{}"}


@pytest.fixture(scope="module")
def weights() -> dict:
    return factors()


def _region(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def test_the_same_tensors_give_the_same_bytes_whatever_the_order(tmp_path: Path, weights: dict) -> None:
    one = lora_file.write(tmp_path / "a.safetensors", weights, SAID).read_bytes()
    turned = dict(reversed(list(weights.items())))
    assert lora_file.write(tmp_path / "b.safetensors", turned, dict(reversed(list(SAID.items())))).read_bytes() == one
    other = lora_file.write(tmp_path / "c.safetensors", weights, SAID | {"modelspec.date": "2026"})
    assert _region(other) == _region(tmp_path / "a.safetensors")
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


@pytest.mark.parametrize(("dtype", "exact"), [("fp32", 0.0), ("fp16", 2e-4), ("bf16", 2e-3)])
def test_what_is_read_is_what_was_written(tmp_path: Path, weights: dict, dtype: str, exact: float) -> None:
    path = lora_file.write(tmp_path / "a.safetensors", weights, SAID, dtype)
    found = lora_file.normalise(path)
    assert set(found.modules) == set(weights) and not found.unknown and found.family == "sd1"
    for key, (down, up, alpha) in weights.items():
        kept = found.modules[key]
        assert kept.alpha == alpha and kept.rank == 4 and kept.scale == 0.5
        assert float(np.abs(kept.down - down).max()) <= exact and float(np.abs(kept.up - up).max()) <= exact


def test_other_libraries_read_the_same_file(tmp_path: Path, weights: dict) -> None:
    path = lora_file.write(tmp_path / "a.safetensors", weights, SAID)
    theirs, ours = load_file(path), lora_file.read_tensors(path)
    assert len(theirs) == 3 * 176 and set(theirs) == set(ours)
    assert all(np.array_equal(theirs[key].astype(np.float32), ours[key]) for key in theirs)
    assert all(theirs[key].dtype == np.float16 for key in theirs)
    with safe_open(path, "np") as opened:
        assert opened.metadata()["ss_output_name"] == "狐"


def test_saving_again_with_the_formats_own_library_keeps_the_model_hash(tmp_path: Path, weights: dict) -> None:
    path = lora_file.write(tmp_path / "a.safetensors", weights, SAID)
    said = lora_file.read_header(path).metadata["sshs_model_hash"]
    again = save(load(path.read_bytes()), {"anything": "else"})
    assert hashlib.sha256(again[8 + int.from_bytes(again[:8], "little") :]).hexdigest() == said
    assert said == hashlib.sha256(_region(path)).hexdigest() == file_model_hash(path)


def test_hashes_are_computed_as_other_programs_compute_them(tmp_path: Path) -> None:
    big = factors(rank=16, groups=("attention", "mlp"))
    path = lora_file.write(tmp_path / "a.safetensors", big, SAID)
    assert path.stat().st_size > 0x110000
    said = lora_file.read_header(path).metadata
    assert said["modelspec.hash_sha256"] == "0x" + said["sshs_model_hash"]
    # The old hash: 64 KB at 1 MB of the file as it would be with its ss_* metadata alone.
    training = {key: value for key, value in said.items() if key.startswith("ss_")}
    bare = save(load(path.read_bytes()), training)
    assert said["sshs_legacy_hash"] == hashlib.sha256(bare[0x100000:0x110000]).hexdigest()[:8]


def test_alpha_stands_in_the_dtype_of_the_file_unless_that_would_change_it(tmp_path: Path) -> None:
    path = lora_file.write(tmp_path / "a.safetensors", factors(alpha=8.0), {})
    assert {t.dtype for key, t in lora_file.read_header(path).tensors.items() if key.endswith(".alpha")} == {"F16"}
    odd = float(np.float32(8 * 2**0.5))
    path = lora_file.write(tmp_path / "b.safetensors", factors(alpha=odd), {})
    alphas = {key: t for key, t in lora_file.read_header(path).tensors.items() if key.endswith(".alpha")}
    assert {t.dtype for t in alphas.values()} == {"F32"} and {t.shape for t in alphas.values()} == {()}
    assert {float(lora_file.read_tensors(path)[key]) for key in alphas} == {odd}
    assert load_file(path)[next(iter(alphas))].dtype == np.float32


def test_keys_are_sorted_so_that_an_attention_layer_decides(tmp_path: Path) -> None:
    unet = {key: value for key, value in factors(groups=("attention", "conv")).items() if key[0] == "unet"}
    path = lora_file.write(tmp_path / "a.safetensors", unet, {})
    keys = list(lora_file.read_header(path).tensors)
    assert keys == sorted(keys)
    first = next(key for key in keys if "_attn2_to_k." in key or "time_emb_proj.lora_down" in key)
    assert "_attn2_to_k." in first


def test_bf16_rounds_to_nearest_even_like_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = np.frombuffer(np.random.default_rng(0).bytes(4 * 64 * 320), "<f4").copy().reshape(64, 320)
    values[~np.isfinite(values) | (np.abs(values) > 1e38)] = 1.0
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    up = np.ones((320, 64), np.float32)
    path = lora_file.write(tmp_path / "a.safetensors", {("unet", name): (values, up, 1.0)}, {}, "bf16")
    kept = lora_file.normalise(path).modules["unet", name].down
    assert np.array_equal(kept, torch.from_numpy(values).bfloat16().float().numpy())


def test_broken_numbers_are_never_written(tmp_path: Path) -> None:
    bad = factors()
    key = next(iter(bad))
    bad[key] = (bad[key][0] * np.float32(np.nan), bad[key][1], 2.0)
    with pytest.raises(Problem, match="no longer finite") as told:
        lora_file.write(tmp_path / "a.safetensors", bad, {})
    assert told.value.code == "lora_not_finite"
    bad[key] = (np.full_like(bad[key][0], 7e4), bad[key][1], 2.0)
    with pytest.raises(Problem) as told:
        lora_file.write(tmp_path / "a.safetensors", bad, {})
    assert told.value.code == "lora_too_large"
    assert lora_file.write(tmp_path / "b.safetensors", bad, {}, "bf16").exists()
    assert os.listdir(tmp_path) == ["b.safetensors"]


def test_factors_that_belong_to_no_layer_are_a_fault_of_ours(tmp_path: Path) -> None:
    down, up = np.ones((4, 320), np.float32), np.ones((320, 8), np.float32)
    with pytest.raises(ValueError, match="no factors"):
        lora_file.write(tmp_path / "a.safetensors", {("unet", "mid_block.x"): (down, up, 1.0)}, {})
    with pytest.raises(ValueError, match="without layers"):
        lora_file.write(tmp_path / "a.safetensors", {}, {})
    both = {("text_encoder", f"{start}encoder.layers.0.mlp.fc1"): (down, up[:, :4], 1.0) for start in ("", "text_model.")}
    with pytest.raises(ValueError, match="given twice"):
        lora_file.write(tmp_path / "a.safetensors", both, {})


def test_changing_what_a_file_says_changes_no_tensor(tmp_path: Path) -> None:
    path = lora_file.write(tmp_path / "a.safetensors", factors(rank=16, groups=("attention", "mlp")), SAID)
    before, said = _region(path), lora_file.read_header(path).metadata
    lora_file.rewrite(path, path, {"ss_output_name": "another name", "modelspec.title": ""})
    now = lora_file.read_header(path).metadata
    assert _region(path) == before and now["sshs_model_hash"] == said["sshs_model_hash"]
    assert now["ss_output_name"] == "another name" and "modelspec.title" not in now
    training = {key: value for key, value in now.items() if key.startswith("ss_")}
    bare = save(load(path.read_bytes()), training)
    assert now["sshs_legacy_hash"] == hashlib.sha256(bare[0x100000:0x110000]).hexdigest()[:8]


def test_a_delta_is_what_the_programs_apply() -> None:
    found = factors(groups=("attention", "mlp", "conv"), rank=3, alpha=1.5)
    for key in [("unet", "mid_block.attentions.0.proj_in"), ("unet", "mid_block.resnets.0.conv1"), next(iter(found))]:
        down, up, alpha = found[key]
        delta = lora_file.Layer.lora(down, up, alpha).delta()
        assert delta.shape == family_modules("sd1")[key].shape
        # as A1111 and ComfyUI do it: flatten, multiply, give it the weight's shape
        theirs = (up.reshape(up.shape[0], -1) @ down.reshape(down.shape[0], -1)).reshape(delta.shape) * (alpha / 3)
        assert np.allclose(delta, theirs, rtol=1e-5, atol=1e-7)
