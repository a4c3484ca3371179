"""The quicker CPU path gives torch's own numbers, keeps out of drawing, and follows weights that change."""

from __future__ import annotations

import platform

import pytest
import torch
from peft.tuners.lora.layer import Conv2d as LoraConvolution
from torch.nn import functional

from trainer.engine.base import load_base
from trainer.engine.networks.adapter import Adapter
from trainer.engine.speed import onednn
from trainer.engine.speed.gradient_checkpointing import checkpoint_gradients


def prepared(bench, quick: bool, *words: str):
    """A base with LoRA layers whose B is not zero, and one look at it: prediction and gradients."""
    config = bench.config(*words)
    parts = load_base(config, bench.home)
    adapter = Adapter(parts, config)
    generator = torch.Generator().manual_seed(3)
    for parameter in adapter.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.05
    if quick:
        assert onednn.enable_onednn(parts)
    return parts, adapter


def looked(parts, adapter):
    generator = torch.Generator().manual_seed(4)
    noisy, t = torch.randn(2, 4, 8, 16, generator=generator), torch.tensor([10, 900])
    condition = parts.family.encode(parts, parts.family.tokens(parts, ["a blob", "red"]))
    predicted = parts.family.predict(parts, noisy, t, condition)
    if torch.is_grad_enabled():
        predicted.pow(2).mean().backward()
    gradients = [p.grad for p in adapter.parameters() if p.grad is not None]
    for parameter in adapter.parameters():
        parameter.grad = None
    return predicted.detach(), gradients


@pytest.mark.parametrize("large", [2**22, 0])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("words", [(), ("lora.targets=all", "lora.conv_rank=3")], ids=["attention", "convolutions too"])
def test_predictions_and_gradients_are_torchs_own_up_to_rounding(bench, monkeypatch, large, checkpointing, words):
    monkeypatch.setattr(onednn, "MIN_ONEDNN_MACS", large)
    results = []
    for quick in (False, True):
        parts, adapter = prepared(bench, quick, *words)
        convolutions = [layer for layer in parts.unet.modules() if isinstance(layer, LoraConvolution)]
        assert bool(convolutions) == bool(words) and all(("forward" in vars(layer)) is quick for layer in convolutions)
        if checkpointing:
            checkpoint_gradients(parts)
        results.append(looked(parts, adapter))
    (plain, wanted), (quick, got) = results
    torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-5)
    assert len(wanted) == len(got) == len(adapter.parameters())
    for ours, theirs in zip(got, wanted, strict=True):
        assert (ours - theirs).norm() <= 1e-3 * theirs.norm() + 1e-8


def test_drawing_keeps_torchs_path_to_the_bit(bench):
    with torch.no_grad():
        plain, _ = looked(*prepared(bench, False))
        quick, _ = looked(*prepared(bench, True))
    assert torch.equal(plain, quick)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_follows_weights_that_are_exchanged_or_changed(stride):
    torch.manual_seed(0)
    module = torch.nn.Conv2d(8, 12, 3, stride, padding=1).requires_grad_(False)
    onednn._quicken_convolution(module)
    for change in ("none", "exchanged", "in place"):
        if change == "exchanged":
            module.weight = torch.nn.Parameter(torch.randn_like(module.weight), requires_grad=False)
        if change == "in place":
            module.weight.mul_(2)
        x = torch.randn(2, 8, 10, 6, requires_grad=True)
        wanted = functional.conv2d(x, module.weight, module.bias, stride, 1)
        got = module(x)
        torch.testing.assert_close(got, wanted)
        grad = torch.randn_like(wanted)
        torch.testing.assert_close(torch.autograd.grad(got, x, grad), torch.autograd.grad(wanted, x, grad))


def test_16_bit_bases_keep_torchs_path(bench):
    config = bench.config("memory.base_dtype=bf16")
    assert not onednn.enable_onednn(load_base(config, bench.home))


def test_a_layer_with_dropout_keeps_pefts_own_forward():
    from peft import LoraConfig, inject_adapter_in_model

    holder = torch.nn.ModuleDict({"to_q": torch.nn.Linear(8, 8)})
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q"], lora_dropout=0.5), holder)
    onednn._quicken_lora(holder["to_q"])
    assert "forward" not in vars(holder["to_q"])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_step_frees_is_there_for_the_next_without_new_pages(bench):
    import resource  # Unix alone has it

    prepared(bench, True)

    def pages() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)  # 64 MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages()
    assert sorted(pages() for _ in range(9))[4] < 10


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch comes without MKL here")
def test_a_product_of_one_row_is_the_same_bytes_each_time():
    """The gradient of a convolution of rank 1: two threads of MKL, left to themselves, add its parts in changing order."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 1, 32, 32, generator=generator), torch.randn(32, 1, 1, 1, generator=generator)
    wanted = torch.randn(1, 32, 32, 32, generator=generator)

    def gradient() -> bytes:
        found, *_ = torch.ops.aten.convolution_backward(
            wanted.clone(), x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, False, False]
        )
        return found.numpy().tobytes()

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    found = {gradient() for _ in range(3000)}
    torch.set_num_threads(threads)
    assert len(found) == 1
