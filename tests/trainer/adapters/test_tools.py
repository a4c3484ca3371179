"""Files from files: merge, resize, extract, bake. They do what the sum of their parts does, and overwrite nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.lora_files import factors, facts, raw
from trainer.adapters import file as lora_file
from trainer.adapters.fold import LoraStrength
from trainer.adapters.tools.bake import bake
from trainer.adapters.tools.base_weights import BaseWeights
from trainer.adapters.tools.extract import extract
from trainer.adapters.tools.merge import merge, resize
from trainer.adapters.tools.reduce import singular
from trainer.bases import catalog
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.formats.architectures import TextEncoder, UNet, family_modules, modules
from trainer.formats.header import read_header
from trainer.formats.layers import Layer
from trainer.formats.names import to_sgm

SMALL = modules(UNet((32, 64), (1, 0), 32, layers_per_block=1), {"text_encoder": TextEncoder(2, 32, 64)})
ALL = ("attention", "mlp", "conv")
TO_Q = ("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
CONV = ("unet", "down_blocks.0.resnets.0.conv1")


def _file(path: Path, rank: int = 4, alpha: float = 2.0, seed: int = 0, **said: str) -> Path:
    return lora_file.write(path, factors(SMALL, rank, alpha, ALL, seed), said, "fp32")


def _loha(path: Path) -> Path:
    rng = np.random.default_rng(5)
    found = {}
    for place, (rows, columns) in ((TO_Q, (32, 32)), (CONV, (32, 32 * 9))):
        shapes = {f"hada_w{i}_{s}": (rows, 3) if s == "a" else (3, columns) for i in "12" for s in "ab"}
        found[place] = Layer({n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}, 2.0)
    return lora_file.write(path, found, {}, "fp32")


def _deltas(path: Path) -> dict:
    return {place: layer.delta() for place, layer in lora_file.normalise(path).modules.items()}


def _code(act) -> str:
    with pytest.raises(Problem) as told:
        act()
    assert str(told.value)
    return told.value.code


def test_a_merge_side_by_side_is_exactly_the_weighted_sum(tmp_path: Path) -> None:
    one = _file(tmp_path / "one.safetensors", 4, 2.0, 0, **{"ss_v2": "False", "modelspec.trigger_phrase": "fox"})
    two = _file(tmp_path / "two.safetensors", 3, 5.0, 1, **{"modelspec.trigger_phrase": "cat"})
    out = merge([LoraStrength(one, 0.7, 0.2), LoraStrength(two, -0.5, 0.0)], tmp_path / "both.safetensors", dtype="fp32")
    a, b, both = _deltas(one), _deltas(two), _deltas(out)
    for (part, module), delta in both.items():
        wanted = 0.7 * a[part, module] - 0.5 * b[part, module] if part == "unet" else 0.2 * a[part, module]
        assert np.allclose(delta, wanted, rtol=1e-5, atol=1e-7)
    layers = lora_file.normalise(out).modules
    assert {layers[place].rank for place in layers if place[0] == "unet"} == {7}
    said = read_header(out).metadata
    assert said["modelspec.merged_from"] == "one, two" and said["modelspec.trigger_phrase"] == "fox, cat"
    assert said["ss_network_dim"] == "Dynamic" and said["ss_output_name"] == "both" and said["ss_v2"] == "False"
    sources = json.loads(said["atelier.tool"])["from"]
    assert sources[0]["hash"] == read_header(one).metadata["sshs_model_hash"] and sources[1]["unet"] == -0.5


def test_a_merge_to_a_rank_is_the_best_one_of_that_rank(tmp_path: Path) -> None:
    one, two = _file(tmp_path / "one.safetensors"), _loha(tmp_path / "two.safetensors")
    out = merge([LoraStrength(one), LoraStrength(two)], tmp_path / "both.safetensors", rank=5, dtype="fp32")
    a, b, both = _deltas(one), _deltas(two), _deltas(out)
    for place in (TO_Q, CONV):
        wanted = (a[place] + b[place].reshape(a[place].shape)).reshape(32, -1).astype(np.float64)
        u, sigma, vt = np.linalg.svd(wanted, full_matrices=False)
        best = (u[:, :5] * sigma[:5]) @ vt[:5]
        assert np.abs(both[place].reshape(32, -1) - best).max() <= 1e-5 * np.abs(best).max()
    assert both[CONV].shape == (32, 32, 3, 3)


@pytest.mark.parametrize(("words", "ranks"), [({"rank": 2}, {2}), ({"rank": 64}, {4}), ({"energy": 1.0}, {4})])
def test_resize_keeps_the_strongest_directions(tmp_path: Path, words: dict, ranks: set) -> None:
    one = _file(tmp_path / "one.safetensors", 4, 2.0, 0, ss_output_name="one", ssmd_cover_images="[]")
    out = resize(one, tmp_path / "small.safetensors", dtype="fp32", **words)
    layers = lora_file.normalise(out).modules
    assert {layer.rank for place, layer in layers.items() if place != ("unet", "conv_out")} == ranks
    assert all(layer.scale == 1 for layer in layers.values())
    before, after = _deltas(one), _deltas(out)
    for place in (TO_Q, CONV):
        u, sigma, vt = np.linalg.svd(before[place].reshape(32, -1).astype(np.float64), full_matrices=False)
        r = min(ranks)
        assert np.allclose(after[place].reshape(32, -1), (u[:, :r] * sigma[:r]) @ vt[:r], atol=1e-6)
    assert read_header(out).metadata["ssmd_cover_images"] == "[]" and read_header(out).metadata["ss_output_name"] == "small"


def test_resize_by_energy_keeps_that_share_in_every_layer(tmp_path: Path) -> None:
    one = _file(tmp_path / "one.safetensors", 8)
    out = resize(one, tmp_path / "small.safetensors", energy=0.9, dtype="fp32")
    before, after, layers = _deltas(one), _deltas(out), lora_file.normalise(out).modules
    for place, delta in before.items():
        sigma = np.linalg.svd(delta.reshape(delta.shape[0], -1).astype(np.float64), compute_uv=False)
        share = np.cumsum(sigma**2) / np.sum(sigma**2)
        assert layers[place].rank == int(np.argmax(share >= 0.9)) + 1
        assert np.sum(after[place] ** 2) >= 0.9 * np.sum(delta**2) * (1 - 1e-5)


def test_a_loha_becomes_a_plain_lora_any_program_reads(tmp_path: Path) -> None:
    loha = _loha(tmp_path / "a.safetensors")
    out = resize(loha, tmp_path / "b.safetensors", rank=9, dtype="fp32")  # 3 · 3: the rank a product of rank 3 can have
    before, after = _deltas(loha), _deltas(out)
    for place, delta in before.items():
        assert np.abs(after[place].reshape(delta.shape) - delta).max() <= 1e-5 * np.abs(delta).max()
    assert lora_file.normalise(out).modules[CONV].down.shape == (9, 32, 3, 3)


def test_what_cannot_be_done_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    one, loha, out = _file(tmp_path / "one.safetensors"), _loha(tmp_path / "loha.safetensors"), tmp_path / "out.safetensors"
    dora = Layer({"down": np.ones((1, 32), "f4"), "up": np.ones((32, 1), "f4"), "dora": np.ones((1, 32), "f4")}, 1.0)
    size = lora_file.write(tmp_path / "dora.safetensors", {TO_Q: dora}, {}, "fp32")
    cross = ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k")
    big, sd1 = (
        lora_file.write(tmp_path / f"{family}.safetensors", {
            cross: Layer.lora(np.ones((1, width), "f4"), np.ones((640, 1), "f4"), 1)}, {}, "fp32", family)
        for family, width in (("sdxl", 2048), ("sd1", 768))
    )  # fmt: skip
    assert _code(lambda: merge([LoraStrength(one)], out)) == "merge_few"
    assert _code(lambda: merge([LoraStrength(one), LoraStrength(loha)], out)) == "merge_needs_rank"
    assert _code(lambda: merge([LoraStrength(one, 0, 0), LoraStrength(loha, 0, 0)], out)) == "merge_nothing"
    assert _code(lambda: merge([LoraStrength(sd1), LoraStrength(big)], out)) == "merge_family"
    assert _code(lambda: merge([LoraStrength(one), LoraStrength(size)], out)) == "tool_needs_base"
    ia3 = lora_file.write(tmp_path / "ia3.safetensors", {TO_Q: _ia3()}, {}, "fp32")
    assert _code(lambda: resize(ia3, out, rank=4)) == "tool_needs_base"
    assert _code(lambda: merge([LoraStrength(one), LoraStrength(one)], one)) == "out_exists"
    assert _code(lambda: resize(one, out)) == "resize_how"
    assert _code(lambda: resize(one, out, rank=0)) == "rank_range"
    assert _code(lambda: resize(one, out, energy=1.5)) == "energy_range"
    assert not out.exists()


def _ia3() -> Layer:
    return Layer({"ia3": np.linspace(-0.2, 0.3, 32, dtype="f4"), "ia3_in": np.zeros((), "f4")}, 1.0)


def _dora(path: Path, rows: bool = False, rank: int = 4) -> Path:
    rng = np.random.default_rng(3)
    found = {}
    for place, (down, up, alpha) in factors(SMALL, rank, 2.0, ALL).items():
        shape = (up.shape[0], *[1] * (down.ndim - 1)) if rows else (1, down.shape[1], *[1] * (down.ndim - 2))
        size = 1 + 0.1 * rng.standard_normal(shape).astype("f4")
        found[place] = Layer({"down": down, "up": up, "dora": size}, alpha)
    said = {"ss_network_args": '{"dora_wd": "True"}', "ss_network_module": "networks.lora"}
    return lora_file.write(path, found, said, "fp32")


def test_a_dora_is_cut_down_as_one_and_every_taught_norm_stays(tmp_path: Path) -> None:
    dora = _dora(tmp_path / "dora.safetensors")
    whole, small = (resize(dora, tmp_path / f"{r}.safetensors", rank=r, dtype="fp32") for r in (4, 2))
    weight = np.random.default_rng(1).standard_normal((32, 32)).astype("f4")
    before, same, less = (lora_file.normalise(path).modules[TO_Q] for path in (dora, whole, small))
    assert np.allclose(same.delta(weight), before.delta(weight), atol=1e-5)
    assert less.kind == "dora" and less.rank == 2
    norms = [np.linalg.norm(weight + layer.delta(weight), axis=0) for layer in (before, less)]
    assert np.allclose(*norms, rtol=1e-5)
    assert "dora_wd" in read_header(small).metadata["ss_network_args"]


def test_with_the_base_a_dora_and_an_ia3_become_a_plain_lora_and_merge(tmp_path: Path) -> None:
    base = catalog.find(Home(tmp_path / "home").create(), "mini")
    held = BaseWeights(base)
    place = next(place for place in held.spots if place[1].endswith("attn1.to_q"))
    weight = held.read(place)
    rng, (rows, columns) = np.random.default_rng(0), weight.shape
    down, up = (0.05 * rng.standard_normal(shape).astype("f4") for shape in ((2, columns), (rows, 2)))
    size = np.linalg.norm(weight, axis=0, keepdims=True).astype("f4") * 1.1
    ia3 = Layer({"ia3": np.linspace(-0.2, 0.3, rows, dtype="f4"), "ia3_in": np.zeros((), "f4")}, 1.0)
    layers = {"dora": Layer({"down": down, "up": up, "dora": size}, 2.0), "ia3": ia3}
    paths = {
        name: lora_file.write(tmp_path / f"{name}.safetensors", {place: layer}, {}, "fp32") for name, layer in layers.items()
    }
    wanted = {name: layer.delta(weight) for name, layer in layers.items()}
    one = resize(paths["dora"], tmp_path / "one.safetensors", rank=rows, dtype="fp32", base=base)
    assert lora_file.normalise(one).modules[place].kind == "lora"
    assert np.allclose(_deltas(one)[place], wanted["dora"], atol=1e-5)
    both = [LoraStrength(paths["dora"], 0.5), LoraStrength(paths["ia3"])]
    assert _code(lambda: merge(both, tmp_path / "both.safetensors", base=base)) == "merge_needs_rank"
    out = merge(both, tmp_path / "both.safetensors", rank=rows, dtype="fp32", base=base)
    assert np.allclose(_deltas(out)[place], 0.5 * wanted["dora"] + wanted["ia3"], atol=1e-5)


def test_a_bias_goes_through_resize_and_merge(tmp_path: Path) -> None:
    down, up, alpha = factors(SMALL)[TO_Q]
    bias = np.arange(32, dtype="f4")
    layer = Layer({"down": down, "up": up, "diff_b": bias}, alpha)
    path = lora_file.write(tmp_path / "b.safetensors", {TO_Q: layer}, {}, "fp32")
    small = resize(path, tmp_path / "s.safetensors", rank=2, dtype="fp32")
    both = merge([LoraStrength(path, 0.5), LoraStrength(path, 2.0)], tmp_path / "m.safetensors", dtype="fp32")
    assert np.array_equal(lora_file.normalise(small).modules[TO_Q].bias, bias)
    assert np.allclose(lora_file.normalise(both).modules[TO_Q].bias, 2.5 * bias)


def test_the_quick_decomposition_is_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    for shape in ((6, 20), (20, 6), (7, 7)):
        matrix = rng.standard_normal(shape)
        u, sigma, vt = singular(matrix)
        assert np.allclose(sigma[:6], np.linalg.svd(matrix, compute_uv=False)[:6]) and np.allclose((u * sigma) @ vt, matrix)


# --- bases ------------------------------------------------------------------------------------------------------------


def _folder(path: Path, seed: int, change: dict | None = None) -> Path:
    """A diffusers folder with the weights of SMALL alone."""
    rng = np.random.default_rng(seed)
    configs = {
        "unet": {"block_out_channels": [32, 64], "cross_attention_dim": 32, "layers_per_block": 1,
                 "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]},
        "text_encoder": {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64},
    }  # fmt: skip
    for part, file in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (path / part).mkdir(parents=True)
        (path / part / "config.json").write_text(json.dumps(configs[part]))
        weights = {}
        for place, module in SMALL.items():
            if place[0] == part:
                weight = rng.standard_normal(module.shape).astype(np.float32)
                weights[f"{place[1]}.weight"] = weight + (change or {}).get(place, 0)
        raw(path / part / f"{file}.safetensors", weights)
    return path


def test_extract_finds_the_lora_again_that_bake_put_in(tmp_path: Path) -> None:
    base = facts(path=_folder(tmp_path / "base", 0), layout="folder")
    assert base.path is not None
    before = {file: file.read_bytes() for file in base.path.rglob("*.safetensors")}
    lora = _file(tmp_path / "a.safetensors", 3, 3.0)
    told: list[tuple[int, int]] = []
    new = bake(base, [LoraStrength(lora, 0.5, 2.0)], tmp_path / "new", lambda done, of: told.append((done, of)))
    tuned = facts(path=new, layout="folder")
    assert {file: file.read_bytes() for file in before} == before and told[-1] == (len(SMALL), len(SMALL))
    assert (new / "unet" / "config.json").exists() and not list(tmp_path.glob(".new*"))
    found = extract(base, tuned, tmp_path / "b.safetensors", rank=3, targets="all", dtype="fp32")
    given, back = _deltas(lora), _deltas(found)
    for place, delta in given.items():
        strength = 0.5 if place[0] == "unet" else 2.0
        assert np.allclose(back[place].reshape(delta.shape), delta * strength, atol=1e-5)
    assert read_header(found).metadata["modelspec.merged_from"] == "new"
    assert _code(lambda: extract(base, base, tmp_path / "c.safetensors", rank=3)) == "extract_same"
    assert _code(lambda: bake(base, [LoraStrength(lora)], new)) == "out_exists"


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_every_layer_of_a_single_file_is_found_and_baked_in_place(tmp_path: Path, family: str) -> None:
    """Names as the original code writes them, the weights small; OpenCLIP's q, k and v stand in one tensor."""
    clip = {"sd1": "cond_stage_model.transformer.text_model", "sdxl": "conditioner.embedders.0.transformer.text_model"}
    blocks = "model.transformer.resblocks"
    wide = {"sd2": f"cond_stage_model.{blocks}", "sdxl": f"conditioner.embedders.1.{blocks}"}
    layers = {place for place in family_modules(family)
              if place[0] == "unet" or int(place[1].split(".")[2]) < 2}  # fmt: skip
    tensors: dict[str, np.ndarray] = {}
    for part, module in layers:
        if part == "unet":
            tensors[f"model.diffusion_model.{to_sgm(module, family)}.weight"] = np.ones((4, 4), np.float16)
        elif part == "text_encoder" and family != "sd2":
            tensors[f"{clip[family]}.{module}.weight"] = np.ones((4, 4), np.float16)
        else:
            block = f"{wide[family]}.{module.split('.')[2]}"
            tensors[f"{block}.attn.in_proj_weight"] = np.arange(48, dtype=np.float16).reshape(12, 4)
            for name in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj"):
                tensors[f"{block}.{name}.weight"] = np.ones((4, 4), np.float16)
    base = facts(path=raw(tmp_path / "base.safetensors", tensors), layout="file", family=family)
    weights = BaseWeights(base)
    assert set(weights.spots) == layers
    text = "text_encoder_2" if family == "sdxl" else "text_encoder"
    place = (text, "encoder.layers.1.self_attn.k_proj")
    change = Layer({"diff": np.full((4, 4), 0.5, np.float32)}, 1.0)
    attention = ("unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    cross = Layer.lora(np.zeros((1, {"sd1": 768, "sd2": 1024, "sdxl": 2048}[family]), "f4"), np.zeros((1280, 1), "f4"), 1)
    lora = lora_file.write(tmp_path / "a.safetensors", {place: change, attention: cross}, {}, "fp32", family)
    new = bake(base, [LoraStrength(lora)], tmp_path / "new.safetensors")
    after = BaseWeights(facts(path=new, layout="file", family=family))
    for spot in layers:
        assert np.array_equal(after.read(spot), weights.read(spot) + (0.5 if spot == place else 0))
    said = read_header(new).metadata
    assert said["modelspec.title"] == "new" and said["modelspec.license"] == base.licence
    assert json.loads(said["atelier.tool"])["loras"][0]["name"] == "a" and "sshs_model_hash" not in said
