"""The base in 8 and 4 bits: how far from the whole one, how much smaller, with every kind of adapter, to the same file."""

from __future__ import annotations

import hashlib
import shutil
from copy import deepcopy
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.helpers import tiny
from tests.helpers.training_home import Bench
from tests.trainer.engine.networks.test_types import CASES, _look
from trainer.adapters import file as lora_file
from trainer.adapters.fold import LoraFuser, LoraStrength
from trainer.config import load
from trainer.core import events
from trainer.core.home import Home
from trainer.engine.base import load_base
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.speed import quantize
from trainer.engine.speed.gradient_checkpointing import checkpoint_gradients
from trainer.formats.layers import norms

OFF = {8: 0.013, 4: 0.12}
"""How far a layer's output may be from the whole layer's, relatively."""


@pytest.fixture(scope="module")
def loaded(tiny_base, tmp_path_factory):
    config = load.build({"model": {"base": str(tiny_base)}, "memory": {"base_dtype": "fp32"}})
    return load_base(config, Home(tmp_path_factory.mktemp("home")).create())


def held_layers(parts):
    return [
        m
        for part in ("unet", *parts.family.text_parts)
        for m in parts.module(part).modules()
        if isinstance(m, quantize.Quantised)
    ]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", ["linear", "conv", "conv with stride"])
def test_a_layer_in_few_bits_stays_near_the_whole_one_and_passes_the_gradient_of_its_own_weight(bits, kind):
    torch.manual_seed(bits)
    if kind == "linear":
        whole, x = torch.nn.Linear(320, 64), torch.randn(2, 50, 320)
        few = quantize.QuantisedLinear(whole, bits, x.device)
    else:
        whole, x = torch.nn.Conv2d(32, 64, 3, 1 if kind == "conv" else 2, padding=1), torch.randn(2, 32, 9, 7)
        few = quantize.QuantisedConv2d(whole, bits, x.device)
    few.requires_grad_(False)
    x.requires_grad_()
    wanted, got = whole(x), few(x)
    assert (got - wanted).norm() < OFF[bits] * wanted.norm()
    whole.weight.data = few.weight
    torch.testing.assert_close(got, whole(x))
    grad = torch.randn_like(got)
    torch.testing.assert_close(torch.autograd.grad(got, x, grad), torch.autograd.grad(whole(x), x, grad))
    made: Any = type(few)
    few = made(whole.bfloat16(), bits, x.device).requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        assert few(x).dtype == torch.bfloat16
        assert torch.autograd.grad(few(x).float().sum(), x)[0].dtype == torch.float32


def step_bytes(parts, adapter) -> int:
    """Bytes one step keeps for its backward pass beside what is there anyway: weights, buffers and the adapter."""
    models = [parts.module(part) for part in ("unet", *parts.family.text_parts)]
    there = {t.untyped_storage().data_ptr() for m in models for t in (*m.parameters(), *m.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage.nbytes(), storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        condition = parts.family.encode(parts, parts.family.tokens(parts, ["a blob"]))
        parts.family.predict(parts, torch.randn(1, 4, 8, 8), torch.tensor([300]), condition).pow(2).mean().backward()
    assert all(p.grad is not None for p in adapter.parameters())
    return sum(size for size, _ in kept.values())


def weight_bytes(parts) -> int:
    """Bytes of the frozen base's linear layers and convolutions."""
    total = 0
    for part in ("unet", *parts.family.text_parts):
        for name, tensor in parts.module(part).state_dict().items():
            if name.rpartition(".")[2] in ("codes", "scale") or (
                name.endswith("weight") and tensor.ndim in (2, 4) and "lora_" not in name and "embedding" not in name
            ):
                total += tensor.nbytes
    return total


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_weights_take_a_quarter_and_an_eighth_and_a_step_keeps_no_more(loaded, targets):
    """Against a base in fp32; the frame of whole layers is large in a model this small."""
    config = load.build({"lora": {"rank": 4, "targets": targets}})
    weights, kept = {}, {}
    for precision in ("full", "int8", "int4"):
        parts = deepcopy(loaded)
        adapter = Adapter(parts, config)
        count = quantize.settle(parts, precision)
        assert count == len(held_layers(parts)) and (count > 50) == (precision != "full")
        weights[precision], kept[precision] = weight_bytes(parts), step_bytes(parts, adapter)
    assert weights["int8"] < 0.30 * weights["full"] and weights["int4"] < 0.19 * weights["full"]
    assert kept["int8"] == kept["int4"] <= kept["full"]


def test_weights_at_real_proportions_take_8_2_and_4_3_bits():
    wide = torch.nn.Linear(1280, 1280)
    for bits, wanted in ((8, 8.03), (4, 4.25)):
        few = quantize.QuantisedLinear(wide, bits, torch.device("cpu"))
        assert 8 * (few.codes.nbytes + few.scale.nbytes) / wide.weight.numel() == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_adapter_sits_on_it_and_its_file_is_folded_into_it(loaded, case, tmp_path):
    config = load.build({"lora": {"rank": 4, "alpha": 2.0}}, overrides=CASES[case])
    parts = deepcopy(loaded)
    before = base_hash(parts)
    adapter = Adapter(parts, config)
    true = {key: layer.base_layer.weight.clone() for key, layer in adapter.layers.items()}
    first = {name: tensor.clone() for name, tensor in adapter.state().items()}
    quantize.settle(parts, "int4")
    assert all(torch.equal(tensor, first[name]) for name, tensor in adapter.state().items())
    for key, layer in adapter.layers.items() if config.lora.type == "dora" else ():
        assert torch.equal(layer.lora_magnitude, norms(true[key], torch.ones_like(layer.lora_magnitude)))
    held = base_hash(parts)
    generator = torch.Generator().manual_seed(5)
    with adapter.disabled():
        bare = _look(parts)
    for parameter in adapter.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    condition = parts.family.encode(parts, parts.family.tokens(parts, ["a blob"]))
    parts.family.predict(parts, torch.randn(1, 4, 8, 8), torch.tensor([300]), condition).pow(2).mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in adapter.parameters())
    learnt = _look(parts)
    told = {"ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora"}
    file = lora_file.write(tmp_path / "one.safetensors", adapter.export_layers(), told, "fp32", "sd1")
    with adapter.disabled():
        fuser = LoraFuser(parts)
        ((_, matched, total),) = fuser.fuse([LoraStrength(file)])
        assert matched == total == len(adapter.layers)
        drawn = _look(parts)
        fuser.unfuse()
        assert torch.equal(_look(parts), bare)
    assert (learnt - bare).abs().max() > 1e-4 and (drawn - learnt).abs().max() <= 2e-5
    assert base_hash(parts) == held and base_hash(loaded) == before


@pytest.fixture(scope="module")
def xl_base(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("few") / "xl", "sdxl", words=4096)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_ten_steps_learn_about_the_same_resume_exactly_and_leave_the_base_alone(
    tiny_base, xl_base, picture_folder, tmp_path, family, precision
):
    shutil.copytree(picture_folder, tmp_path / "set")
    base = tiny_base if family == "sd1" else xl_base
    bench = Bench(Home(tmp_path / "home").create(), base, tmp_path / "set")
    weights = next((base / "unet").glob("*.safetensors"))
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    words = ("run.steps=10", "run.batch_size=1", "save.every=5", "samples.steps=1", "lora.train_text_encoder=true")
    whole = bench.train(bench.config(*words), "whole")
    wanted = bench.losses()
    few = (*words, f"memory.quantize_base={precision}")
    straight = bench.train(bench.config(*few), "few")
    losses = bench.losses()
    (started,) = [e for e in bench.events if isinstance(e, events.Started)]
    assert started.facts["base_precision"] == precision and started.facts["layers_in_few_bits"] > 50
    assert losses != wanted and losses == pytest.approx(wanted, rel=0.01 if precision == "int8" else 0.06)
    shutil.rmtree(bench.run("few").checkpoint(10))
    resumed = bench.train(bench.config(*few), "few")
    assert bench.losses() == losses[5:]
    with safe_open(straight, "np") as one, safe_open(resumed, "np") as two, safe_open(whole, "np") as three:
        assert one.keys() == two.keys() == three.keys()
        assert all((one.get_tensor(key) == two.get_tensor(key)).all() for key in one.keys())  # noqa: SIM118
        names = ("sshs_model_hash", "sshs_legacy_hash", "ss_network_alpha", "modelspec.architecture")
        assert one.metadata()["sshs_model_hash"] == two.metadata()["sshs_model_hash"]
        assert all(name in one.metadata() for name in names) and one.metadata().keys() == three.metadata().keys()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == before


def test_checkpointing_computes_the_same_on_it(loaded):
    config = load.build({"lora": {"rank": 4}})
    gradients = []
    for checkpointing in (False, True):
        parts = deepcopy(loaded)
        adapter = Adapter(parts, config)
        quantize.settle(parts, "int8")
        if checkpointing:
            checkpoint_gradients(parts)
        torch.manual_seed(2)
        condition = parts.family.encode(parts, parts.family.tokens(parts, ["a blob"]))
        parts.family.predict(parts, torch.randn(1, 4, 8, 8), torch.tensor([9]), condition).pow(2).mean().backward()
        gradients.append([p.grad for p in adapter.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_first_last_and_time_layers_stay_whole(loaded):
    parts = deepcopy(loaded)
    quantize.settle(parts, "int4")
    assert type(parts.unet.conv_in) is torch.nn.Conv2d and type(parts.unet.conv_out) is torch.nn.Conv2d
    assert type(parts.unet.time_embedding.linear_1) is torch.nn.Linear
    few, whole = (p.unet.down_blocks[0].resnets[0].conv1 for p in (parts, loaded))
    assert isinstance(few, quantize.QuantisedConv2d) and few.weight.shape == whole.weight.shape
    assert few.weight.abs().max().item() == pytest.approx(whole.weight.abs().max().item(), rel=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_on_a_gpu_it_learns_the_same_in_less_memory(bench, precision):
    words = ("run.device=cuda", "memory.base_dtype=bf16", "run.steps=4", "samples.steps=1")
    bench.train(bench.config(*words), "whole")
    wanted = bench.losses()
    bench.train(bench.config(*words, f"memory.quantize_base={precision}"), "few")
    assert bench.losses() == pytest.approx(wanted, rel=0.05 if precision == "int8" else 0.15)
