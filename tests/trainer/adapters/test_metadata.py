"""What a file says about itself: complete, true, bounded, and never more than the person wants to tell."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.lora_files import factors, facts
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.config.train import TrainConfig

ITEMS = [
    ("inkfox, a fox, snow", (512, 512), 2),
    ("inkfox, a fox", (576, 448), 1),
    ("inkfox, secret garden", (512, 512), 1),
]
RUN = {
    "steps": 100,
    "total_steps": 200,
    "loss": 0.1,
    "started": 1_700_000_000.0,
    "finished": 1_700_000_600.0,
    "run_id": "r1",
}


def _config(**sections: Any) -> TrainConfig:
    tree: dict[str, Any] = {
        "images": {"folder": "/home/someone/private/pictures"},
        "captions": {"trigger": "inkfox"},
        "rights": {"pictures_ok": True, "pictures_licence": "mine", "licence": "CC-BY-4.0", "purpose": "Ink foxes"},
        "save": {"name": "Ink fox"},
        "samples": {"prompts": ["inkfox in the secret garden"]},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return TrainConfig.model_validate(tree)


def _build(config: TrainConfig | None = None, base: Any = None, **words: Any) -> dict[str, str]:
    given = {"items": ITEMS, "name": "Ink fox", "cover": None} | RUN | words
    return metadata.build(config or _config(), base or facts(), **given)


def test_every_key_other_programs_read_is_there() -> None:
    said = _build()
    assert all(isinstance(value, str) for value in said.values())
    assert {
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "16",
        "ss_network_alpha": "8.0",
        "ss_network_args": "{}",
        "ss_output_name": "Ink_fox",
        "ss_sd_model_name": "sd15",
        "ss_resolution": "(512, 512)",
        "ss_clip_skip": "None",
        "ss_num_train_images": "4",
        "ss_seed": "0",
        "ss_training_started_at": "1700000000.0",
        "ss_unet_lr": "0.0002",
        "ss_text_encoder_lr": "5e-05",
        "ss_lr_scheduler": "cosine",
        "ss_steps": "100",
        "ss_min_snr_gamma": "5.0",
        "ss_noise_offset": "None",
        "ss_epoch": "50",
    }.items() <= said.items()
    assert {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "Ink fox",
        "modelspec.license": "CC-BY-4.0",
        "modelspec.trigger_phrase": "inkfox",
        "modelspec.prediction_type": "epsilon",
        "modelspec.resolution": "512x512",
        "modelspec.description": "Ink foxes",
        "modelspec.date": "2023-11-14T22:23:20Z",
        "modelspec.tags": "style",
        "modelspec.usage_hint": "Strength 0.5 to 1, start with 0.8.",
    }.items() <= said.items()
    assert json.loads(said["ss_bucket_info"])["buckets"] == {
        "0": {"resolution": [512, 512], "count": 3},
        "1": {"resolution": [576, 448], "count": 1},
    }
    assert json.loads(said["ss_dataset_dirs"]) == {"Ink_fox": {"n_repeats": 1, "img_count": 3}}
    licences = json.loads(said["atelier.licences"])
    assert licences["base"] == "CreativeML OpenRAIL-M" and licences["pictures"] == "mine" and licences["result"] == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("family", "version", "prediction", "architecture", "v2"),
    [
        ("sd1", "sd_v1", "v_prediction", "stable-diffusion-v1/lora", "False"),
        ("sd2", "sd_v2_v", "v_prediction", "stable-diffusion-v2-768-v/lora", "True"),
        ("sd2", "sd_v2", "epsilon", "stable-diffusion-v2-512/lora", "True"),
        ("sdxl", "sdxl_base_v1-0", "epsilon", "stable-diffusion-xl-v1-base/lora", "False"),
    ],
)
def test_every_family_is_filed_where_it_belongs(family: str, version: str, prediction: str, architecture: str, v2: str) -> None:
    said = _build(base=facts(family=family, version=version, prediction=prediction))
    assert (said["modelspec.architecture"], said["ss_base_model_version"], said["ss_v2"]) == (architecture, version, v2)
    assert said["modelspec.prediction_type"] == ("v" if prediction == "v_prediction" else "epsilon")


def test_the_trigger_comes_first_and_only_the_commonest_tags_follow() -> None:
    assert list(json.loads(_build()["ss_tag_frequency"])["Ink_fox"].items())[:2] == [("inkfox", 4), ("a fox", 3)]
    many = [(f"zz, tag {i:04d}, {'x' * 500}{i}", (512, 512), 1) for i in range(2_000)]
    tags = metadata.tag_frequency(many, "zz")
    assert len(tags) == 100 and next(iter(tags)) == "zz" and tags["zz"] == 2_000
    assert max(map(len, tags)) == 120
    # sorted by name and cut at a hundred, as ComfyUI does, the trigger is still among them
    assert "zz" in sorted(tags)[:100]
    assert next(iter(metadata.tag_frequency([("a fox", (8, 8), 3)], "absent"))) == "absent"


def test_no_path_of_this_machine_is_written() -> None:
    base = facts(id="/home/someone/models/base.safetensors", layout="folder")
    said = json.dumps(_build(_config(model={"base": "/home/someone/models/base.safetensors"}), base))
    assert "/home" not in said and "someone" not in said and "private" not in said
    windows = facts(id="C:\\Users\\someone\\base.safetensors")
    told = _build(base=windows)
    assert told["ss_sd_model_name"] == "base.safetensors" and "someone" not in json.dumps(told)


def test_private_words_stay_private() -> None:
    open_, shut = _build(), _build(_config(save={"share_captions": False}))
    assert "secret garden" in json.dumps(open_)
    text = json.dumps(shut)
    assert "secret" not in text and "a fox" not in text
    assert json.loads(shut["ss_tag_frequency"]) == {"images": {"inkfox": 4}}
    assert shut["modelspec.trigger_phrase"] == "inkfox" and json.loads(shut["ss_dataset_dirs"])["images"]["img_count"] == 3


def test_the_whole_tree_of_options_travels_with_the_file() -> None:
    config = _config(lora={"rank": 32}, optimizer={"name": "prodigy", "d_coef": 2.0})
    tree = json.loads(_build(config)["atelier.config"])
    assert TrainConfig.model_validate(tree).lora.rank == 32
    assert tree["optimizer"]["name"] == "prodigy" and tree["optimizer"]["d_coef"] == 2.0 and tree["images"]["folder"] == ""
    said = _build(config)["ss_optimizer"]
    assert said.startswith("Prodigy(") and "d_coef=2.0" in said


def test_a_hub_base_is_named_with_its_commit() -> None:
    base = facts(id="owner/name", layout="hub", revision="abc123")
    tree = json.loads(_build(base=base)["atelier.config"])
    assert tree["model"] == {"base": "owner/name", "revision": "abc123", "prediction_type": "auto", "vae": ""}


def test_the_cover_is_carried_as_both_programs_want_it() -> None:
    jpeg = b"\xff\xd8" + b"x" * 1_000
    said = _build(cover=jpeg)
    assert base64.b64decode(json.loads(said["ssmd_cover_images"])[0]) == jpeg
    assert said["modelspec.thumbnail"] == "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    for other in (None, b"", b"\x89PNG" + b"x" * 100, jpeg * 1_000):
        assert "ssmd_cover_images" not in _build(cover=other)


def test_the_largest_file_is_still_read_back(tmp_path: Path) -> None:
    long = "語" * 100_000
    config = _config(
        rights={"purpose": long, "licence": long, "pictures_licence": long},
        samples={"prompts": [long] * 20},
    )
    items = [(", ".join(f"{i}{j}語" * 100 for j in range(20)), (512, 512), 1) for i in range(200)]
    said = _build(config, items=items, cover=b"\xff\xd8" + b"x" * 40_000, name="名" * 300)
    path = lora_file.write(tmp_path / "a.safetensors", factors(), said)
    assert sum(len(key.encode()) + len(value.encode()) for key, value in said.items()) < 256 * 2**10
    assert lora_file.read_header(path).metadata["ss_steps"] == "100"


def test_a_single_file_base_is_named_by_its_hashes(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "base.safetensors"
    path.write_bytes(b"0123456789abcdef" * 70_000)
    said = _build(base=facts(path=path, layout="file", id="base.safetensors"))
    assert said["ss_new_sd_model_hash"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert said["ss_sd_model_hash"] == hashlib.sha256(path.read_bytes()[0x100000:0x110000]).hexdigest()[:8]


@pytest.mark.parametrize(
    ("lora", "module", "dim", "alpha", "args"),
    [
        ({}, "networks.lora", "16", "8.0", {}),
        ({"type": "rslora"}, "networks.lora", "16", "32.0", {}),
        ({"init": "pissa"}, "networks.lora", "32", "16.0", {}),
        ({"targets": "all", "conv_rank": 4}, "networks.lora", "16", "8.0", {"conv_dim": "4", "conv_alpha": "2.0"}),
        ({"type": "dora"}, "lycoris.kohya", "16", "8.0", {"algo": "lora", "dora_wd": "True", "wd_on_output": "False"}),
        ({"type": "loha", "rank_dropout": 0.1}, "lycoris.kohya", "16", "8.0", {"algo": "loha", "rank_dropout": "0.1"}),
        ({"type": "lokr"}, "lycoris.kohya", "16", "8.0", {"algo": "lokr", "factor": "-1"}),
    ],
)
def test_the_kind_is_said_in_words_other_programs_know(lora: dict, module: str, dim: str, alpha: str, args: dict) -> None:
    said = metadata.network(TrainConfig.model_validate({"lora": lora}).lora)
    assert (said["ss_network_module"], str(said["ss_network_dim"]), str(said["ss_network_alpha"])) == (module, dim, alpha)
    assert json.loads(said["ss_network_args"]) == args


def test_the_pictures_are_summed_up_without_their_words() -> None:
    items = [("inkfox, a red fox", (512, 512), 2), ("", (512, 768), 1)]
    assert metadata.summary(items) == {
        "pictures": 2,
        "looks": 3,
        "formats": {"512x512": 2, "512x768": 1},
        "captioned": 1,
        "words": 2.0,
    }


def test_a_file_gone_on_from_is_named_without_its_folder() -> None:
    config = TrainConfig.model_validate({"lora": {"continue_from": "/home/somebody/secret/fox.safetensors"}})
    assert metadata.public_config(config, facts())["lora"]["continue_from"] == "fox.safetensors"


def test_the_first_prompt_it_was_tried_with_is_told_unless_words_are_private() -> None:
    own = {"samples": {"prompts": []}, "run": {"kind": "character"}}
    assert _build()["atelier.prompt"] == "inkfox in the secret garden"
    assert _build(_config(**own))["atelier.prompt"] == "inkfox, a fox, snow"
    assert _build(_config(save={"share_captions": False}, **own))["atelier.prompt"] == "inkfox"
