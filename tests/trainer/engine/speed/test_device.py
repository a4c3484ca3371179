"""Choosing device, number format and attention; the libraries are not fooled by our folder's name."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from trainer.config.sections.memory import Memory
from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.speed import device


def test_a_cpu_computes_in_fp32_with_sdpa():
    cpu = torch.device("cpu")
    assert device.choose_dtype("auto", cpu) is torch.float32
    assert device.choose_dtype("bf16", cpu) is torch.bfloat16
    backend, why = device.choose_attention(None, Memory(), cpu, torch.float32)
    assert backend == "sdpa" and "cpu" in why


def test_16_bits_on_a_cpu_take_the_attention_that_is_quicker_here_to_about_the_same_losses(bench, monkeypatch):
    assert device._plain_speed(torch.bfloat16) > 0
    losses = []
    for speed, wanted in ((2.0, "plain"), (0.5, "sdpa")):
        monkeypatch.setattr(device, "_plain_speed", lambda dtype, speed=speed: speed)
        bench.train(bench.config("memory.base_dtype=bf16", "run.steps=3", "samples.steps=1"), wanted)
        (started,) = [e for e in bench.events if isinstance(e, events.Started)]
        assert started.facts["attention"] == wanted and f"{speed:.2f} times" in started.facts["attention_why"]
        losses.append(bench.losses())
    bench.train(bench.config("run.steps=3", "samples.steps=1"), "fp32")
    for each in losses:
        assert each == pytest.approx(bench.losses(), rel=0.005)


def test_convolutions_go_channels_last_only_on_a_gpu_that_is_quicker_so(bench, monkeypatch):
    parts = load_base(bench.config(), bench.home)
    noisy, hidden = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 32)
    wanted = parts.unet(noisy, 5, encoder_hidden_states=hidden).sample
    assert device.choose_layout(parts.unet, torch.device("cpu"), torch.float32) == "contiguous: cpu"
    for speed, said in ((0.8, "contiguous"), (1.4, "channels-last")):
        monkeypatch.setattr(device, "_layout_speed", lambda device, dtype, speed=speed: speed)
        told = device.choose_layout(parts.unet, torch.device("cuda"), torch.bfloat16)
        assert told.startswith(said) and f"{speed:.2f}" in told
        weight = parts.unet.down_blocks[0].resnets[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == (said == "channels-last")
        torch.testing.assert_close(parts.unet(noisy, 5, encoder_hidden_states=hidden).sample, wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_layouts_are_timed_on_a_gpu():
    assert device._layout_speed(torch.device("cuda"), torch.bfloat16) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_missing_device_is_said():
    with pytest.raises(Problem) as problem:
        device.choose_device("cuda:3")
    assert problem.value.code == "device_missing"


def test_the_dtype_self_test_notices_a_format_that_gives_nan(monkeypatch):
    cpu = torch.device("cpu")
    assert device._computes(cpu, torch.bfloat16)
    original = torch.nn.functional.conv2d
    monkeypatch.setattr(
        torch.nn.functional, "conv2d", lambda x, w, **k: original(x, w, **k) * (1 if x.dtype == torch.float32 else float("nan"))
    )
    assert not device._computes(cpu, torch.bfloat16)


def test_the_folder_datasets_is_not_taken_for_the_library_of_that_name():
    spec = importlib.util.find_spec("datasets")
    assert spec is None or spec.origin is None or "site-packages" in spec.origin
    device.silence_libraries()
    import transformers.utils
    from accelerate.utils import is_datasets_available as accelerates

    if spec is not None and spec.origin is None:
        assert not transformers.utils.is_datasets_available()  # pyright: ignore[reportPrivateImportUsage]
        assert not accelerates()
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import CLIPTextModel, CLIPTokenizer

    assert all(
        map(
            callable,
            (
                AutoencoderKL,
                DDPMScheduler,
                StableDiffusionPipeline,
                UNet2DConditionModel,
                LoraConfig,
                inject_adapter_in_model,
                CLIPTextModel,
                CLIPTokenizer,
            ),
        )
    )
