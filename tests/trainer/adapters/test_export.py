"""From one layout to the other and back, exactly; and diffusers itself asked what it makes of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.helpers.lora_files import factors, raw
from trainer.adapters import file as lora_file
from trainer.adapters.export import ALPHAS, export
from trainer.core.problem import Problem
from trainer.formats.architectures import TextEncoder, UNet, modules
from trainer.formats.header import read_header
from trainer.formats.layers import Layer

SMALL = modules(UNet((32, 64), (1, 0), 32, layers_per_block=1), {"text_encoder": TextEncoder(2, 32, 64)})


def _mixed(alpha: float) -> dict:
    """Attention at rank 4, convolutions at rank 2 with an alpha of their own."""
    return factors(SMALL, 4, alpha) | factors(SMALL, 2, 1.0, ("conv",), seed=1)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("alpha", [4.0, 2.0, 3.0, 0.7])
def test_kohya_to_diffusers_and_back_gives_the_same_bytes(tmp_path: Path, dtype: str, alpha: float) -> None:
    said = {"ss_output_name": "fox", "modelspec.title": "fox"}
    bare = lora_file.write(tmp_path / "bare.safetensors", _mixed(alpha), said, dtype)
    first = export(bare, "kohya", tmp_path / "a.safetensors")  # with what programs file it under
    there = export(first, "diffusers", tmp_path / "b.safetensors")
    assert all(key.startswith(("unet.", "text_encoder.text_model.")) for key in read_header(there).tensors)
    back = export(there, "kohya", tmp_path / "c.safetensors")
    assert back.read_bytes() == first.read_bytes()
    assert export(first, "kohya", tmp_path / "d.safetensors").read_bytes() == first.read_bytes()


def test_t1_alpha_is_in_the_factor_so_that_no_loader_can_miss_it(tmp_path: Path) -> None:
    first = lora_file.write(tmp_path / "a.safetensors", _mixed(3.0), {}, "fp16")
    there = export(first, "diffusers", tmp_path / "b.safetensors")
    tensors = lora_file.read_tensors(there)
    ours = lora_file.normalise(first).modules
    for (part, module), layer in ours.items():
        name = f"{part}.{module}" if part == "unet" else f"{part}.text_model.{module}"
        a, b = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
        alpha_is_r = Layer.lora(a, b, float(a.shape[0]))
        assert np.allclose(alpha_is_r.delta(), layer.delta(), rtol=1e-5, atol=1e-8)
    read = lora_file.normalise(there).modules
    assert all(np.allclose(read[key].delta(), layer.delta(), rtol=1e-5, atol=1e-8) for key, layer in ours.items())


def test_what_diffusers_layout_cannot_say_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {f"hada_w{i}_{s}": (32, 2) if s == "a" else (2, 32) for i in "12" for s in "ab"}
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    place = ("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
    path = lora_file.write(tmp_path / "a.safetensors", {place: Layer(tensors, 1.0)}, {})
    for layout, out, code in (
        ("diffusers", "b.safetensors", "export_kind"),
        ("onnx", "b.safetensors", "export_layout"),
        ("kohya", "a.safetensors", "out_exists"),
        ("kohya", "b.pt", "out_suffix"),
    ):
        with pytest.raises(Problem) as told:
            export(path, layout, tmp_path / out)
        assert told.value.code == code and str(told.value)
    assert not (tmp_path / "b.safetensors").exists()


def test_t2_names_of_other_writers_come_back_as_everybody_reads_them(tmp_path: Path) -> None:
    tensors = {key.replace("lora_te_", "lora_te1_"): value for key, value in lora_file.kohya_tensors(factors(SMALL)).items()}
    out = export(raw(tmp_path / "a.safetensors", tensors), "kohya", tmp_path / "b.safetensors")
    assert {key[:8] for key in read_header(out).tensors} == {"lora_te_", "lora_une"} and ALPHAS not in read_header(out).metadata


def _dora_by_row() -> dict:
    """DoRA as PEFT and diffusers mean it: one magnitude an output row, of about a weight's norm."""
    return {
        place: Layer({"down": down, "up": up, "dora": np.full((len(up), *[1] * (up.ndim - 1)), 0.6, "f4")}, alpha)
        for place, (down, up, alpha) in _mixed(3.0).items()
    }


def test_a_dora_by_output_row_goes_to_diffusers_and_back_and_one_by_column_is_refused(tmp_path: Path) -> None:
    first = lora_file.write(tmp_path / "a.safetensors", _dora_by_row(), {}, "fp32")
    there = export(first, "diffusers", tmp_path / "b.safetensors")
    assert any(key.endswith(".lora_magnitude_vector") for key in read_header(there).tensors)
    back = export(there, "kohya", tmp_path / "c.safetensors")
    before, after = (lora_file.normalise(path).modules for path in (first, back))
    for (_, module), layer in before.items():
        assert layer.up is not None and layer.down is not None and layer.size is not None
        weight = np.ones((layer.size[0], layer.size[1]), "f4").reshape(layer.up.shape[0], *layer.down.shape[1:])
        other = after[_, module]
        assert other.kind == "dora" and np.allclose(layer.delta(weight), other.delta(weight), atol=1e-6)
    columns = {
        place: Layer(layer.tensors | {"dora": np.ones((1, layer.down.shape[1]), "f4")}, layer.alpha)
        for place, layer in _dora_by_row().items()
    }
    path = lora_file.write(tmp_path / "d.safetensors", columns, {}, "fp32")
    with pytest.raises(Problem) as told:
        export(path, "diffusers", tmp_path / "e.safetensors")
    assert told.value.code == "export_dora" and "--base" in told.value.sentence("ja")


def test_a_bias_that_diffusers_layout_cannot_hold_is_not_dropped_silently(tmp_path: Path) -> None:
    place, (down, up, alpha) = next(iter(factors(SMALL).items()))
    layer = Layer({"down": down, "up": up, "diff_b": np.ones(len(up), "f4")}, alpha)
    path = lora_file.write(tmp_path / "a.safetensors", {place: layer}, {}, "fp32")
    with pytest.raises(Problem) as told:
        export(path, "diffusers", tmp_path / "b.safetensors")
    assert told.value.params["kind"] == "lora + diff_b"


def test_diffusers_pipelines_themselves_refuse_lokr_and_loha() -> None:
    """Why `export` does: PEFT could hold both, but the pipelines' loader wants `lora` in every key."""
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    for end in ("lokr_w1", "hada_w1_a"):
        state: Any = {f"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.{end}": np.ones((2, 2))}
        with pytest.raises(ValueError, match="'lora'"):
            StableDiffusionPipeline.load_lora_weights(cast(Any, _Named()), state)


class _Named:
    """As much of a pipeline as its loader asks before it looks at the keys."""

    def lora_state_dict(self, state, **_):
        return state, None, None

    class unet:
        config = None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_diffusers_itself_applies_the_exported_file_as_we_do(tmp_path: Path, kind: str) -> None:
    import torch
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
    )  # fmt: skip
    made = _mixed(3.0) if kind == "lora" else _dora_by_row()
    path = lora_file.write(tmp_path / "a.safetensors", {k: v for k, v in made.items() if k[0] == "unet"}, {}, "fp32")
    there = export(path, "diffusers", tmp_path / "b.safetensors")
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 32)

    def look() -> torch.Tensor:
        with torch.no_grad():
            return unet(x, torch.tensor([9]), encoder_hidden_states=text).sample

    bare = look()
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    state, _, metadata = cast(Any, StableDiffusionPipeline).lora_state_dict(there, return_lora_metadata=True)
    StableDiffusionPipeline.load_lora_into_unet(state, None, unet, adapter_name="fox", metadata=metadata)
    theirs = look()
    unet.delete_adapters("fox")
    for (_, module), layer in lora_file.normalise(path).modules.items():
        place: Any = unet.get_submodule(module)
        weight = getattr(place, "base_layer", place).weight
        weight.data += torch.from_numpy(layer.delta(weight.detach().numpy()))
    assert (theirs - bare).abs().max() > 1e-3 and (theirs - look()).abs().max() <= 1e-5
