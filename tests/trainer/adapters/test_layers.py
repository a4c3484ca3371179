"""Every kind of adapter against each program's own documented rule, written out here a second time in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.lora_files import raw
from trainer.adapters import file as lora_file
from trainer.formats.layers import Layer
from trainer.formats.names import to_kohya

LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
R, OUT, IN = 4, 12, 8


def _some(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape) + len(shape))
    return rng.standard_normal(shape).astype(np.float32)


KINDS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "lora": (LINEAR, {"down": _some(R, IN), "up": _some(OUT, R)}),
    "locon": (CONV, {"down": _some(R, IN, 3, 3), "up": _some(OUT, R, 1, 1)}),
    "tucker": (CONV, {"down": _some(R, IN, 1, 1), "mid": _some(R, R, 3, 3), "up": _some(OUT, R, 1, 1)}),
    "dora": (LINEAR, {"down": _some(R, IN), "up": _some(OUT, R), "dora": 1 + abs(_some(1, IN))}),
    "dora conv": (CONV, {"down": _some(R, IN, 3, 3), "up": _some(OUT, R, 1, 1), "dora": 1 + abs(_some(1, IN, 1, 1))}),
    "loha": (LINEAR, {"hada_w1_a": _some(OUT, R), "hada_w1_b": _some(R, IN), "hada_w2_a": _some(OUT, R) + 1,
                      "hada_w2_b": _some(R, IN) - 1}),
    "loha conv": (CONV, {"hada_w1_a": _some(OUT, R), "hada_w1_b": _some(R, IN * 9), "hada_w2_a": _some(OUT, R) + 1,
                         "hada_w2_b": _some(R, IN * 9) - 1}),
    "loha tucker": (CONV, {"hada_t1": _some(R, R, 3, 3), "hada_w1_a": _some(R, OUT), "hada_w1_b": _some(R, IN),
                           "hada_t2": _some(R, R, 3, 3) + 1, "hada_w2_a": _some(R, OUT), "hada_w2_b": _some(R, IN)}),
    "lokr": (LINEAR, {"lokr_w1": _some(2, 4), "lokr_w2_a": _some(6, R), "lokr_w2_b": _some(R, 2)}),
    "lokr whole": (LINEAR, {"lokr_w1": _some(2, 4), "lokr_w2": _some(6, 2)}),
    "lokr conv": (CONV, {"lokr_w1_a": _some(2, R), "lokr_w1_b": _some(R, 4), "lokr_w2": _some(6, 2, 3, 3)}),
    "full": (CONV, {"diff": _some(OUT, IN, 3, 3)}),
}  # fmt: skip


def _rule(t: dict[str, torch.Tensor], alpha: float, weight: torch.Tensor) -> torch.Tensor:
    """What A1111, ComfyUI and LyCORIS document, by einsum and torch.kron."""

    def wide(name: str, core: str) -> torch.Tensor:
        if f"lokr_{name}" in t:
            return t[f"lokr_{name}"]
        kind = "lokr" if f"lokr_{name}_a" in t else "hada"
        a, b = t[f"{kind}_{name}_a"], t[f"{kind}_{name}_b"]
        return torch.einsum("ijkl,jr,ip->prkl", t[core], b, a) if core in t else a @ b

    scale = alpha / R
    if "down" in t and "mid" in t:
        change = torch.einsum("on,nmkl,mi->oikl", t["up"].flatten(1), t["mid"], t["down"].flatten(1))
    elif "down" in t:
        change = t["up"].flatten(1) @ t["down"].flatten(1)
    elif "hada_w1_a" in t:
        change = wide("w1", "hada_t1") * wide("w2", "hada_t2")
    elif "diff" in t:
        change, scale = t["diff"], 1.0
    else:
        one, two = wide("w1", "lokr_t1"), wide("w2", "lokr_t2")
        scale = 1.0 if "lokr_w1" in t and "lokr_w2" in t else scale
        change = torch.kron(one[..., None, None] if two.ndim == 4 else one, two)
    change = change.reshape(weight.shape) * scale
    if "dora" in t:  # by input column, as A1111 and ComfyUI do for dora_scale [1, in]
        merged = weight + change
        norm = merged.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (weight.ndim - 2))
        change = merged * t["dora"] / norm - weight
    return change


@pytest.mark.parametrize("kind", KINDS)
def test_the_change_of_every_kind_is_the_programs_documented_one(tmp_path: Path, kind: str) -> None:
    module, tensors = KINDS[kind]
    weight = _some(OUT, IN, 3, 3) if module == CONV else _some(OUT, IN)
    path = lora_file.write(tmp_path / "a.safetensors", {("unet", module): Layer(tensors, 3.0)}, {}, "fp32")
    found = lora_file.normalise(path).modules["unet", module]
    wanted = _rule({k: torch.from_numpy(v).double() for k, v in tensors.items()}, 3.0, torch.from_numpy(weight).double())
    assert np.abs(found.delta(weight) - wanted.numpy()).max() <= 1e-5 * wanted.abs().max()
    there = found.moved(torch.from_numpy).delta(torch.from_numpy(weight))
    assert torch.allclose(there.double(), wanted, rtol=1e-5, atol=1e-5)
    assert found.fits(weight.shape) and not found.fits((OUT + 1, *weight.shape[1:]))


def test_t4_the_magnitude_of_dora_is_by_input_column_and_peft_s_by_output_row(tmp_path: Path) -> None:
    """A square layer tells the two apart by the first axis alone; PEFT's has no axis."""
    side, weight = 6, _some(6, 6)
    down, up, m = _some(2, side), _some(side, 2), 1 + abs(_some(side))
    name = to_kohya("unet", LINEAR)
    kohya = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": np.float32(2)}
    peft = {f"unet.{LINEAR}.lora_A.weight": down, f"unet.{LINEAR}.lora_B.weight": up}
    merged = weight + up @ down
    for tensors, axis in (
        (kohya | {f"{name}.dora_scale": m.reshape(1, -1)}, 0),
        (kohya | {f"{name}.dora_scale": m.reshape(-1, 1)}, 1),
        (peft | {f"unet.{LINEAR}.lora_magnitude_vector": m}, 1),
    ):
        path = raw(tmp_path / "a.safetensors", {key: np.asarray(value) for key, value in tensors.items()})
        found = lora_file.normalise(path).modules["unet", LINEAR]
        m_along = m.reshape(1, -1) if axis == 0 else m.reshape(-1, 1)
        wanted = merged * m_along / np.linalg.norm(merged, axis=axis, keepdims=True)
        assert np.allclose(weight + found.delta(weight), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_written_and_read_back_exactly(tmp_path: Path, kind: str) -> None:
    module, tensors = KINDS[kind]
    first = lora_file.write(tmp_path / "a.safetensors", {("unet", module): Layer(tensors, 3.0)}, {}, "fp32")
    found = lora_file.normalise(first).modules["unet", module]
    assert found.alpha == 3.0 and all(np.array_equal(found.tensors[name], value) for name, value in tensors.items())
    again = lora_file.write(tmp_path / "b.safetensors", lora_file.normalise(first).modules, {}, "fp32")
    assert first.read_bytes() == again.read_bytes()


def test_a_magnitude_that_fits_neither_rows_nor_columns_is_refused(tmp_path: Path) -> None:
    wrong = Layer({"down": _some(R, IN), "up": _some(OUT, R), "dora": _some(1, IN + 1)}, 1.0)
    assert wrong.size is None
    with pytest.raises(ValueError, match="no factors"):
        lora_file.write(tmp_path / "a.safetensors", {("unet", LINEAR): wrong}, {})
    with pytest.raises(ValueError, match="base"):
        Layer(KINDS["dora"][1], 1.0).delta()
