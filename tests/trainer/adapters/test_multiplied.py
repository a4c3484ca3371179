"""OFT, (IA)³, GLoRA, differences of biases and norms: each against its rule written out a second time in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.lora_files import raw
from trainer.adapters import file as lora_file
from trainer.adapters.compat.inspect import inspect
from trainer.core.problem import Problem
from trainer.formats import multiplied
from trainer.formats.header import read_header
from trainer.formats.names import to_kohya

LINEAR, CONV = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1"
OUT, IN, R = 12, 8, 3
Tensors = dict[str, np.ndarray]


def _some(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape).astype(np.float32)


def _alpha(value: float) -> np.ndarray:
    return np.asarray(value, np.float32)


def _blocks(bound: float, rescale: bool = False) -> Tensors:
    blocks = {"oft_blocks": _some(4, 3, 3), "alpha": _alpha(bound)}
    return blocks | ({"rescale": 1 + 0.1 * _some(OUT, 1)} if rescale else {})


KINDS: dict[str, tuple[str, Tensors]] = {
    "oft": (LINEAR, _blocks(0.0)), "oft bound": (LINEAR, _blocks(0.05)), "oft conv": (CONV, _blocks(0.0, rescale=True)),
    "ia3 out": (LINEAR, {"weight": _some(OUT, 1), "on_input": np.array(0)}),
    "ia3 in": (CONV, {"weight": _some(1, IN, 1, 1), "on_input": np.array(True)}),
    "glora": (LINEAR, {"a1.weight": _some(IN, R), "a2.weight": _some(R, IN), "b1.weight": _some(OUT, R),
                       "b2.weight": _some(R, IN), "alpha": _alpha(2)}),
    "glora conv": (CONV, {"a1.weight": _some(IN, R, 1, 1), "a2.weight": _some(R, IN, 1, 1),
                          "b1.weight": _some(OUT, R, 1, 1), "b2.weight": _some(R, IN, 3, 3), "alpha": _alpha(2)}),
    "glora old": (LINEAR, {"a2.weight": _some(IN, R), "a1.weight": _some(R, IN), "b2.weight": _some(OUT, R),
                           "b1.weight": _some(R, IN), "alpha": _alpha(2)}),
}  # fmt: skip


def _rule(kind: str, given: Tensors, weight: torch.Tensor) -> torch.Tensor:
    t = {name: torch.from_numpy(np.asarray(array)).double() for name, array in given.items()}
    if kind.startswith("oft"):
        q = t["oft_blocks"] - t["oft_blocks"].mT
        if t["alpha"] > 0:
            q = q * min(1.0, float(t["alpha"] * OUT / q.norm()))
        one = torch.eye(3, dtype=torch.float64)
        turn = torch.block_diag(*[(one + block) @ torch.linalg.inv(one - block) for block in q])
        new = torch.einsum("nm,n...->m...", turn, weight)
        return (new * t["rescale"].reshape(-1, 1, 1, 1) if "rescale" in t else new) - weight
    if kind.startswith("ia3"):
        along = (1, -1, 1, 1)[: weight.ndim] if t["on_input"] else (-1, 1)
        return weight * t["weight"].reshape(along)
    a1, a2, b1, b2 = (t[f"{name}.weight"].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if kind == "glora old":
        a1, a2, b1, b2 = a2, a1, b2, b1
    return (torch.einsum("oi...,ij->oj...", weight, a1 @ a2) + (b1 @ b2).reshape(weight.shape)) * 2 / R


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_multiplies_the_weight_does_what_its_rule_says(tmp_path: Path, kind: str) -> None:
    module, tensors = KINDS[kind]
    weight = _some(OUT, IN, 3, 3) if module == CONV else _some(OUT, IN)
    named = {f"{to_kohya('unet', module)}.{end}": np.asarray(array) for end, array in tensors.items()}
    path = raw(tmp_path / "a.safetensors", named)
    layer = lora_file.normalise(path).modules["unet", module]
    wanted = _rule(kind, tensors, torch.from_numpy(weight).double())
    assert np.abs(layer.delta(weight) - wanted.numpy()).max() <= 1e-5 * wanted.abs().max()
    there = layer.moved(lambda array: torch.from_numpy(np.ascontiguousarray(array))).delta(torch.from_numpy(weight))
    assert torch.allclose(there.double(), wanted, rtol=1e-4, atol=1e-5)
    assert layer.fits(weight.shape) and not layer.fits((OUT + 1, IN + 1, *weight.shape[2:]))
    with pytest.raises(ValueError, match=layer.kind):
        layer.delta()
    again = lora_file.write(tmp_path / "b.safetensors", {("unet", module): layer}, {}, "fp32")
    assert np.array_equal(lora_file.normalise(again).modules["unet", module].delta(weight), layer.delta(weight))
    assert inspect(path).format.kind == kind.split()[0] == layer.kind


@pytest.mark.parametrize("program", ["networks.oft", "lycoris.kohya", ""])
def test_a_constraint_bounds_oft_by_its_product_with_the_rows_whoever_wrote_the_file(tmp_path: Path, program: str) -> None:
    module, tensors = KINDS["oft bound"]
    named = {f"{to_kohya('unet', module)}.{end}": np.asarray(array) for end, array in tensors.items()}
    layer = lora_file.normalise(raw(tmp_path / "a.safetensors", named, {"ss_network_module": program} if program else None))
    blocks = layer.modules["unet", module].tensors["oft_blocks"]
    turn = multiplied.generator(blocks, multiplied.bound(blocks, layer.modules["unet", module].alpha))
    assert np.linalg.norm(turn) == pytest.approx(0.05 * OUT)


def test_boft_is_read_and_judged_for_each_program(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", {f"{to_kohya('unet', LINEAR)}.oft_blocks": _some(2, 80, 4, 4)})
    layer = lora_file.normalise(path).modules["unet", LINEAR]
    weight = _some(320, 320)
    assert layer.fits(weight.shape) and not layer.fits((324, 320))
    turned = weight + layer.delta(weight)  # rows are turned among each other: all lengths and angles of columns stay
    assert np.allclose(turned.T @ turned, weight.T @ weight, atol=0.05) and not np.allclose(turned, weight, atol=1.0)
    for shape in ((2, 80, 3, 3), (3, 82, 4, 4), (2, 80, 4, 2)):
        wrong = raw(tmp_path / "b.safetensors", {f"{to_kohya('unet', LINEAR)}.oft_blocks": _some(*shape)})
        with pytest.raises(Problem, match="fit"):
            lora_file.normalise(wrong)
    found = inspect(path)
    assert found.format.kind == "boft"
    assert {name for name, verdict in found.programs.items() if verdict.reason == "kind"} == {"forge", "invokeai", "diffusers"}


def test_an_older_glora_of_a_square_layer_is_told_by_its_rank(tmp_path: Path) -> None:
    named = {f"{to_kohya('unet', LINEAR)}.{end}": array for end, array in {
        "a2.weight": _some(IN, R), "a1.weight": _some(R, IN), "b2.weight": _some(IN, R), "b1.weight": _some(R, IN),
        "alpha": np.float32(R)}.items()}  # fmt: skip
    path = raw(tmp_path / "a.safetensors", {key: np.asarray(array) for key, array in named.items()})
    layer = lora_file.normalise(path).modules["unet", LINEAR]
    weight = _some(IN, IN)
    t = {end.partition(".")[2]: array for end, array in named.items()}
    wanted = weight @ t["a2.weight"] @ t["a1.weight"] + t["b2.weight"] @ t["b1.weight"]
    assert layer.fits(weight.shape) and np.allclose(layer.delta(weight), wanted, rtol=1e-4, atol=1e-4)


def test_differences_of_biases_and_norms_are_read_and_counted(tmp_path: Path) -> None:
    norm, final = "lora_unet_down_blocks_0_attentions_0_norm", "lora_te_text_model_final_layer_norm"
    conv = to_kohya("unet", CONV)
    tensors = {
        f"{norm}.w_norm": _some(320), f"{norm}.b_norm": _some(320),
        f"{final}.w_norm": _some(768), f"{final}.b_norm": _some(768),
        f"{conv}.diff": _some(320, 320, 3, 3), f"{conv}.diff_b": _some(320),
        f"{to_kohya('unet', 'conv_out')}.diff_b": _some(4),
    }  # fmt: skip
    path = raw(tmp_path / "a.safetensors", tensors)
    found = lora_file.normalise(path)
    assert found.unknown == () and len(found.modules) == 4
    layer = found.modules["unet", "down_blocks.0.attentions.0.norm"]
    assert np.array_equal(layer.delta(), tensors[f"{norm}.w_norm"]) and np.array_equal(layer.bias, tensors[f"{norm}.b_norm"])
    assert layer.fits((320,)) and found.modules["text_encoder", "final_layer_norm"].fits((768,))
    alone = found.modules["unet", "conv_out"]
    assert alone.kind == "full" and alone.fits((4, 320, 3, 3)) and not alone.fits((5, 320, 3, 3))
    verdicts = inspect(path).programs
    assert verdicts["comfyui"].loads and verdicts["comfyui"].matched == 4 and not verdicts["diffusers"].loads
    again = lora_file.write(tmp_path / "b.safetensors", found.modules, {}, "fp32")
    assert lora_file.normalise(again).modules.keys() == found.modules.keys()
    assert len(read_header(again).tensors) == len(tensors) + 1  # the convolution's alpha
