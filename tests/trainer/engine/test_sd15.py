"""Stable Diffusion 1.5 at its real size (860 M, random weights) from a single file: names, counts, a training, a picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.helpers.ldm import save_single_file
from tests.helpers.training_home import Bench
from trainer.adapters.fold import LoraStrength
from trainer.bases import catalog
from trainer.bases.families import ModelComponents, family
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.home import Home
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter

ASSETS = family("sd1").assets


def real_size(where: str) -> tuple[Any, Any, Any]:
    """UNet, VAE and text encoder by the project's own configs."""
    from diffusers import AutoencoderKL, UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device(where):
        unet = UNet2DConditionModel.from_config(json.loads((ASSETS / "unet" / "config.json").read_text()))
        vae = AutoencoderKL.from_config(json.loads((ASSETS / "vae" / "config.json").read_text()))
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(ASSETS / "text_encoder"))
    return unet, vae, text


def test_attention_has_128_unet_and_48_text_encoder_modules():
    unet, vae, text = real_size("meta")
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    no_facts: Any = None  # an adapter asks for none
    parts = ModelComponents(
        family("sd1"), no_facts, unet, {"text_encoder": text}, {}, vae, None, torch.device("meta"), torch.float32
    )
    adapter = Adapter(parts, TrainConfig())
    assert sum(p == "unet" for p, _ in adapter.layers) == 128
    assert sum(p == "text_encoder" for p, _ in adapter.layers) == 48


@pytest.fixture(scope="module")
def single_file(tmp_path_factory) -> Path:
    unet, vae, text = real_size("meta")
    torch.manual_seed(0)
    for model in (unet, vae, text):
        model.to(torch.float16).to_empty(device="cpu")
        for name, parameter in model.named_parameters():
            value = torch.ones if "norm" in name and name.endswith("weight") else torch.zeros
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.data = (torch.randn(parameter.shape, dtype=torch.float32) * 0.7 / fan_in**0.5).half()
            else:
                parameter.data = value(parameter.shape, dtype=torch.float16)
    return save_single_file(unet, vae, text, tmp_path_factory.mktemp("sd15") / "sd15.safetensors")


@pytest.mark.slow
def test_a_single_file_trains_saves_and_draws(single_file, picture_folder, tmp_path):
    shutil.copytree(picture_folder, tmp_path / "set")
    bench = Bench(Home(tmp_path / "home").create(), single_file, tmp_path / "set")
    facts = catalog.find(bench.home, str(single_file))
    assert (facts.family, facts.layout, facts.prediction, facts.resolution) == ("sd1", "file", "epsilon", 512)
    config = bench.config("run.steps=2", "images.resolution=128", "run.batch_size=1", "samples.prompts=", "samples.steps=1")
    file = bench.train(config)
    assert file is not None
    assert all(e.loss is not None and np.isfinite(e.loss) for e in bench.events if isinstance(e, events.Step))
    with safe_open(file, "np") as lora:
        modules = {key.rsplit(".", 1)[0].removesuffix(".lora_down").removesuffix(".lora_up") for key in set(lora.keys())}
        assert lora.metadata()["ss_base_model_version"] == "sd_v1"
    assert sum(m.startswith("lora_unet_") for m in modules) == 128
    assert sum(m.startswith("lora_te_") for m in modules) == 48
    studio = ImageSampler.load(facts, torch.device("cpu"), torch.float32)
    asked = GenerateRequest(
        "a blob", steps=1, guidance=1.0, width=64, height=64, loras=(LoraStrength(file),), strengths=(0.0, 1.0)
    )
    base = next(iter(studio.draw(GenerateRequest(**{**asked.__dict__, "loras": (), "strengths": None})))).image
    zero, _one = (drawn.image for drawn in studio.draw(asked))
    assert np.array_equal(np.asarray(zero), np.asarray(base))
