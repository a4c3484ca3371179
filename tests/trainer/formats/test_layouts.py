"""Every program's names for a layer are read whole, and mean the same layer."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.lora_files import factors, raw
from tests.trainer.adapters.spellings import ALL, KOHYA, UNET_ALONE, Weights, comfyui, kohya
from trainer.adapters.compat.inspect import inspect
from trainer.adapters.export import export
from trainer.adapters.fold import LoraStrength
from trainer.adapters.tools.merge import merge, resize
from trainer.adapters.weights import normalise
from trainer.formats.architectures import family_modules
from trainer.formats.layers import Layer
from trainer.formats.layouts import locate

GROUPS = {"sd1": ("attention", "mlp", "conv"), "sd2": ("attention",), "sdxl": ("attention", "mlp")}


@cache
def weights(family: str) -> Weights:
    """A LoRA of rank 1 on every layer of a family at its real size; alpha is not the rank."""
    return factors(family_modules(family), 1, 0.5, GROUPS[family])


@cache
def probes() -> dict[int, np.ndarray]:
    return {}


def effect(down: np.ndarray, up: np.ndarray, scale: float) -> np.ndarray:
    """ΔW times a fixed vector: cheaper than ΔW, and as telling."""
    flat = down.reshape(down.shape[0], -1)
    probe = probes().setdefault(flat.shape[1], np.random.default_rng(flat.shape[1]).standard_normal(flat.shape[1]))
    return up.reshape(up.shape[0], -1) @ (flat @ probe) * scale


def of_layer(layer: Layer) -> np.ndarray:
    return effect(layer.down, layer.up, layer.scale)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("layout", ALL)
def test_each_layout_is_read_whole_and_does_the_same(tmp_path: Path, layout: str, family: str) -> None:
    tensors = ALL[layout](weights(family), family)
    path = raw(tmp_path / "a.safetensors", {key: array.astype(np.float16) for key, array in tensors.items()})
    found = normalise(path)
    expected = {place for place in weights(family) if place[0] == "unet" or layout not in UNET_ALONE}
    assert set(found.modules) == expected and not found.unknown and found.family == family
    assert found.reading.read == found.reading.total == len(expected)
    for place, layer in found.modules.items():
        down, up, alpha = weights(family)[place]
        assert np.allclose(of_layer(layer), effect(down, up, alpha), rtol=0.02, atol=0.02), place
    if layout.endswith("ComfyUI"):
        shown = inspect(path)
        assert shown.unknown == 0 and shown.format.family == family and sum(shown.modules.values()) == len(expected)
        assert shown.programs["comfyui"].matched == len(expected)


@pytest.mark.parametrize(
    ("key", "place"),
    [  # as the programs' own code spells them
        ("lora_unet_output_blocks_5_2_conv.lora_down.weight", ("unet", "up_blocks.1.upsamplers.0.conv")),
        ("diffusion_model.output_blocks.2.1.conv.lora_up.weight", ("unet", "up_blocks.0.upsamplers.0.conv")),
        ("unet.output_blocks.2.2.conv.lora_up.weight", ("unet", "up_blocks.0.upsamplers.0.conv")),
        ("diffusion_model.input_blocks.3.0.op.lora_A.weight", ("unet", "down_blocks.0.downsamplers.0.conv")),
        ("diffusion_model.input_blocks.1.0.in_layers.2.lora_up.weight", ("unet", "down_blocks.0.resnets.0.conv1")),
        ("diffusion_model.input_blocks.1.0.in_layers.0.diff", ("unet", "down_blocks.0.resnets.0.norm1")),
        ("diffusion_model.middle_block.2.emb_layers.1.lora_up.weight", ("unet", "mid_block.resnets.1.time_emb_proj")),
        ("diffusion_model.label_emb.0.0.lora_up.weight", ("unet", "add_embedding.linear_1")),
        ("lora_unet_label_emb_0_2.lora_up.weight", ("unet", "add_embedding.linear_2")),
        ("lora_unet_add_embedding_linear_1.lora_up.weight", ("unet", "add_embedding.linear_1")),
        ("diffusion_model.time_embed.2.lora_up.weight", ("unet", "time_embedding.linear_2")),
        ("diffusion_model.out.0.diff", ("unet", "conv_norm_out")),
        ("diffusion_model.out.2.diff_b", ("unet", "conv_out")),
        ("diffusion_model.input_blocks.0.0.lora_up.weight", ("unet", "conv_in")),
        ("lora_te2_text_projection.lora_down.weight", ("text_encoder_2", "text_projection")),
        ("clip_g.text_projection.lora_up.weight", ("text_encoder_2", "text_projection")),
        ("text_encoders.clip_g.transformer.text_projection.lora_B.weight", ("text_encoder_2", "text_projection")),
        ("lora_te1_text_model_final_layer_norm.w_norm", ("text_encoder", "final_layer_norm")),
        ("lora_te1_encoder_layers_3_mlp_fc1.alpha", ("text_encoder", "encoder.layers.3.mlp.fc1")),
        ("lycoris_mid_block_attentions_0_proj_in.lokr_w1", ("unet", "mid_block.attentions.0.proj_in")),
        ("lycoris_mid_block_attentions_0_norm.w_norm", ("unet", "mid_block.attentions.0.norm")),
        (
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
            ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"),
        ),
        (
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q.alpha",
            ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"),
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.down.weight",
            ("text_encoder", "encoder.layers.0.self_attn.out_proj"),
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.alpha",
            ("text_encoder", "encoder.layers.0.self_attn.q_proj"),
        ),
        (
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1.to_q.hada_w1_a",
            ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"),
        ),
        ("unet.mid_block.attentions.0.proj_in.lora_magnitude_vector.fox.weight", ("unet", "mid_block.attentions.0.proj_in")),
        ("lora_unet_mid_block_attentions_0_norm.lora_down.weight", None),  # a norm has no matrix
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight", None),
        ("diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight", None),
        ("unet.output_blocks.mid_block.resnets.1.conv1.lora_down.weight", None),
        ("lycoris_transformer_blocks_0_attn_to_q.lora_down.weight", None),
    ],
)
def test_names_of_programs(key: str, place: tuple[str, str] | None) -> None:
    assert locate(key) == place


@pytest.mark.parametrize("layout", ALL)
def test_every_tool_keeps_every_layer_of_every_layout(tmp_path: Path, layout: str) -> None:
    small = {place: one for place, one in weights("sd1").items() if place[0] != "unet" or "attn2" in place[1]}
    path = raw(tmp_path / "a.safetensors", ALL[layout](small, "sd1"))
    before = normalise(path).modules
    kohya_file = export(path, "kohya", tmp_path / "k.safetensors")
    there = export(path, "diffusers", tmp_path / "d.safetensors")
    back = export(there, "kohya", tmp_path / "b.safetensors")
    less = resize(path, tmp_path / "r.safetensors", rank=1, dtype="fp32")
    both = merge([LoraStrength(path, 0.25, 0.25), LoraStrength(path, 0.75, 0.75)], tmp_path / "m.safetensors", dtype="fp32")
    for new in (kohya_file, there, back, less, both):
        after = normalise(new)
        assert set(after.modules) == set(before) and not after.unknown and after.family == "sd1", new
        for place, layer in after.modules.items():
            assert np.allclose(of_layer(layer), of_layer(before[place]), atol=1e-4), (new, place)
    assert inspect(kohya_file).programs["a1111"].loads and inspect(both).programs["forge"].loads


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_file_may_mix_layouts_and_hold_any_layers(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    family = data.draw(st.sampled_from(["sd1", "sd2", "sdxl"]))
    known = sorted(weights(family))
    chosen = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=12, unique=True))
    cross = next(place for place in known if place[1].endswith("attn2.to_k"))  # which family it is
    tensors, expected = {}, {}
    for place in dict.fromkeys([*chosen, cross]):
        layout = data.draw(st.sampled_from(sorted(ALL)))
        one = ALL[layout]({place: weights(family)[place]}, family)
        if one:
            tensors, expected = tensors | one, expected | {place: weights(family)[place]}
    found = normalise(raw(tmp_path_factory.mktemp("mix") / "a.safetensors", tensors))
    assert set(found.modules) == set(expected) and found.reading.total == len(expected)
    for place, (down, up, alpha) in expected.items():
        assert np.allclose(of_layer(found.modules[place]), effect(down, up, alpha), atol=1e-4)


def test_two_names_of_one_layer_are_not_added_up_and_the_second_is_named(tmp_path: Path) -> None:
    place = ("unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    down, up, alpha = weights("sd1")[place]
    tensors = ALL["kohya"]({place: (down, up, alpha)}, "sd1") | ALL["ComfyUI"]({place: (down * 2, up, alpha)}, "sd1")
    found = normalise(raw(tmp_path / "a.safetensors", tensors))
    assert np.array_equal(found.modules[place].down, down * 2) or np.array_equal(found.modules[place].down, down)
    assert found.reading.read == 1 and found.reading.total == 2
    assert found.reading.unread[0] in (kohya(place, "sd1"), comfyui(place, "sd1"))


CONV = ("unet", "down_blocks.1.resnets.0.conv1")
CROSS = ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k")
POINT = ("unet", "down_blocks.1.attentions.0.proj_in")
FLAT = ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2")


@pytest.mark.parametrize("flat", [("down",), ("up",), ("down", "up"), ()])
def test_convolutions_kept_flat_are_read_and_written_with_their_kernel(tmp_path: Path, flat: tuple[str, ...]) -> None:
    """DyLoRA of LyCORIS and ComfyUI's trainer keep one or both factors of a convolution as matrices."""
    rng, tensors, expected = np.random.default_rng(0), {}, {}
    for place in (CONV, CROSS, POINT, FLAT):
        rows, columns, *kernel = family_modules("sd1")[place].shape
        down, up = rng.standard_normal((3, columns, *kernel)), rng.standard_normal((rows, 3, *(1 for _ in kernel)))
        expected[place] = effect(down, up, 0.5)
        if kernel:
            down, up = down.reshape(3, -1) if "down" in flat else down, up.reshape(rows, 3) if "up" in flat else up
        stem = kohya(place, "sd1")
        tensors |= {f"{stem}.{KOHYA[0]}": down.astype("f4"), f"{stem}.{KOHYA[1]}": up.astype("f4"),
                    f"{stem}.alpha": np.asarray(1.5, "f4")}  # fmt: skip
    path = raw(tmp_path / "a.safetensors", tensors)
    for file in (path, export(path, "kohya", tmp_path / "b.safetensors")):
        found = normalise(file).modules
        assert found.keys() == expected.keys()
        for place, layer in found.items():
            assert np.allclose(of_layer(layer), expected[place], rtol=1e-4, atol=1e-4)
            assert layer.delta(np.zeros(family_modules("sd1")[place].shape, "f4")).shape == family_modules("sd1")[place].shape
        assert found[CONV].down.shape == (3, 320, 3, 3) and found[CONV].up.shape == (640, 3, 1, 1)
        assert found[POINT].down.ndim == found[POINT].up.ndim
    assert all(one.loads for one in inspect(tmp_path / "b.safetensors").programs.values())


def test_sd2_is_told_by_its_linear_layers_where_no_text_width_shows(tmp_path: Path) -> None:
    for family in ("sd1", "sd2"):
        whole = factors(family_modules(family), 1, 0.5, ("attention", "mlp"))
        only = {place: one for place, one in whole.items() if "attn1" in place[1] or place[1].endswith("proj_in")}
        path = raw(tmp_path / f"{family}.safetensors", ALL["kohya"](only, family))
        assert normalise(path).family == family
        text = {place: one for place, one in weights(family).items() if place[0] == "text_encoder"}
        assert normalise(raw(tmp_path / f"{family}_t.safetensors", ALL["kohya"](text, family))).family == family


def test_other_models_are_still_named_and_refused(tmp_path: Path) -> None:
    for key, family in (("diffusion_model.double_blocks.0.img_attn.qkv", "flux"),
                        ("diffusion_model.joint_blocks.0.x_block.attn.qkv", "sd3"),
                        ("lycoris_single_transformer_blocks_0_attn_to_q", "flux")):  # fmt: skip
        tensors = {f"{key}.lora_A.weight": np.zeros((2, 8), "f4"), f"{key}.lora_B.weight": np.ones((8, 2), "f4")}
        path = raw(tmp_path / "a.safetensors", tensors)
        assert inspect(path).format.family == family
