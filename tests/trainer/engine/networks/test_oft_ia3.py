"""OFT, (IA)³, GLoRA and full differences at training: the formulas, the run, the file, and who reads it."""

from __future__ import annotations

import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch

from tests.helpers.lora_files import facts, raw
from tests.trainer.engine.test_options_at_work import small
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.adapters.compat.inspect import inspect
from trainer.adapters.compat.verdicts import programs
from trainer.adapters.fold import LoraFuser, LoraStrength
from trainer.config import load
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.networks.glora_full import FullDiffLayer, GloraLayer
from trainer.engine.networks.oft_ia3 import Ia3Layer, OftLayer
from trainer.engine.output import checkpoint
from trainer.engine.speed.quantize import settle
from trainer.formats.architectures import family_modules
from trainer.formats.layers import Layer
from trainer.hardware import memory

KINDS = ("oft", "ia3", "glora", "full")
LAYERS = {
    "linear": (torch.nn.Linear(6, 8, bias=False), (2, 5, 6)), "linear with bias": (torch.nn.Linear(6, 8), (2, 6)),
    "convolution": (torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), (2, 3, 7, 7)),
}  # fmt: skip


def _filled(layer):
    with torch.no_grad():
        for parameter in layer.trainable().values():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    return layer


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "make", [lambda base: OftLayer(base, 4), Ia3Layer, lambda base: GloraLayer(base, 3, 2.0), FullDiffLayer]
)
def test_a_layer_gives_what_its_weight_as_the_file_has_it_gives(name, make):
    """W + ΔW by formats/multiplied.py, put into a copy of the base layer; gradients by autograd through both."""
    base, shape = LAYERS[name]
    base = base.requires_grad_(False)
    layer, x = _filled(make(base)), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    told, weight = layer.export(), base.weight
    other = deepcopy(base)
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in layer.trainable().items()}
    change = type(told)({**told.tensors, **leaves}, told.alpha).delta(weight)
    theirs = torch.func.functional_call(other, {"weight": weight + change}, (x,))
    ours = layer(x)
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(ours, base(x), atol=1e-2)
    ours.pow(2).sum().backward(), theirs.pow(2).sum().backward()
    for name, mine in layer.trainable().items():
        assert torch.allclose(mine.grad, leaves[name].grad, rtol=1e-3, atol=1e-4)
    if isinstance(layer, OftLayer):  # rows turned among each other: the matrix of their angles and lengths is a turn's
        rows, turned = weight.flatten(1).view(2, 4, -1), (weight + change.detach()).flatten(1).view(2, 4, -1)
        assert torch.allclose(torch.linalg.svdvals(rows), torch.linalg.svdvals(turned), atol=1e-5)
    layer.enabled = False
    assert torch.equal(layer(x), base(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_exactly_and_its_file_draws_what_was_learnt(bench, kind):
    words = (
        "lora.targets=all",
        "lora.rank=8",
        "lora.rank_dropout=0.1",
        "lora.module_dropout=0.1",
        "run.steps=2",
        "images.upscale=false",
        "save.every=1",
        "save.dtype=fp32",
        "optimizer.text_encoder_lr=0.01",
        "samples.steps=1",
    )
    small(bench.folder)
    config = bench.config(f"lora.type={kind}", *words)
    straight = bench.train(config, "straight")
    losses = bench.losses()
    run = bench.run("straight")
    last = checkpoint.newest(run, config, lambda step: pytest.fail(f"checkpoint {step} is damaged"))
    shutil.rmtree(run.checkpoint(2))
    resumed = bench.train(config, "straight")
    assert bench.losses() == losses[1:] and np.isfinite(losses).all()
    found = [inspect(file) for file in (straight, resumed)]
    assert found[0].metadata["sshs_model_hash"] == found[1].metadata["sshs_model_hash"]
    assert found[0].format.kind == kind and found[0].unknown == 0
    words = found[0].metadata["ss_network_args"]
    assert ("diag-oft" if kind == "oft" else kind) in words and found[0].metadata["ss_network_module"] == "lycoris.kohya"

    parts = load_base(bench.config(), bench.home)
    asked = {"prompt": "a blob", "steps": 1, "guidance": 3.0, "width": 64, "height": 64}
    (bare,) = ImageSampler(parts).draw(GenerateRequest(**asked))
    before = base_hash(parts)
    zero, some = ImageSampler(parts).draw(GenerateRequest(**asked, loras=(LoraStrength(straight),), strengths=(0.0, 1.0)))
    assert np.array_equal(np.asarray(zero.image), np.asarray(bare.image))
    assert not np.array_equal(np.asarray(some.image), np.asarray(bare.image))
    adapter = Adapter(parts, config)
    assert last is not None
    adapter.load(last.adapter)
    learnt = _look(parts)
    with adapter.disabled():
        fuser = LoraFuser(parts)
        ((_, matched, total),) = fuser.fuse([LoraStrength(straight)])
        assert matched == total == len(adapter.layers)
        assert torch.allclose(_look(parts), learnt, atol=1e-5)
        fuser.unfuse()
    assert base_hash(parts) == before


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_base_in_few_bits_it_does_the_same(bench, kind):
    """To what the base's weight as it is held gives, folded in from the file."""
    config = bench.config(f"lora.type={kind}", "lora.targets=all", "memory.quantize_base=int8")
    parts = load_base(config, bench.home)
    adapter = Adapter(parts, config)
    for layer in adapter.layers.values():
        _filled(layer)
    settle(parts, "int8")
    learnt = _look(parts)
    file = lora_file.write(bench.home.root / "a.safetensors", adapter.export_layers(), {}, "fp32")
    with adapter.disabled():
        fuser = LoraFuser(parts)
        fuser.fuse([LoraStrength(file)])
        assert torch.allclose(_look(parts), learnt, atol=1e-4)
        fuser.unfuse()
        assert not torch.allclose(_look(parts), learnt, atol=1e-3)


def test_going_on_from_a_bounded_file_begins_where_it_ends_and_a_rescaled_one_is_refused(bench, tmp_path):
    first = Adapter(load_base(bench.config(), bench.home), bench.config("lora.type=oft"))
    layers = {
        key: Layer({"oft_blocks": _filled(layer).oft_blocks.detach().numpy()}, 0.4 / len(layer.base_layer.weight))
        for key, layer in first.layers.items()
    }
    spelt = {(part, name.replace("text_model.", "")): layer for (part, name), layer in layers.items()}
    file = lora_file.write(tmp_path / "a.safetensors", spelt, {}, "fp32")
    parts = load_base(bench.config(), bench.home)
    second = Adapter(parts, bench.config("lora.type=oft"), file)
    for (part, name), layer in second.export_layers().items():
        weight = parts.module(part).get_submodule(name).base_layer.weight.detach().numpy()
        assert np.allclose(layer.delta(weight), layers[part, name].delta(weight), atol=1e-5)
    for told in spelt.values():
        blocks, side, _ = told.tensors["oft_blocks"].shape
        told.tensors["rescale"] = np.ones((blocks * side, 1), np.float32)
    file = lora_file.write(tmp_path / "b.safetensors", spelt, {}, "fp32")
    with pytest.raises(Problem) as problem:
        Adapter(load_base(bench.config(), bench.home), bench.config("lora.type=oft"), file)
    assert problem.value.code == "start_kind" and problem.value.params["theirs"] == "oft + rescale"


@pytest.mark.parametrize(("kind", "family", "readers"), [
    ("oft", "sd1", {"a1111", "comfyui"}), ("oft", "sdxl", {"a1111", "comfyui"}), ("ia3", "sd1", {"a1111", "invokeai"}),
])  # fmt: skip
def test_a_file_of_real_size_is_judged_for_each_program(tmp_path, kind, family, readers):
    """Names, shapes and metadata as the engine writes them, for the default layers; with convolutions (IA)³ is told partial."""
    config = TrainConfig.model_validate(load.build({}, overrides=[f"lora.type={kind}", "captions.trigger=inkfox"]))
    version = {"sd1": "sd_v1", "sdxl": "sdxl_base_v1-0"}[family]
    said = metadata.build(
        config,
        facts(family=family, version=version),
        steps=1,
        total_steps=1,
        items=[("inkfox", (512, 512), 1)],
        loss=None,
        started=1e9,
        finished=1e9,
        name="fox",
        run_id="r",
    )

    def judged(groups):
        layers = {}
        for key, module in family_modules(family).items():
            if module.group in groups:
                shape = (module.shape[0] // 4, 4, 4) if kind == "oft" else (module.shape[0], *[1] * (len(module.shape) - 1))
                blank = np.zeros(shape, np.float32)
                told = {"oft_blocks": blank} if kind == "oft" else {"ia3": blank, "ia3_in": np.zeros((), np.float32)}
                layers[key] = lora_file.Layer(told, 0.0)
        return programs(lora_file.read_header(lora_file.write(tmp_path / "a.safetensors", layers, said, "fp16", family)))

    found = judged({"attention"})
    assert {name for name, verdict in found.items() if verdict.loads and verdict.reason == "ok"} == readers
    assert {found[name].reason for name in found.keys() - readers} <= {"kind", "width"}
    assert all(found[name].matched == found[name].total for name in readers)
    wide = judged({"attention", "conv"})["a1111"]
    assert (wide.loads, wide.reason) == ((True, "ok") if kind == "oft" else (False, "shapes"))


def test_blocks_that_do_not_fill_the_layer_are_judged_not_to_fit(tmp_path):
    blocks = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.oft_blocks": np.zeros((3, 8, 8), np.float32)}
    assert not programs(lora_file.read_header(raw(tmp_path / "a.safetensors", blocks)))["comfyui"].loads


def _look(parts) -> torch.Tensor:
    tokens = parts.family.tokens(parts, ["blobby, a red blob"])
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return parts.family.predict(parts, noisy, torch.tensor([300]), parts.family.encode(parts, tokens))


@pytest.mark.parametrize("kind", ["glora", "full"])
def test_going_on_from_a_glora_or_a_full_difference_begins_where_it_ends(bench, tmp_path, kind):
    words = (f"lora.type={kind}", "lora.rank=4")
    first = Adapter(load_base(bench.config(), bench.home), bench.config(*words, "lora.alpha=3"))
    for layer in first.layers.values():
        _filled(layer)
    spelt = {(part, name.replace("text_model.", "")): layer for (part, name), layer in first.export_layers().items()}
    file = lora_file.write(tmp_path / "a.safetensors", spelt, {}, "fp32")
    parts = load_base(bench.config(), bench.home)
    second = Adapter(parts, bench.config(*words, "lora.alpha=1"), file)
    begun, ended = second.export_layers(), first.export_layers()
    for (part, name), layer in begun.items():
        weight = parts.module(part).get_submodule(name).base_layer.weight.detach().numpy()
        assert np.allclose(layer.delta(weight), ended[part, name].delta(weight), atol=1e-5), name


def test_a_full_difference_says_its_size_before_the_first_step(bench):
    config = bench.config("lora.type=full", "run.steps=1", "samples.steps=1", "optimizer.lr=1e-3")
    file = bench.train(config, "full")
    kinds = [event.kind if not isinstance(event, events.Note) else event.code for event in bench.events]
    (note,) = [event for event in bench.events if isinstance(event, events.Note) and event.code == "full_size"]
    assert kinds.index("full_size") < kinds.index("step")
    assert float(note.params["file"]) == pytest.approx(file.stat().st_size / 1e6, abs=0.6)
    full = load.build({}, overrides=["lora.type=full"]).lora
    assert memory.trainable_parameters("sd1", full) * 2 == pytest.approx(240e6, rel=0.03)  # as the option's help says
