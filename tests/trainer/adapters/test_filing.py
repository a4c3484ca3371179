"""Files made from files are filed under the right family by the programs, whatever their sources said of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.lora_files import factors, raw
from tests.trainer.adapters.spellings import ALL
from trainer.adapters import file as lora_file
from trainer.adapters.compat.inspect import inspect
from trainer.adapters.export import export
from trainer.adapters.filing import fitting
from trainer.adapters.fold import LoraStrength
from trainer.adapters.tools.merge import merge, resize
from trainer.core.problem import Problem
from trainer.formats.architectures import family_modules
from trainer.formats.header import MAX_HEADER, read_header

VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
FORGE = {"sd1": "stable-diffusion-v1/lora", "sd2": "stable-diffusion-v2-512/lora", "sdxl": "stable-diffusion-xl-v1-base/lora"}


def a1111(said: dict[str, str]) -> str:
    """`detect_version` of extensions-builtin/Lora/network.py."""
    if said.get("ss_base_model_version", "").startswith("sdxl_"):
        return "sdxl"
    return "sd2" if said.get("ss_v2") == "True" else "sd1" if said else "unknown"


def lora(path: Path, family: str, said: dict[str, str] | None, layout: str = "diffusers") -> Path:
    layers = {place: one for place, one in factors(family_modules(family), 1, 1.0).items() if "attn2" in place[1]}
    return raw(path, ALL[layout](layers, family), said)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize(
    "said",
    [
        None, {"format": "pt"}, {"ss_output_name": "fox", "modelspec.title": "The fox"},
        {"ss_base_model_version": "sd_v1", "ss_v2": "False", "modelspec.architecture": "stable-diffusion-v1/lora"},
        {"ss_base_model_version": "sdxl_base_v1-0", "modelspec.architecture": "stable-diffusion-xl-v1-base"},
        {"ot_branch": "omi_format", "modelspec.sai_model_spec": "1.0.0"},
    ],
)  # fmt: skip
def test_every_tool_says_the_family_whatever_its_source_said(tmp_path: Path, family: str, said: dict | None) -> None:
    path = lora(tmp_path / "a.safetensors", family, said)
    new = [
        export(path, "kohya", tmp_path / "k.safetensors"), export(path, "diffusers", tmp_path / "d.safetensors"),
        merge([LoraStrength(path), LoraStrength(path, 0.5)], tmp_path / "m.safetensors"),
        resize(path, tmp_path / "r.safetensors", rank=1),
    ]  # fmt: skip
    for file in new:
        states = read_header(file).metadata
        assert a1111(states) == family and states["ss_v2"] == str(family == "sd2")
        assert states["modelspec.architecture"] == FORGE[family] and states["ss_base_model_version"] == VERSIONS[family]
        assert states["modelspec.sai_model_spec"] and states["modelspec.implementation"] and "ot_branch" not in states
        assert states["ss_network_module"] == "networks.lora" and states["ss_network_dim"]
        assert inspect(file).format.family == family
    kept = read_header(new[0]).metadata
    for key in ("ss_output_name", "modelspec.title"):
        assert kept.get(key) == (said or {}).get(key)
    assert inspect(new[0]).programs["a1111"].loads


def test_what_is_true_already_stays(tmp_path: Path) -> None:
    said = {"ss_base_model_version": "sd_v2_v", "modelspec.architecture": "stable-diffusion-v2-768-v/lora", "ss_v2": "True",
            "ss_tag_frequency": '{"a": {"fox": 3}}', "modelspec.resolution": "768x768", "ss_network_module": "networks.lora",
            "ss_network_dim": "1", "ss_network_alpha": "1.0", "ss_network_args": "{}", "ss_clip_skip": "2"}  # fmt: skip
    path = lora(tmp_path / "a.safetensors", "sd2", said)
    for layout in ("kohya", "diffusers"):
        assert said.items() <= read_header(export(path, layout, tmp_path / f"{layout}.safetensors")).metadata.items()
    states = read_header(resize(path, tmp_path / "r.safetensors", rank=1)).metadata
    assert {key: value for key, value in said.items() if "network" not in key}.items() <= states.items()


def test_v_prediction_is_kept_where_only_one_word_of_it_is_there(tmp_path: Path) -> None:
    path = lora(tmp_path / "a.safetensors", "sd2", {"modelspec.prediction_type": "v"})
    states = read_header(export(path, "kohya", tmp_path / "k.safetensors")).metadata
    assert states["ss_base_model_version"] == "sd_v2_v" and states["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora"


def test_a_merge_says_of_its_base_what_all_say(tmp_path: Path) -> None:
    one = lora(tmp_path / "1.safetensors", "sdxl", {"ss_sd_model_name": "a.safetensors", "modelspec.prediction_type": "v"})
    two = lora(tmp_path / "2.safetensors", "sdxl", {"ss_sd_model_name": "b.safetensors", "modelspec.prediction_type": "v"})
    three = lora(tmp_path / "3.safetensors", "sdxl", None)
    states = read_header(merge([LoraStrength(one), LoraStrength(two)], tmp_path / "m.safetensors")).metadata
    assert "ss_sd_model_name" not in states and states["modelspec.prediction_type"] == "v"
    states = read_header(merge([LoraStrength(three), LoraStrength(one)], tmp_path / "n.safetensors")).metadata
    assert states["ss_sd_model_name"] == "a.safetensors"


def test_seven_thousand_tags_are_read_shown_cut_and_kept_by_every_tool(tmp_path: Path) -> None:
    tags = json.dumps({"10_style": {f"tag {number:05} some words of it": number for number in range(7000)}})
    said = {"ss_tag_frequency": tags, "ss_datasets": tags * 3, "modelspec.trigger_phrase": "fox " * 100_000}
    path = lora(tmp_path / "a.safetensors", "sd1", said)
    assert len(json.dumps(said)) > 3 * 256 * 2**10
    shown = inspect(path)
    assert shown.metadata["ss_tag_frequency"] == tags and len(shown.trigger) <= 4096
    new = export(path, "kohya", tmp_path / "k.safetensors")
    assert said.items() <= read_header(new).metadata.items()
    assert said.items() <= read_header(lora_file.rewrite(new, tmp_path / "w.safetensors", {"x": "1"})).metadata.items()


def test_metadata_never_grows_beyond_what_can_be_read_again(tmp_path: Path) -> None:
    said = {"ss_long": "y" * (MAX_HEADER - 46_000), "ss_output_name": "fox"}
    path = lora(tmp_path / "a.safetensors", "sd1", said)
    notes: list[tuple[str, dict]] = []
    new = export(path, "diffusers", tmp_path / "d.safetensors", note=lambda code, params: notes.append((code, params)))
    assert read_header(new).metadata["ss_output_name"] == "fox"
    assert ("metadata_cut", {"keys": "ss_long"}) in notes and "ss_long" not in read_header(new).metadata
    with pytest.raises(Problem) as told:
        lora_file.rewrite(new, tmp_path / "w.safetensors", {"x": "y" * MAX_HEADER})
    assert told.value.code == "lora_header_large" and not (tmp_path / "w.safetensors").exists()
    assert fitting({"a": "b"}, 10**6) == {}


def test_a_hostile_pattern_of_brackets_in_metadata_is_no_crash(tmp_path: Path) -> None:
    deep = "[" * 200_000
    said = {"lora_adapter_metadata": deep, "atelier.alphas": deep, "ss_tag_frequency": deep, "atelier.config": deep}
    path = lora(tmp_path / "a.safetensors", "sd1", said)
    assert np.isfinite([layer.alpha for layer in lora_file.normalise(path).modules.values()]).all()
    assert inspect(path).format.family == "sd1"
    assert export(path, "kohya", tmp_path / "k.safetensors").is_file()
