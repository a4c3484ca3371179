"""What programs make of each kind of layer, against their own formulas where a verdict rests on one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.lora_files import raw
from trainer.adapters.compat.inspect import inspect
from trainer.adapters.compat.inspect import main as inspect_command
from trainer.adapters.compat.verdicts import PROGRAMS, Verdict, programs
from trainer.formats.architectures import family_modules
from trainer.formats.header import read_header
from trainer.formats.names import to_kohya

Tensors = dict[str, np.ndarray]
Make = Callable[..., Tensors]
SAID = {"ss_base_model_version": "sd_v1", "modelspec.architecture": "stable-diffusion-v1/lora"}
SDXL = {"ss_base_model_version": "sdxl_base_v1-0", "modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float16)


def glora(out: int, inside: int, *kernel: int) -> Tensors:
    flat = [1] * len(kernel)
    return {"a1.weight": _ones(inside, 4, *flat), "a2.weight": _ones(4, inside, *flat), "b1.weight": _ones(out, 4, *flat),
            "b2.weight": _ones(4, inside, *kernel), "alpha": _ones()}  # fmt: skip


def old_glora(out: int, inside: int) -> Tensors:
    new = glora(out, inside)
    return {"a1.weight": new["a2.weight"], "a2.weight": new["a1.weight"], "b1.weight": new["b2.weight"],
            "b2.weight": new["b1.weight"], "alpha": np.asarray(4, np.float16)}  # fmt: skip


KINDS: dict[str, Make] = {
    "lora": lambda out, inside: {"lora_down.weight": _ones(4, inside), "lora_up.weight": _ones(out, 4)},
    "dora": lambda out, inside: {"lora_down.weight": _ones(4, inside), "lora_up.weight": _ones(out, 4),
                                 "dora_scale": _ones(1, inside)},
    "loha": lambda out, inside: {"hada_w1_a": _ones(out, 2), "hada_w1_b": _ones(2, inside), "hada_w2_a": _ones(out, 2),
                                 "hada_w2_b": _ones(2, inside)},
    "lokr": lambda out, inside: {"lokr_w1": _ones(2, 2), "lokr_w2": _ones(out // 2, inside // 2)},
    "oft": lambda out, inside: {"oft_blocks": _ones(out // 4, 4, 4), "alpha": np.zeros((), np.float16)},
    "boft": lambda out, inside: {"oft_blocks": _ones(2, out // 4, 4, 4), "alpha": np.zeros((), np.float16)},
    "ia3": lambda out, inside: {"weight": _ones(out), "on_input": np.zeros((), np.float16)},
    "glora": glora, "old glora": old_glora,
    "full": lambda out, inside: {"diff": _ones(out, inside)},
}  # fmt: skip
READERS = {
    "lora": set(PROGRAMS), "dora": set(PROGRAMS) - {"diffusers"}, "loha": set(PROGRAMS) - {"diffusers"},
    "lokr": set(PROGRAMS) - {"diffusers"}, "oft": {"a1111", "comfyui"}, "boft": {"a1111", "comfyui"},
    "ia3": {"a1111", "invokeai"}, "glora": {"forge", "comfyui"}, "old glora": {"a1111", "forge", "comfyui"},
    "full": set(PROGRAMS) - {"diffusers"},
}  # fmt: skip


def _file(path: Path, make: Make, family: str = "sd1", only: str = "", taller: int = 0) -> Path:
    tensors: Tensors = {}
    for (part, module), layer in family_modules(family).items():
        if layer.group == "attention" and only in module:
            out, inside = layer.shape
            name = to_kohya(part, module, family)
            tensors |= {f"{name}.{end}": array for end, array in make(out + taller, inside).items()}
    return raw(path / "a.safetensors", tensors, {"sd1": SAID, "sdxl": SDXL}[family])


def _judged(*args, **words) -> dict[str, Verdict]:
    return inspect(_file(*args, **words)).programs


@pytest.mark.parametrize("kind", KINDS)
def test_who_reads_a_kind_and_that_its_sizes_are_measured(tmp_path: Path, kind: str) -> None:
    found = _judged(tmp_path, KINDS[kind])
    assert {program for program, verdict in found.items() if verdict.loads} == READERS[kind]
    assert all(found[program].matched == found[program].total == 176 for program in READERS[kind])
    wrong = _judged(tmp_path, KINDS[kind], taller=8)
    others = set(PROGRAMS) - {"diffusers"}  # which takes it for a file of another base
    assert not any(wrong[program].loads or wrong[program].matched for program in others)


def test_a1111_multiplies_glora_in_an_order_that_fits_older_files_alone(tmp_path: Path) -> None:
    """Its formula, (b2 · b1) + (W · a2) · a1, on both orders."""

    def a1111(t: Tensors, weight: torch.Tensor) -> torch.Tensor:
        a1, a2, b1, b2 = (torch.from_numpy(t[f"{name}.weight"]).float() for name in ("a1", "a2", "b1", "b2"))
        return b2 @ b1 + weight @ a2 @ a1

    with pytest.raises(RuntimeError):
        a1111(glora(48, 24), torch.ones(48, 24))
    assert a1111(old_glora(48, 24), torch.ones(48, 24)).shape == (48, 24)
    verdict = _judged(tmp_path, glora)["a1111"]
    assert (verdict.loads, verdict.matched, verdict.total, verdict.reason) == (False, 0, 176, "glora_order")
    assert "order" in verdict.why
    half = _judged(tmp_path, lambda out, inside: old_glora(out, inside) | {"alpha": np.asarray(2, np.float16)})["a1111"]
    assert not half.loads and half.reason == "alpha_ignored" and "2" in half.why
    wide = {f"{to_kohya('unet', 'conv_in')}.{end}": array for end, array in glora(320, 4, 3, 3).items()}
    found = programs(read_header(raw(tmp_path / "b.safetensors", wide, SAID)))
    assert found["comfyui"].loads and found["comfyui"].matched == 1 and not found["a1111"].loads


@pytest.mark.parametrize("kind", ["oft", "boft"])
def test_a_turn_grows_with_the_square_of_the_strength_in_comfyui_which_is_an_answer_of_its_own(tmp_path, kind, capsys) -> None:
    weight, turn = torch.randn(4, 6), torch.linalg.qr(torch.randn(4, 4))[0]

    def comfyui(strength: float) -> torch.Tensor:
        return strength * ((turn * strength - strength * torch.eye(4)) @ weight)

    assert torch.allclose(comfyui(0.3), 0.09 * comfyui(1.0))
    file = _file(tmp_path, KINDS[kind])
    found = inspect(file).programs
    assert (found["comfyui"].loads, found["comfyui"].answer, found["a1111"].answer) == (True, "not_linear", "yes")
    assert "square" in found["comfyui"].why and found["comfyui"].why.startswith("Loads completely.")
    assert inspect_command([str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["programs"]
    assert set(told["comfyui"]) == {"loads", "matched", "total", "why", "answer"} and told["comfyui"]["answer"] == "not_linear"
    inspect_command([str(file)])
    assert "≈ ComfyUI" in capsys.readouterr().out


def test_a_constraint_or_rescaling_keeps_comfyui_from_drawing_an_oft_as_it_was_trained(tmp_path: Path) -> None:
    bound = _judged(tmp_path, lambda out, inside: KINDS["oft"](out, inside) | {"alpha": np.asarray(0.001, np.float32)})
    assert bound["a1111"].loads and not bound["comfyui"].loads and bound["comfyui"].reason == "bound_tight"
    rescaled = _judged(tmp_path, lambda out, inside: KINDS["oft"](out, inside) | {"rescale": _ones(out, 1)})
    assert rescaled["a1111"].loads and not rescaled["comfyui"].loads and rescaled["comfyui"].reason == "rescale_lost"


def test_comfyui_s_norm_puts_a_dora_by_row_off_by_a_small_share_of_its_effect() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=generator)
    change = 0.25 * torch.randn(64, 4, generator=generator) @ torch.randn(4, 64, generator=generator) / 2
    norm = weight.norm(dim=1, keepdim=True)
    right = norm * (weight + change) / (weight + change).norm(dim=1, keepdim=True)
    there = norm * (weight + change) / norm
    assert 0.02 < float((there - right).norm() / (right - weight).norm()) < 0.2


@pytest.mark.parametrize(("kind", "only", "family", "loads"), [
    ("lora", "attn1", "sdxl", True),  # a block's third transformer tells it
    ("lora", "down_blocks.1.attentions.0.transformer_blocks.0.attn1", "sdxl", False),
    ("lora", "attn1", "sd1", False), ("ia3", "", "sd1", True), ("ia3", "", "sdxl", True), ("ia3", "attn", "sdxl", True),
    ("ia3", "attn2", "sd1", False),
])  # fmt: skip
def test_how_invokeai_finds_the_base(tmp_path: Path, kind: str, only: str, family: str, loads: bool) -> None:
    verdict = _judged(tmp_path, KINDS[kind], family=family, only=only)["invokeai"]
    assert (verdict.loads, verdict.reason) == ((True, "ok") if loads else (False, "width"))


def test_one_layer_without_code_for_it_refuses_the_whole_file_in_invokeai_and_a1111(tmp_path: Path) -> None:
    first = {"lora_down.weight": _ones(4, 768), "lora_up.weight": _ones(320, 4)}
    name = to_kohya("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k")
    lora = {f"{name}.{end}": array for end, array in first.items()}
    mixed = lora | {f"{to_kohya('unet', 'conv_out')}.oft_blocks": _ones(2, 2, 2)}
    found = programs(read_header(raw(tmp_path / "a.safetensors", mixed, SAID)))
    assert not found["invokeai"].loads and found["invokeai"].reason == "strange_keys" and "conv_out" in found["invokeai"].why
    bias = lora | {f"{to_kohya('unet', 'conv_out')}.diff_b": _ones(4)}
    found = programs(read_header(raw(tmp_path / "b.safetensors", bias, SAID)))
    assert {program for program in ("a1111", "invokeai") if found[program].reason == "strange_keys"} == {"a1111", "invokeai"}
    assert found["comfyui"].loads and found["comfyui"].matched == 2


@pytest.mark.parametrize(("make", "note"), [
    (KINDS["dora"], "lycoris_dora"), (KINDS["ia3"], "lycoris_ia3"), (KINDS["oft"], None), (KINDS["lora"], None),
    (lambda out, inside: {"oft_blocks": _ones(5, out // 5, out // 5), "alpha": _ones()}, "lycoris_oft"),
])  # fmt: skip
def test_what_lycoris_s_own_loader_does_not_read_is_said(tmp_path: Path, capsys, make: Make, note: str | None) -> None:
    file = _file(tmp_path, make, only="down_blocks.0")
    assert inspect(file).notes == ((note,) if note else ())
    inspect_command([str(file)])
    assert ("LyCORIS's own loader" in capsys.readouterr().out) == bool(note)
