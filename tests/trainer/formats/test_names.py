"""What layers are called, held against the real classes and the shipped base."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trainer.bases import catalog
from trainer.core.home import Home
from trainer.formats.architectures import ARCHITECTURES, Modules, family_modules
from trainer.formats.detect import locate
from trainer.formats.header import read_header
from trainer.formats.names import bare, from_kohya, sd1_modules, split_key, to_diffusers, to_kohya, to_sgm, universe


def _counts(modules: Modules, *groups: str) -> Counter[str]:
    return Counter(part for (part, _), module in modules.items() if module.group in groups)


@pytest.mark.parametrize(
    ("family", "attention", "wide"),
    [
        ("sd1", {"unet": 128, "text_encoder": 48}, {"unet": 192, "text_encoder": 72}),
        ("sd2", {"unet": 128, "text_encoder": 92}, {"unet": 192, "text_encoder": 138}),
        (
            "sdxl",
            {"unet": 560, "text_encoder": 48, "text_encoder_2": 128},
            {"unet": 722, "text_encoder": 72, "text_encoder_2": 192},
        ),
    ],
)
def test_layers_at_real_size_are_as_many_as_other_trainers_write(
    family: str, attention: dict[str, int], wide: dict[str, int]
) -> None:
    assert _counts(family_modules(family), "attention") == attention
    assert _counts(family_modules(family), "attention", "mlp") == wide


def test_the_shipped_base_has_exactly_the_layers_its_configs_promise(tmp_path: Path) -> None:
    facts = catalog.find(Home.find(tmp_path), "mini")
    assert facts.path is not None
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for part, file in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        for key, tensor in read_header(facts.path / part / f"{file}.safetensors").tensors.items():
            if key.endswith(".weight") and len(tensor.shape) in (2, 4) and "embedding" not in key.replace("time_emb", ""):
                found[part, bare(key.removesuffix(".weight"))] = tensor.shape
    assert {key: module.shape for key, module in catalog.layers(facts).items()} == found


def test_kohya_names_are_the_ones_every_program_reads() -> None:
    attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert to_kohya("unet", attention) == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    file_name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    assert to_kohya("text_encoder", "encoder.layers.0.self_attn.q_proj") == file_name
    assert to_kohya("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj") == file_name
    assert to_kohya("text_encoder", "encoder.layers.0.self_attn.q_proj", "sdxl").startswith("lora_te1_text_model_")
    assert to_kohya("text_encoder_2", "text_model.encoder.layers.31.mlp.fc1", "sdxl") == (
        "lora_te2_text_model_encoder_layers_31_mlp_fc1"
    )
    assert to_diffusers("text_encoder", "encoder.layers.0.mlp.fc1") == "text_encoder.text_model.encoder.layers.0.mlp.fc1"


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_every_name_finds_its_way_back(family: str) -> None:
    names: dict[str, list[str]] = {}
    for part, module in family_modules(family):
        names.setdefault(part, []).append(module)
    keys = set()
    for part, module in family_modules(family):
        key = to_kohya(part, module, family)
        assert universe()[key] == (part, module)
        assert locate(f"{key}.lora_down.weight") == (part, module)
        assert locate(f"{to_diffusers(part, module)}.lora_A.weight") == (part, module)
        keys.add(key)
    assert len(keys) == len(family_modules(family))
    part, module = next(iter(family_modules(family)))
    assert from_kohya(f"{to_kohya(part, module, family)}.alpha", names, family) == (part, module)


def test_the_path_comes_back_as_the_class_spells_it() -> None:
    key = "lora_te_text_model_encoder_layers_3_mlp_fc2.lora_up.weight"
    old, new = "text_model.encoder.layers.3.mlp.fc2", "encoder.layers.3.mlp.fc2"
    assert from_kohya(key, {"text_encoder": [old]}) == ("text_encoder", old)
    assert from_kohya(key, {"text_encoder": [new]}) == ("text_encoder", new)
    assert from_kohya("lora_unet_nothing_of_the_kind.alpha", {"unet": [new]}) is None


@pytest.mark.parametrize(
    ("key", "place", "what"),
    [
        ("unet.mid_block.attentions.0.proj_in.lora.up.weight", ("unet", "mid_block.attentions.0.proj_in"), "up"),
        (
            "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.down.weight",
            ("unet", "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"),
            "down",
        ),
        (
            "mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_k_lora.up.weight",
            ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_k"),
            "up",
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
            ("text_encoder", "encoder.layers.0.self_attn.q_proj"),
            "down",
        ),
        (
            "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.default.weight",
            ("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
            "up",
        ),
        (
            "base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_A.weight",
            ("text_encoder", "encoder.layers.0.mlp.fc1"),
            "down",
        ),
        ("lora_unet_mid_block_resnets_0_conv1.hada_w1_a", ("unet", "mid_block.resnets.0.conv1"), "hada_w1_a"),
        ("lora_unet_mid_block_resnets_0_conv1.lokr_w2", ("unet", "mid_block.resnets.0.conv1"), "lokr_w2"),
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.dora_scale",
            ("text_encoder", "encoder.layers.0.mlp.fc1"),
            "dora",
        ),
    ],
)
def test_other_spellings_are_understood(key: str, place: tuple[str, str], what: str) -> None:
    assert locate(key) == place
    split = split_key(key)
    assert split is not None and split.what == what


@pytest.mark.parametrize(
    "key", ["bundle_emb.x.string_to_param.*", "emb_params", "lora_unet_down_blocks.lora_down.weight", "", "."]
)
def test_what_is_no_layer_is_not_taken_for_one(key: str) -> None:
    assert locate(key) is None


def test_names_of_the_original_code() -> None:
    assert to_sgm("down_blocks.1.attentions.0.proj_in") == "input_blocks.4.1.proj_in"
    assert to_sgm("down_blocks.0.downsamplers.0.conv") == "input_blocks.3.0.op"
    assert to_sgm("mid_block.resnets.1.time_emb_proj") == "middle_block.2.emb_layers.1"
    assert to_sgm("up_blocks.0.upsamplers.0.conv") == "output_blocks.2.1.conv"
    assert to_sgm("up_blocks.1.upsamplers.0.conv") == "output_blocks.5.2.conv"
    assert to_sgm("up_blocks.0.upsamplers.0.conv", "sdxl") == "output_blocks.2.2.conv"
    names = {to_sgm(module) for part, module in sd1_modules() if part == "unet"}
    assert len(names) == 282
    assert {name.split(".")[0] for name in names} == {
        "input_blocks",
        "middle_block",
        "output_blocks",
        "out",
        "time_embed",
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_the_real_classes_have_exactly_these_layers(family: str) -> None:
    import torch
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    net = ARCHITECTURES[family].unet
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in net.depths]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in net.depths[::-1]]
    extra: dict[str, Any] = (
        {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }
        if family == "sdxl"
        else {}
    )
    with torch.device("meta"):
        models: dict[str, Any] = {
            "unet": UNet2DConditionModel(
                block_out_channels=net.block_out_channels,
                cross_attention_dim=net.cross_attention_dim,
                down_block_types=tuple(down),
                up_block_types=tuple(up),
                use_linear_projection=net.use_linear_projection,
                transformer_layers_per_block=[max(1, depth) for depth in net.depths],  # pyright: ignore[reportArgumentType]
                **extra,
            )
        }
        for part, encoder in ARCHITECTURES[family].text_encoders.items():
            config = CLIPTextConfig(
                hidden_size=encoder.width,
                intermediate_size=encoder.inner,
                num_hidden_layers=encoder.layers,
                num_attention_heads=encoder.width // 64,
                projection_dim=encoder.width,
            )
            models[part] = (CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel)(config)
    real: dict[tuple[str, str], tuple[int, ...]] = {}
    for part, model in models.items():
        for name, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                real[part, bare(name)] = tuple(layer.weight.shape)
    ours = {key: module.shape for key, module in family_modules(family).items()}
    assert set(real) - set(ours) <= {
        ("unet", "add_embedding.linear_1"),
        ("unet", "add_embedding.linear_2"),
        ("text_encoder_2", "text_projection"),
    }
    assert {key: real[key] for key in ours} == ours
