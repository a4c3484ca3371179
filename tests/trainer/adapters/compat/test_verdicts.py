"""What each program makes of a file: the traps proven in their sources. diffusers itself is asked in test_compat_diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.lora_files import factors, facts, raw
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.adapters.compat.verdicts import PROGRAMS, Verdict, programs
from trainer.bases import catalog
from trainer.config.train import TrainConfig
from trainer.core.home import Home
from trainer.formats.architectures import family_modules
from trainer.formats.header import read_header
from trainer.formats.names import to_diffusers, to_kohya, to_sgm

Tensors = dict[str, np.ndarray]


def _said(**words: Any) -> dict[str, str]:
    base = facts(**words)
    return metadata.build(
        TrainConfig.model_validate({"captions": {"trigger": "inkfox"}}),
        base,
        steps=1,
        total_steps=1,
        items=[("inkfox, a fox", (512, 512), 1)],
        loss=None,
        started=1e9,
        finished=1e9,
        name="fox",
        run_id="r",
    )


def _kohya(**words: Any) -> Tensors:
    return {key: np.asarray(value, np.float16) for key, value in lora_file.kohya_tensors(factors(**words)).items()}


def _ask(path: Path, tensors: Tensors, said: dict[str, str] | None = None) -> dict[str, Verdict]:
    return programs(read_header(raw(path / "a.safetensors", tensors, said)))


def _loads(found: dict[str, Verdict]) -> set[str]:
    return {program for program, verdict in found.items() if verdict.loads}


def test_our_own_file_loads_completely_everywhere(tmp_path: Path) -> None:
    for groups in (("attention",), ("attention", "mlp"), ("attention", "mlp", "conv")):
        path = lora_file.write(tmp_path / "a.safetensors", factors(groups=groups), _said())
        found = programs(read_header(path))
        layers = sum(1 for module in family_modules("sd1").values() if module.group in groups)
        assert {(v.loads, v.matched, v.total, v.reason) for v in found.values()} == {(True, layers, layers, "ok")}
        assert set(found) == set(PROGRAMS)


def test_a_lora_of_the_small_base_loads_in_diffusers_alone_and_says_why(tmp_path: Path) -> None:
    layers = catalog.layers(catalog.find(Home.find(tmp_path), "mini"))
    found = programs(read_header(lora_file.write(tmp_path / "a.safetensors", factors(layers), _said())))
    assert _loads(found) == {"diffusers"}
    assert found["diffusers"].reason == "own_base" and found["diffusers"].matched == len(factors(layers))
    assert {found[p].reason for p in ("a1111", "forge", "comfyui")} == {"small"}
    assert found["invokeai"].reason == "width" and "192" in found["invokeai"].why


def test_t2_the_text_encoder_called_te1_is_lost_in_invokeai(tmp_path: Path) -> None:
    tensors = {key.replace("lora_te_", "lora_te1_"): value for key, value in _kohya().items()}
    found = _ask(tmp_path, tensors, _said())
    assert {found[p].matched for p in PROGRAMS if p != "invokeai"} == {176}
    assert (found["invokeai"].matched, found["invokeai"].total, found["invokeai"].reason) == (128, 176, "silent")


def test_t4_and_other_kinds(tmp_path: Path) -> None:
    tensors = _kohya()
    dora = tensors | {
        key.replace("lora_down.weight", "dora_scale"): np.ones((1, value.shape[1]), np.float16)
        for key, value in tensors.items()
        if key.endswith("lora_down.weight")
    }
    found = _ask(tmp_path, dora, _said())
    assert _loads(found) == {"a1111", "forge", "comfyui", "invokeai"}
    assert found["diffusers"].reason == "magnitude_lost"
    loha = {
        f"{to_kohya(part, module)}.{end}": np.ones((size, 4) if end.endswith("a") else (4, size), np.float16)
        for (part, module), layer in family_modules("sd1").items()
        if layer.group == "attention"
        for end, size in (
            ("hada_w1_a", layer.shape[0]),
            ("hada_w1_b", layer.shape[1]),
            ("hada_w2_a", layer.shape[0]),
            ("hada_w2_b", layer.shape[1]),
        )
    }
    found = _ask(tmp_path, loha, _said())
    assert _loads(found) == {"a1111", "forge", "comfyui", "invokeai"} and found["diffusers"].reason == "kind"
    assert {found[p].matched for p in _loads(found)} == {176}


def test_dora_by_output_row_is_a_little_off_in_comfyui_and_forge_and_misread_by_others(tmp_path: Path) -> None:
    tensors = _kohya()
    rows = tensors | {
        key.replace("lora_up.weight", "dora_scale"): np.ones((value.shape[0], 1), np.float16)
        for key, value in tensors.items()
        if key.endswith("lora_up.weight")
    }
    found = _ask(tmp_path, rows, _said())
    assert _loads(found) == {"comfyui", "forge"} and found["invokeai"].reason == found["a1111"].reason == "magnitude_rows"
    assert {found[program].answer for program in ("comfyui", "forge")} == {"a_little_off"} and "6" in found["comfyui"].why
    assert found["comfyui"].matched == found["comfyui"].total == 176


def test_t3_a_magnitude_under_peft_s_name_is_diffusers_alone(tmp_path: Path) -> None:
    """The converter of diffusers never turns it into dora_scale; ours refuses to write DoRA in that layout at all."""
    from trainer.adapters.export import export
    from trainer.core.problem import Problem
    from trainer.formats.layers import Layer

    tensors: Tensors = {}
    for (part, module), (down, up, _) in factors().items():
        name = to_diffusers(part, module)
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        tensors[f"{name}.lora_magnitude_vector"] = np.ones(up.shape[0], np.float32)
    found = _ask(tmp_path, tensors, {"format": "pt"})
    assert _loads(found) == {"diffusers"} and found["comfyui"].reason == "magnitude_lost"
    ours = {
        key: Layer({"down": down, "up": up, "dora": np.ones((1, down.shape[1]), np.float32)}, alpha)
        for key, (down, up, alpha) in factors().items()
    }
    path = lora_file.write(tmp_path / "ours.safetensors", ours, _said())
    assert any(key.endswith(".dora_scale") for key in read_header(path).tensors)
    assert _loads(programs(read_header(path))) == set(PROGRAMS) - {"diffusers"}
    with pytest.raises(Problem):
        export(path, "diffusers", tmp_path / "b.safetensors")


def _sdxl(spell: str = "diffusers") -> Tensors:
    tensors: Tensors = {}
    for (part, module), layer in family_modules("sdxl").items():
        if layer.group == "attention":
            name = to_kohya(part, module, "sdxl")
            if spell == "sgm" and part == "unet":
                name = "lora_unet_" + to_sgm(module, "sdxl").replace(".", "_")
            tensors[f"{name}.lora_down.weight"] = np.ones((1, layer.shape[1]), np.float16)
            tensors[f"{name}.lora_up.weight"] = np.ones((layer.shape[0], 1), np.float16)
            tensors[f"{name}.alpha"] = np.ones((), np.float16)
    return tensors


def test_t6_two_ways_of_naming_blocks_in_one_file(tmp_path: Path) -> None:
    said = _said(family="sdxl", version="sdxl_base_v1-0")
    one, other = _sdxl(), _sdxl("sgm")
    half = {key: value for key, value in one.items() if "up_blocks" not in key} | {
        key: value for key, value in other.items() if "output_blocks" in key
    }
    found = _ask(tmp_path, half, said)
    assert _loads(found) == {"a1111", "forge", "comfyui"} and found["invokeai"].reason == "mixed_names"
    read = lora_file.normalise(tmp_path / "a.safetensors").modules
    ours = lora_file.write(tmp_path / "ours.safetensors", read, said, "fp16", "sdxl")
    assert _loads(programs(read_header(ours))) == set(PROGRAMS)  # ours has one way of naming


def test_the_original_code_s_names_of_sdxl_are_read(tmp_path: Path) -> None:
    found = lora_file.normalise(raw(tmp_path / "a.safetensors", _sdxl("sgm")))
    wanted = {place for place, module in family_modules("sdxl").items() if module.group == "attention"}
    assert set(found.modules) == wanted and not found.unknown and found.family == "sdxl"


def test_t7_invokeai_refuses_any_other_prefix_in_an_sdxl_file(tmp_path: Path) -> None:
    extra = {"lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": np.ones((), np.float16)}
    found = _ask(tmp_path, _sdxl() | extra, _said(family="sdxl", version="sdxl_base_v1-0"))
    assert not found["invokeai"].loads and found["invokeai"].reason == "strange_keys"
    assert found["comfyui"].loads


def test_a_lokr_of_split_factors_has_no_width_for_invokeai(tmp_path: Path) -> None:
    def lokr(split: bool, family: str = "sd1") -> Tensors:
        tensors: Tensors = {}
        for (part, module), layer in family_modules(family).items():
            if layer.group == "attention":
                name, (out, inside) = to_kohya(part, module, family), layer.shape
                tensors[f"{name}.lokr_w1"] = np.ones((4, 4), np.float16)
                if split:
                    tensors[f"{name}.lokr_w2_a"] = np.ones((out // 4, 2), np.float16)
                    tensors[f"{name}.lokr_w2_b"] = np.ones((2, inside // 4), np.float16)
                else:
                    tensors[f"{name}.lokr_w2"] = np.ones((out // 4, inside // 4), np.float16)
        return tensors

    found = _ask(tmp_path, lokr(split=False), _said())
    assert _loads(found) == {"a1111", "forge", "comfyui", "invokeai"} and found["a1111"].matched == 176
    found = _ask(tmp_path, lokr(split=True), _said())
    assert _loads(found) == {"a1111", "forge", "comfyui"} and found["invokeai"].reason == "width"
    # of SDXL it needs none: a block's third transformer tells it
    found = _ask(tmp_path, lokr(split=True, family="sdxl"), _said(family="sdxl", version="sdxl_base_v1-0"))
    assert _loads(found) == {"a1111", "forge", "comfyui", "invokeai"}


def test_t13_the_trigger_is_among_the_words_comfyui_shows(tmp_path: Path) -> None:
    items = [("inkfox, " + ", ".join(f"a{i:03d}" for i in range(300)), (512, 512), 1)]
    config = TrainConfig.model_validate({"captions": {"trigger": "inkfox"}})
    said = metadata.build(config, facts(), steps=1, total_steps=1, items=items, loss=None, started=1e9, finished=1e9,
                          name="fox", run_id="r")  # fmt: skip
    (tags,) = json.loads(said["ss_tag_frequency"]).values()
    assert "inkfox" in sorted(tags)[:100] and next(iter(tags)) == "inkfox"
    path = lora_file.write(tmp_path / "a.safetensors", factors(), said)
    assert read_header(path).offset < 8 * 2**20


def test_t14_a_strength_is_stated_for_each_part_and_used_up_by_none() -> None:
    from dataclasses import FrozenInstanceError, asdict

    from trainer.adapters.fold import LoraStrength

    use = LoraStrength(Path("a"), unet=0.5)
    assert asdict(use) == {"path": Path("a"), "unet": 0.5, "text_encoder": 1.0}
    with pytest.raises(FrozenInstanceError):
        use.unet = 1.0  # type: ignore[misc]


def test_t5_one_strange_key_defeats_diffusers(tmp_path: Path) -> None:
    found = _ask(tmp_path, _kohya() | {"bundle_emb.word.string_to_param.*": np.ones((4, 768), np.float16)}, _said())
    assert not found["diffusers"].loads and found["diffusers"].reason == "strange_keys"
    assert "bundle_emb" in found["diffusers"].why
    assert found["invokeai"].reason == "strange_keys"
    assert found["a1111"].loads and found["comfyui"].reason == "silent"


def test_t8_invokeai_finds_the_base_from_the_first_decisive_tensor(tmp_path: Path) -> None:
    conv = factors(groups=("conv",))
    only = {key: value for key, value in conv.items() if key[0] == "unet"}
    found = programs(read_header(lora_file.write(tmp_path / "a.safetensors", only, _said())))
    assert not found["invokeai"].loads and found["invokeai"].reason == "mistaken"
    assert "XL" in found["invokeai"].why and found["a1111"].loads
    both = {key: value for key, value in factors(groups=("attention", "conv")).items() if key[0] == "unet"}
    assert programs(read_header(lora_file.write(tmp_path / "b.safetensors", both, _said())))["invokeai"].loads


@pytest.mark.parametrize(
    ("said", "reason", "loads"),
    [
        ({}, "unclassed", True),
        ({"format": "pt"}, "ok", True),
        ({"ss_base_model_version": "sd_v1", "ss_v2": "False"}, "ok", True),
        ({"ss_v2": "True"}, "hidden", True),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "hidden", True),
    ],
)
def test_t9_how_a1111_files_it(tmp_path: Path, said: dict[str, str], reason: str, loads: bool) -> None:
    verdict = _ask(tmp_path, _kohya(), said)["a1111"]
    assert (verdict.loads, verdict.reason, verdict.matched) == (loads, reason, 176)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "ok"),
        ({"ss_base_model_version": "sd_v1", "ss_v2": "False"}, "unclassed"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "hidden"),
    ],
)
def test_t10_how_forge_files_it(tmp_path: Path, said: dict[str, str], reason: str) -> None:
    assert _ask(tmp_path, _kohya(), said)["forge"].reason == reason


def test_t11_our_files_carry_the_name_of_the_file_as_alias(tmp_path: Path) -> None:
    said = _said()
    path = lora_file.write(tmp_path / "fox.safetensors", factors(), said)
    assert read_header(path).metadata["ss_output_name"] == path.stem


def test_t12_forge_gives_up_where_comfyui_goes_on_silently(tmp_path: Path) -> None:
    few = {
        f"lora_unet_mystery_{i}.{end}": np.ones((4, 4), np.float16)
        for i in range(4)
        for end in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    found = _ask(tmp_path, _kohya() | few, _said())
    assert found["forge"].loads and found["forge"].reason == "partial"  # twelve keys are still let through
    one_more = few | {"lora_unet_mystery_9.lora_down.weight": np.ones((4, 4), np.float16)}
    found = _ask(tmp_path, _kohya() | one_more, _said())
    assert not found["forge"].loads and found["forge"].reason == "too_many"
    assert found["comfyui"].loads and found["comfyui"].reason == "silent"
    assert (found["comfyui"].matched, found["comfyui"].total) == (176, 181)


def test_files_in_diffusers_layout(tmp_path: Path) -> None:
    tensors = {}
    for (part, module), (down, up, _) in factors().items():
        tensors[f"{to_diffusers(part, module)}.lora_A.weight"] = down.astype(np.float16)
        tensors[f"{to_diffusers(part, module)}.lora_B.weight"] = up.astype(np.float16)
    found = _ask(tmp_path, tensors, {"format": "pt"})
    assert found["diffusers"].loads and found["diffusers"].matched == 176
    assert (found["a1111"].loads, found["a1111"].reason) == (False, "none")
    assert (found["invokeai"].loads, found["invokeai"].reason) == (False, "none")
    # ComfyUI knows the attention of the UNet by its old spelling only, so the text encoder alone is read
    assert (found["comfyui"].matched, found["comfyui"].total, found["comfyui"].reason) == (48, 176, "silent")
    assert not found["forge"].loads


def test_t1_alpha_that_only_diffusers_reads(tmp_path: Path) -> None:
    tensors = {}
    for (part, module), (down, up, _) in factors().items():
        if part == "text_encoder":
            tensors[f"{to_diffusers(part, module)}.lora_linear_layer.down.weight"] = down
            tensors[f"{to_diffusers(part, module)}.lora_linear_layer.up.weight"] = up
    said = {"lora_adapter_metadata": json.dumps({"text_encoder.lora_alpha": 1, "text_encoder.r": 4})}
    found = _ask(tmp_path, tensors, said)
    assert not found["comfyui"].loads and found["comfyui"].reason == "alpha_lost" and "4" in found["comfyui"].why
    assert found["diffusers"].loads


@pytest.mark.parametrize(("family", "spell"), [("sd2", to_kohya), ("sdxl", to_kohya), ("sdxl", "sgm")])
def test_files_of_other_families_are_judged_by_their_own_sizes(tmp_path: Path, family: str, spell: Any) -> None:
    tensors: Tensors = {}
    for (part, module), layer in family_modules(family).items():
        if layer.group == "conv":
            continue
        name = to_kohya(part, module, family)
        if spell == "sgm" and part == "unet":
            name = "lora_unet_" + to_sgm(module, family).replace(".", "_")
        tensors[f"{name}.lora_down.weight"] = np.ones((1, *layer.shape[1:]), np.float16)
        tensors[f"{name}.lora_up.weight"] = np.ones((layer.shape[0], 1, *layer.shape[2:]), np.float16)
        tensors[f"{name}.alpha"] = np.ones((), np.float16)
    version = {"sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}[family]
    found = _ask(tmp_path, tensors, _said(family=family, version=version))
    assert _loads(found) == set(PROGRAMS)
    assert {verdict.matched for verdict in found.values()} == {len(tensors) // 3}


def test_wrong_sizes_are_counted(tmp_path: Path) -> None:
    tensors = _kohya()
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors[f"{name}.lora_up.weight"] = np.ones((640, 4), np.float16)
    found = _ask(tmp_path, tensors, _said())
    assert {(v.loads, v.matched, v.reason) for p, v in found.items()} == {(False, 175, "shapes")}


def test_a_file_for_flux_is_refused_by_all(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_img_attn_proj"
    found = _ask(
        tmp_path,
        {
            f"{name}.lora_down.weight": np.ones((4, 8), np.float16),
            f"{name}.lora_up.weight": np.ones((8, 4), np.float16),
        },
    )
    assert _loads(found) == set() and {v.reason for v in found.values()} == {"family"} and "FLUX" in found["a1111"].why


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_reason_has_its_sentence(language: str) -> None:
    from trainer.core.texts import lookup

    used = {
        "ok",
        "small",
        "shapes",
        "partial",
        "silent",
        "none",
        "kind",
        "hidden",
        "unclassed",
        "family",
        "width",
        "mistaken",
        "strange_keys",
        "alpha_lost",
        "magnitude_lost",
        "own_base",
        "too_many",
        "magnitude_rows",
        "mixed_names",
        "alpha_ignored",
        "glora_order",
        "rescale_lost",
        "bound_tight",
        "not_linear",
        "a_little_off",
    }
    told = lookup("programs", language)
    assert set(told) == used and all(told.values())
