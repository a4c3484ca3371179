"""Base models: found wherever they lie, known without loading, refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.lora_files import factors, raw
from trainer.adapters import file as lora_file
from trainer.bases import catalog
from trainer.config.load import preset
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.formats.header import read_header

UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": 768,
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "layers_per_block": 2,
}
TEXT = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}
XL = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
XL_FILE: dict[str, Any] = {
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": (),
    XL: (640, 2048),
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": (1, 77),
    "conditioner.embedders.1.model.ln_final.weight": (1280,),
}
"""What SDXL's single files have otherwise than `_single` writes."""
V_BIAS = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path / "home").create()


def _folder(
    path: Path,
    *,
    unet: dict | None = None,
    text: dict | None = None,
    scheduler: dict | None = None,
    index: dict | None = None,
    suffix: str = ".safetensors",
    card: str = "",
) -> Path:
    files = {
        "model_index.json": {"_class_name": "StableDiffusionPipeline"} | (index or {}),
        "unet/config.json": UNET | (unet or {}),
        "text_encoder/config.json": TEXT | (text or {}),
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
        "scheduler/scheduler_config.json": scheduler or {},
        "tokenizer/tokenizer_config.json": {},
    }
    for name, tree in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(tree), "utf-8")
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (path / part / f"{stem}{suffix}").write_bytes(b"\0" * 100)
    if card:
        (path / "README.md").write_text(card, "utf-8")
    return path


def _single(path: Path, cross: int = 768, inputs: int = 4, said: dict | None = None, **more: Any) -> Path:
    shapes = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, inputs, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, cross),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77),
        "first_stage_model.decoder.conv_in.weight": (4, 4),
    } | more
    return raw(path, {key: np.zeros(shape, np.float16) for key, shape in shapes.items() if shape}, said)


def _code(home: Home, given: str) -> str:
    with pytest.raises(Problem) as told:
        catalog.find(home, given)
    assert told.value.field == "model.base" or told.value.code.startswith("lora_")
    assert told.value.sentence("ja") != f"problems.{told.value.code}"
    return told.value.code


def test_the_embedded_base_is_found_wherever_the_home_is(home: Home) -> None:
    facts = catalog.find(home, "mini")
    assert [found.id for found in catalog.list_bases(home)] == ["mini"]
    assert facts.path is not None and not facts.path.is_relative_to(home.root)
    assert (facts.layout, facts.family, facts.version, facts.licence) == ("folder", "sd1", "sd_v1", "Apache-2.0")
    assert facts.resolution == 128 and facts.prediction == "v_prediction" and facts.zero_snr and len(facts.sample_prompts) >= 2
    assert facts.title_in("ja") != facts.title_in("en") and facts.size_bytes > 10 * 2**20
    assert facts.licence_summary("en") and facts.licence_summary("ja") != facts.licence_summary("en")
    assert {part for part, _ in catalog.layers(facts)} == {"unet", "text_encoder"} and len(catalog.layers(facts)) > 100


def test_a_folder_in_the_models_folder_is_listed_and_found_by_name(home: Home) -> None:
    card = "---\nlicense: creativeml-openrail-m\ntags: [x]\n---\n# A model\nlicense: mit"
    path = _folder(home.models / "sd15", card=card)
    found = {facts.id: facts for facts in catalog.list_bases(home)}
    assert set(found) == {"mini", "sd15"} and found["sd15"] == catalog.find(home, "sd15")
    assert catalog.find(home, str(path)).path == path
    facts = found["sd15"]
    assert (facts.family, facts.prediction, facts.zero_snr, facts.resolution) == ("sd1", "epsilon", False, 512)
    assert facts.licence == "CreativeML OpenRAIL-M" and facts.licence_facts.sell == "conditions"
    assert len(catalog.layers(facts)) == 282 + 72


def test_prediction_and_zero_snr_are_read_from_the_scheduler(home: Home) -> None:
    _folder(home.models / "v", scheduler={"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    facts = catalog.find(home, "v")
    assert facts.prediction == "v_prediction" and facts.zero_snr
    _folder(home.models / "odd", scheduler={"prediction_type": "sample"})
    assert _code(home, "odd") == "base_prediction"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"unet": {"cross_attention_dim": 1024}}, "base_parts"),
        ({"unet": {"cross_attention_dim": 2048}, "index": {"text_encoder_2": ["transformers", "b"]}}, "base_parts"),
        ({"unet": {"cross_attention_dim": 1280, "addition_embed_type": "text_time"}}, "base_refiner"),
        ({"unet": {"cross_attention_dim": 1024, "class_embed_type": "projection"}}, "base_other_kind"),
        ({"scheduler": {"_class_name": "EDMEulerScheduler"}}, "base_prediction"),
        ({"unet": {"in_channels": 9}}, "base_inpainting"),
        ({"text": {"hidden_size": 512}}, "base_parts"),
        ({"index": {"unet": ["evil", "UNet"]}}, "base_own_code"),
        ({"index": {"_class_name": ["pipeline", "Evil"]}}, "base_own_code"),
        ({"suffix": ".bin"}, "base_pickle_only"),
        ({"suffix": ".msgpack"}, "base_parts"),
    ],
)
def test_folders_that_cannot_be_taught_say_why(home: Home, words: dict, code: str) -> None:
    _folder(home.models / "other", **words)
    assert _code(home, "other") == code
    assert [facts.id for facts in catalog.list_bases(home)] == ["mini"]
    assert [(name, problem.code) for name, problem in catalog.refused_bases(home)] == [("other", code)]


def test_a_folder_of_another_kind_of_model(home: Home) -> None:
    path = home.models / "flux"
    path.mkdir()
    (path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}', "utf-8")
    assert _code(home, "flux") == "base_other_kind"
    (path / "model_index.json").write_text("{", "utf-8")
    assert _code(home, str(path)) == "base_not_a_model"


def test_a_single_file_is_known_by_its_header(home: Home) -> None:
    said = {"modelspec.title": "My base", "modelspec.resolution": "640x640", "modelspec.license": "MIT"}
    _single(home.models / "v1-5-pruned-emaonly.safetensors")
    (home.models / "sub").mkdir()
    _single(home.models / "sub" / "mine.safetensors", said=said)
    plain, mine = catalog.find(home, "v1-5-pruned-emaonly"), catalog.find(home, "sub/mine.safetensors")
    assert (plain.layout, plain.family, plain.prediction, plain.resolution) == ("file", "sd1", "epsilon", 512)
    assert plain.licence == "CreativeML OpenRAIL-M" and plain.title == "v1-5-pruned-emaonly"
    assert (mine.title, mine.resolution, mine.licence, mine.licence_facts.key) == ("My base", 640, "MIT", "mit")
    assert len(catalog.layers(plain)) == 354 and {facts.id for facts in catalog.list_bases(home)} == {
        "mini",
        "v1-5-pruned-emaonly.safetensors",
        "sub/mine.safetensors",
    }


def test_folders_of_sd2_and_sdxl_are_known_with_their_sizes(home: Home) -> None:
    sd2 = {"cross_attention_dim": 1024, "sample_size": 96, "use_linear_projection": True}
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23}
    _folder(home.models / "sd21", unet=sd2, text=text, scheduler={"prediction_type": "v_prediction"})
    facts = catalog.find(home, "sd21")
    assert (facts.family, facts.version, facts.prediction, facts.resolution) == ("sd2", "sd_v2_v", "v_prediction", 768)
    assert len(catalog.layers(facts)) == 282 + 138
    _folder(home.models / "sd2b", unet=sd2 | {"sample_size": 64}, text=text)
    facts = catalog.find(home, "sd2b")
    assert (facts.family, facts.version, facts.prediction, facts.resolution) == ("sd2", "sd_v2", "epsilon", 512)
    unet = {
        "cross_attention_dim": 2048, "sample_size": 128, "addition_embed_type": "text_time",
        "block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    }  # fmt: skip
    path = _folder(
        home.models / "xl", unet=unet, index={"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]},
        scheduler={"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    )  # fmt: skip
    assert _code(home, "xl") == "base_parts"
    (path / "text_encoder_2").mkdir()
    (path / "text_encoder_2" / "config.json").write_text(
        '{"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}'
    )
    (path / "text_encoder_2" / "model.fp16.safetensors").write_bytes(b"\0")
    assert _code(home, "xl") == "base_parts"
    (path / "tokenizer_2").mkdir()
    facts = catalog.find(home, "xl")
    assert (facts.family, facts.version, facts.resolution) == ("sdxl", "sdxl_base_v1-0", 1024)
    assert facts.prediction == "v_prediction" and facts.zero_snr
    groups = [module.group for module in catalog.layers(facts).values()]
    assert groups.count("attention") == 560 + 48 + 128 and groups.count("mlp") == 162 + 24 + 64


@pytest.mark.parametrize(
    ("name", "words", "wanted"),
    [
        ("v1", {}, ("sd1", "sd_v1", "epsilon", False, 512)),
        ("wide", {"cross": 1024, V_BIAS: (320,)}, ("sd2", "sd_v2", "epsilon", False, 512)),
        ("mine-768-v_pred", {"cross": 1024}, ("sd2", "sd_v2_v", "v_prediction", False, 768)),
        ("xl", XL_FILE, ("sdxl", "sdxl_base_v1-0", "epsilon", False, 1024)),
        ("noob", XL_FILE | {"v_pred": (1,), "ztsnr": (1,)}, ("sdxl", "sdxl_base_v1-0", "v_prediction", True, 1024)),
        ("xl-vpred-ztsnr", XL_FILE, ("sdxl", "sdxl_base_v1-0", "v_prediction", True, 1024)),
    ],
)
def test_single_files_say_family_prediction_and_schedule(home: Home, name: str, words: dict, wanted: tuple) -> None:
    facts = catalog.find(home, str(_single(home.models / f"{name}.safetensors", **words)))
    assert (facts.family, facts.version, facts.prediction, facts.zero_snr, facts.resolution) == wanted


def test_a_spread_bias_or_the_yaml_beside_it_tells_v_prediction(home: Home) -> None:
    bias: dict[str, Any] = {V_BIAS: (320,)}
    path = _single(home.models / "v2.safetensors", cross=1024, **bias)
    header = read_header(path)
    data = bytearray(path.read_bytes())
    place = header.tensors[V_BIAS]
    spread = np.linspace(-0.4, 0.4, 320).astype(np.float16).tobytes()
    data[header.offset + place.start : header.offset + place.end] = spread
    path.write_bytes(data)
    assert catalog.find(home, "v2").prediction == "v_prediction"
    plain = _single(home.models / "plain.safetensors")
    plain.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n    zsnr: true\n')
    facts = catalog.find(home, "plain")
    assert facts.prediction == "v_prediction" and facts.zero_snr


def test_a_vae_beside_a_single_file_belongs_to_it(home: Home) -> None:
    _single(home.models / "a.b.safetensors")
    raw(home.models / "a.b.vae.safetensors", {"encoder.conv_in.weight": np.zeros(3, np.float16)})
    assert catalog.find(home, "a.b").vae == (home.models / "a.b.vae.safetensors").resolve()
    assert {facts.id for facts in catalog.list_bases(home)} == {"mini", "a.b.safetensors"}
    assert catalog.refused_bases(home) == []


def test_another_vae_is_found_or_refused(home: Home, tmp_path: Path) -> None:
    base = _folder(home.models / "sd15")
    raw(home.models / "kl.safetensors", {"a": np.zeros(3, np.float16)})
    assert catalog.find_vae(home, "kl.safetensors") == (home.models / "kl.safetensors").resolve()
    assert catalog.find_vae(home, str(base)) == catalog.find_vae(home, "sd15/vae") == (base / "vae").resolve()
    (tmp_path / "kl.ckpt").write_bytes(b"x")
    for given, code in (
        (str(tmp_path / "kl.ckpt"), "base_pickle"), ("gone", "vae_not_here"), ("../x", "base_dots"),
        ("https://x/vae", "base_url"), (str(tmp_path), "vae_none"),
    ):  # fmt: skip
        with pytest.raises(Problem) as told:
            catalog.find_vae(home, given)
        assert (told.value.code, told.value.field) == (code, "model.vae")


@pytest.mark.parametrize("words", [{"said": {"modelspec.prediction_type": "v"}}, {"v_pred": (1,), "ztsnr": (1,)}])
def test_a_single_file_may_state_its_prediction(home: Home, words: dict) -> None:
    facts = catalog.find(home, str(_single(home.models / "v.safetensors", **words)))
    assert facts.prediction == "v_prediction" and facts.zero_snr == ("ztsnr" in words)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (XL_FILE | {"conditioner.embedders.1.model.ln_final.weight": ()}, "base_parts"),
        (XL_FILE | {XL: (640, 1280)}, "base_refiner"),
        (XL_FILE | {"edm_mean": (4,)}, "base_prediction"),
        (XL_FILE | {"edm_vpred.sigma_max": (1,)}, "base_prediction"),
        ({"cross": 1024, "model.diffusion_model.label_emb.0.0.weight": (4, 4)}, "base_other_kind"),
        ({"inputs": 9}, "base_inpainting"),
        ({"cross": 333}, "base_other_kind"),
        ({"inputs": 16}, "base_other_kind"),
        ({"model.diffusion_model.input_blocks.0.0.weight": ()}, "base_other_kind"),
    ],
)
def test_single_files_that_cannot_be_taught_say_why(home: Home, words: dict, code: str) -> None:
    _single(home.models / "x.safetensors", **words)
    assert _code(home, "x.safetensors") == code


def test_other_files_are_refused_for_what_they_are(home: Home) -> None:
    lora_file.write(home.models / "lora.safetensors", factors(), {})
    assert _code(home, "lora.safetensors") == "base_is_lora"
    raw(home.models / "thing.safetensors", {"a": np.zeros(3, np.float16)})
    assert _code(home, "thing.safetensors") == "base_not_a_model"
    for name in ("model.ckpt", "model.pt", "model.bin"):
        (home.models / name).write_bytes(b"\x80\x02hostile")
        assert _code(home, name) == "base_pickle"
    (home.models / "renamed.safetensors").write_bytes(b"PK\x03\x04")
    assert _code(home, "renamed.safetensors") == "lora_pickle"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("../../etc", "base_dots"),
        ("models/../../etc/passwd", "base_dots"),
        ("..\\..\\windows", "base_dots"),
        ("owner/..", "base_dots"),
        ("https://example.com/model.safetensors", "base_url"),
        ("file:///etc/passwd", "base_url"),
        ("http:evil", "base_url"),
        ("/etc", "base_not_a_model"),
        ("/nowhere/at/all", "base_not_here"),
        ("nope", "base_missing"),
        ("", "base_missing"),
        ("  ", "base_missing"),
        ("a\0b", "base_url"),
        ("a/b/c", "base_missing"),
        ("a" * 5_000, "base_missing"),
        ("\ud800", "base_missing"),
        ("owner/name.git", "base_missing"),
        ("-owner/name", "base_missing"),
        ("o/n@../x", "base_missing"),
        ("~/../x", "base_dots"),
        ("gone.safetensors", "base_not_here"),
        ("~no-such-account/x", "base_missing"),
        ("~no-such-account/x.safetensors", "base_not_here"),
    ],
)
def test_names_that_are_no_base_are_refused(home: Home, given: str, code: str) -> None:
    assert _code(home, given) == code


FLOWS = ("flow", "Rectified-Flow", "flow_matching", "flow_prediction", "rf")
FLOW_SAYS = [{"modelspec.prediction_type": said} for said in FLOWS]


@pytest.mark.parametrize("said", [*FLOW_SAYS, {"modelspec.noise_process": "flow", "modelspec.prediction_type": "velocity"}])
def test_a_rectified_flow_file_is_refused_by_name(home: Home, said: dict) -> None:
    _single(home.models / "x.safetensors", said=said, **XL_FILE)
    assert _code(home, "x.safetensors") == "base_flow"
    marks: list[dict[str, Any]] = [{"rectified_flow": (1,)}, {"said": {"ss_flow_model": "True"}}]
    for mark in marks:
        assert _code(home, str(_single(home.root / "marked.safetensors", **XL_FILE, **mark))) == "base_flow"
    saved = {"workflow": "true", "prompt": '{"1": "flow"}'}
    assert catalog.find(home, str(_single(home.root / "saved.safetensors", said=saved, **XL_FILE))).prediction == "epsilon"
    ((name, problem),) = catalog.refused_bases(home)
    assert name == "x.safetensors" and "rectified" in problem.sentence("en") and "rectified" in problem.sentence("ja")


def test_a_rectified_flow_file_that_says_nothing_is_known_by_its_name_unless_it_states_otherwise(home: Home) -> None:
    for name in ("NoobAI-RectifiedFlow", "xl_rectified-flow_v2", "xl flow-matching"):
        assert _code(home, str(_single(home.models / f"{name}.safetensors", **XL_FILE))) == "base_flow"
    stated = {"modelspec.prediction_type": "epsilon"}
    path = _single(home.models / "from-rectified-flow-to-eps.safetensors", said=stated, **XL_FILE)
    assert catalog.find(home, str(path)).prediction == "epsilon"
    assert catalog.find(home, str(_single(home.models / "overflowing.safetensors", **XL_FILE))).prediction == "epsilon"


@pytest.mark.parametrize(
    "words",
    [
        {"scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"}},
        {"scheduler": {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"}},
        {"scheduler": {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}},
        {"index": {"scheduler": ["diffusers", "FlowMatchHeunDiscreteScheduler"]}},
    ],
)
def test_a_rectified_flow_folder_is_refused_by_name(home: Home, words: dict) -> None:
    _folder(home.models / "other", **words)
    assert _code(home, "other") == "base_flow"


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("transformer_blocks.0.img_mod.1.weight", "Qwen-Image"),
        ("noise_refiner.0.attention.qkv.weight", "Lumina 2, Z-Image"),
        ("model.diffusion_model.double_layers.0.attn.w1q.weight", "AuraFlow"),
    ],
)
def test_another_architecture_is_called_by_its_name(home: Home, key: str, kind: str) -> None:
    raw(home.models / "x.safetensors", {key: np.zeros((4, 4), np.float16)})
    with pytest.raises(Problem) as told:
        catalog.find(home, "x.safetensors")
    assert told.value.code == "base_other_kind" and kind in told.value.sentence("en")


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (
            {"said": {"modelspec.prediction_type": "epsilon"}, "v_pred": (0,)},
            "v_prediction",
            "v_pred ≠ modelspec.prediction_type",
        ),
        ({"ztsnr": (0,)}, "epsilon", "ztsnr ≠ epsilon"),
        ({"said": {"modelspec.prediction_type": "epsilon"}, "ztsnr": (0,)}, "epsilon", "ztsnr ≠ epsilon"),
        (
            {"said": {"modelspec.prediction_type": "eps", "modelspec.architecture": "stable-diffusion-v2-768-v"}},
            "epsilon",
            "modelspec.prediction_type: eps ≠ modelspec.architecture",
        ),
    ],
)
def test_a_file_that_contradicts_itself_is_not_trained_until_somebody_decides(
    home: Home, words: dict, kind: str, said: str
) -> None:
    facts = catalog.find(home, str(_single(home.models / "x.safetensors", **XL_FILE, **words)))
    assert facts.prediction == kind and facts.doubt.startswith(said)
    with pytest.raises(Problem) as told:
        facts.check("auto", "")
    assert (told.value.code, told.value.field) == ("base_doubt", "model.prediction_type") and said in told.value.sentence("ja")
    for chosen in ("epsilon", "v_prediction"):
        facts.check(chosen, "")
        assert (facts.with_prediction(chosen).prediction, facts.with_prediction(chosen).doubt) == (chosen, "")


def test_what_a_base_states_counts_before_its_name_and_a_folder_may_contradict_itself_too(home: Home) -> None:
    path = _single(home.models / "x-v_pred-ztsnr.safetensors", said={"modelspec.prediction_type": "epsilon"}, **XL_FILE)
    facts = catalog.find(home, str(path))
    assert (facts.prediction, facts.stated, facts.zero_snr, facts.doubt) == ("epsilon", "epsilon", False, "")
    guessed = catalog.find(home, str(_single(home.models / "y-v_pred.safetensors", **XL_FILE)))
    assert (guessed.prediction, guessed.stated) == ("v_prediction", "")
    unsaid = _single(home.models / "z.safetensors", said={"modelspec.prediction_type": "None"}, **XL_FILE)
    assert catalog.find(home, str(unsaid)).prediction == "epsilon"
    odd = _single(home.models / "odd.safetensors", said={"modelspec.prediction_type": "sample"}, **XL_FILE)
    assert _code(home, str(odd)) == "base_prediction"
    _folder(home.models / "eps-zero", scheduler={"prediction_type": "epsilon", "rescale_betas_zero_snr": True})
    assert catalog.find(home, "eps-zero").doubt == "rescale_betas_zero_snr ≠ prediction_type: epsilon"


@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_base_without_a_vae_says_so_and_how_to_choose_one(home: Home, layout: str) -> None:
    if layout == "file":
        no_vae: dict[str, Any] = {"first_stage_model.decoder.conv_in.weight": ()}
        path = _single(home.models / "bare.safetensors", **no_vae)
    else:
        path = _folder(home.models / "bare")
        shutil.rmtree(path / "vae")
    facts = catalog.find(home, str(path))
    assert not facts.has_vae and facts.id in {str(path)}
    with pytest.raises(Problem) as told:
        facts.check("auto", "")
    assert (told.value.code, told.value.field) == ("base_no_vae", "model.vae")
    assert all("VAE" in told.value.sentence(lang) and "model.vae" in told.value.sentence(lang) for lang in ("en", "ja"))
    facts.check("auto", "kl.safetensors")
    if layout == "file":
        raw(home.models / "bare.vae.safetensors", {"encoder.conv_in.weight": np.zeros(3, np.float16)})
        catalog.find(home, str(path)).check("auto", "")


def test_a_hub_id_is_promised_until_it_is_fetched(home: Home) -> None:
    facts = catalog.find(home, "stable-diffusion-v1-5/stable-diffusion-v1-5@0123abc")
    assert (facts.path, facts.layout, facts.revision) == (None, "hub", "0123abc")
    assert facts.id == "stable-diffusion-v1-5/stable-diffusion-v1-5" and facts.licence == "CreativeML OpenRAIL-M"
    assert catalog.find(home, "owner/name", "main").revision == "main"


def test_presets_expect_of_a_hub_base_what_its_name_suggests(home: Home) -> None:
    xl = catalog.find(home, "stabilityai/stable-diffusion-xl-base-1.0")
    assert (xl.path, xl.family, xl.resolution) == (None, "sdxl", 1024)
    assert preset("style", xl)["lora"]["train_text_encoder"] is False
    assert catalog.find(home, "stabilityai/stable-diffusion-2-1").family == "sd2"
    assert "text_encoder" not in preset("style", catalog.find(home, "owner/name"))["lora"]
