"""Every kind of adapter by itself: its start, ranks, dropout, norms, and going on from files. Trained in test_every_way.py."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from trainer.adapters import file as lora_file
from trainer.config import load
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.networks.types import ADAPTER_TYPES

CASES = {
    "lora": ["lora.type=lora", "lora.targets=attention_mlp"],
    "locon with ranks by block": ["lora.targets=all", "lora.conv_rank=2", "lora.block_ranks=mid_block = 6\nup_blocks.0 = 3"],
    "dora": ["lora.type=dora", "lora.targets=all"],
    "loha": ["lora.type=loha", "lora.targets=all", "lora.rank_dropout=0.2", "lora.module_dropout=0.2"],
    "lokr": ["lora.type=lokr", "lora.targets=all", "lora.lokr_factor=4", "lora.rank=2", "lora.alpha=3"],
    "oft": ["lora.type=oft", "lora.targets=all", "lora.rank=8", "lora.rank_dropout=0.2", "lora.module_dropout=0.2"],
    "ia3": ["lora.type=ia3", "lora.targets=all", "lora.rank_dropout=0.2"],
    "pissa": ["lora.init=pissa", "lora.targets=all"],
    "olora with rslora": ["lora.init=olora", "lora.type=rslora"],
    "lora with all brakes": ["lora.dropout=0.1", "lora.rank_dropout=0.2", "lora.module_dropout=0.2",
                             "lora.scale_weight_norms=0.05", "lora.loraplus_ratio=4", "lora.text_encoder_stop_at=0.5"],
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tiny_base, tmp_path_factory):
    from trainer.core.home import Home

    config = load.build({"model": {"base": str(tiny_base)}, "memory": {"base_dtype": "fp32"}})
    return load_base(config, Home(tmp_path_factory.mktemp("home")).create())


def _look(parts) -> torch.Tensor:
    """What the model gives for one caption, one noise, one timestep."""
    generator = torch.Generator().manual_seed(1)
    tokens = parts.family.tokens(parts, ["blobby, a red blob"])
    with torch.no_grad():
        noisy = torch.randn(1, 4, 8, 8, generator=generator)
        return parts.family.predict(parts, noisy, torch.tensor([300]), parts.family.encode(parts, tokens))


@pytest.mark.parametrize("case", CASES)
def test_at_first_no_kind_changes_anything(loaded, case):
    config = load.build({"lora": {"rank": 4, "alpha": 2.0}}, overrides=CASES[case])
    parts = deepcopy(loaded)
    bare, before = _look(parts), base_hash(parts)
    adapter = Adapter(parts, config)
    assert torch.allclose(_look(parts), bare, atol=2e-6) and base_hash(parts) == before
    assert case not in ("oft", "ia3") or torch.equal(_look(parts), bare)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in adapter.parameters())
    assert not any(
        k.requires_grad for layer in adapter.layers.values() for k in ADAPTER_TYPES[config.lora.type].buffers(layer).values()
    )


def test_ranks_by_block_patterns_and_convolutions(loaded):
    words = [
        "lora.targets=all",
        "lora.conv_rank=2",
        "lora.block_ranks=mid_block = 6\ntext_encoder.encoder.layers.1 = 0",
        "lora.exclude=to_out",
        "lora.train_text_encoder=true",
    ]
    adapter = Adapter(deepcopy(loaded), load.build({"lora": {"rank": 4, "alpha": 2.0}}, overrides=words))
    ranks = {f"{part}.{name}": layer for (part, name), layer in adapter.layers.items()}
    files = {f"{part}.{name}": layer for (part, name), layer in adapter.export_layers().items()}
    assert not any("to_out" in name or "layers.1." in name for name in ranks)
    assert files["unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"].rank == 6
    assert files["unet.down_blocks.0.resnets.0.conv1"].rank == 2
    assert files["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"].rank == 4
    assert files["unet.conv_out"].rank == 2
    assert {layer.scale for layer in files.values()} == {0.5}


def test_nothing_left_to_learn_is_said(loaded):
    with pytest.raises(Problem) as told:
        Adapter(deepcopy(loaded), load.build({}, overrides=["lora.include=nowhere"]))
    assert told.value.code == "no_layers"
    with pytest.raises(Problem) as told:
        Adapter(deepcopy(loaded), load.build({}, overrides=["lora.loraplus_ratio=4", "optimizer.name=prodigy"]))
    assert told.value.code == "ratio_with_prodigy"


def test_the_text_encoder_stops_learning_at_its_share_of_the_run(loaded):
    config = load.build({}, overrides=["lora.text_encoder_stop_at=0.5"])
    adapter = Adapter(deepcopy(loaded), config)
    text = [
        p
        for (part, _), layer in adapter.layers.items()
        if part != "unet"
        for p in adapter.adapter_type.trainable(layer).values()
    ]
    learning = []
    for step in range(4):
        adapter.before_step(step, 4, 0)
        learning.append({p.requires_grad for p in text})
    assert learning == [{True}, {True}, {False}, {False}]
    with adapter.disabled():
        pass
    assert {p.requires_grad for p in text} == {False}  # looking at the bare base in between wakes nothing


def test_dropout_is_at_work_between_the_beginning_and_the_end_of_a_step_alone(loaded):
    parts = deepcopy(loaded)
    adapter = Adapter(parts, load.build({}, overrides=["lora.rank_dropout=0.5", "lora.dropout=0.2"]))
    with torch.no_grad():
        for index, parameter in enumerate(adapter.parameters()):
            parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(index))
    looks = [_look(parts)]
    for step in (3, 3, 4):
        adapter.before_step(step, 10, seed=0)
        looks.append(_look(parts))
    adapter.after_step()
    looks.append(_look(parts))
    assert torch.equal(looks[0], looks[4]) and torch.equal(looks[1], looks[2])  # chance follows from seed and step
    assert not torch.equal(looks[0], looks[1]) and not torch.equal(looks[1], looks[3])


def test_max_norm_holds_every_layer_down_and_leaves_the_others(loaded):
    adapter = Adapter(deepcopy(loaded), load.build({}, overrides=["lora.scale_weight_norms=0.5", "lora.type=lokr"]))
    with torch.no_grad():
        for index, parameter in enumerate(adapter.parameters()):
            parameter.normal_(0, 0.02 * (1 + index % 7), generator=torch.Generator().manual_seed(index))
    before = [np.linalg.norm(layer.delta()) for layer in adapter.export_layers().values()]
    adapter.after_step()
    after = [np.linalg.norm(layer.delta()) for layer in adapter.export_layers().values()]
    assert max(before) > 0.5 > min(before)
    assert after == pytest.approx([min(size, 0.5) for size in before], rel=1e-4)


def test_the_ratio_of_lora_plus_reaches_the_second_factor_alone(loaded):
    from trainer.engine.optim.optimizer import OptimizerStepper

    config = load.build({}, overrides=["lora.loraplus_ratio=8", "optimizer.lr=0.001", "optimizer.text_encoder_lr=0.0001"])
    guard = OptimizerStepper(config, Adapter(deepcopy(loaded), config), torch.device("cpu"))
    assert guard.base_lrs == pytest.approx([0.008, 0.001, 0.0008, 0.0001])
    guard.update(torch.tensor(1.0), 1.0)
    assert guard.learning_rates() == pytest.approx({"unet": 0.001, "text_encoder": 0.0001})


def test_single_blocks_learn_at_their_own_rates_with_lora_plus_and_in_the_text_encoder(loaded):
    from trainer.engine.optim.optimizer import OptimizerStepper

    lines = "mid_block = 0.5\n*.attn2.* = 2\ntext_encoder.encoder.layers.1 = 0"
    words = ["lora.loraplus_ratio=8", "optimizer.lr=0.001", "optimizer.text_encoder_lr=0.0001", f"optimizer.block_lrs={lines}"]
    config = load.build({}, overrides=words)
    adapter = Adapter(deepcopy(loaded), config)
    guard = OptimizerStepper(config, adapter, torch.device("cpu"))
    groups = zip(guard.optimizer.param_groups, guard.base_lrs, strict=True)
    rates = {id(p): rate for group, rate in groups for p in group["params"]}
    for (part, name), layer in adapter.layers.items():
        factor = 0 if "layers.1." in name else 2 if "attn2" in name else 0.5 if "mid_block" in name else 1
        for what, tensor in adapter.adapter_type.trainable(layer).items():
            expected = (0.001 if part == "unet" else 0.0001) * factor * (8 if what == "up" else 1)
            assert rates.pop(id(tensor)) == pytest.approx(expected), (part, name, what)
    assert not rates
    guard.update(torch.tensor(1.0), 1.0)
    assert guard.learning_rates() == pytest.approx({"unet": 0.001, "text_encoder": 0.0001})
    with pytest.raises(Problem) as told:
        Adapter(deepcopy(loaded), load.build({}, overrides=["optimizer.block_lrs=up_block.1 = 2"]))
    assert (told.value.code, told.value.field) == ("block_unknown", "optimizer.block_lrs")


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("lora", "kohya"),
        ("lora", "diffusers"),
        ("rslora", "diffusers"),
        ("dora", "kohya"),
        ("loha", "kohya"),
        ("lokr", "kohya"),
        ("oft", "kohya"),
        ("ia3", "kohya"),
    ],
)
def test_a_training_goes_on_from_a_file_of_its_kind(loaded, tmp_path, kind, layout):
    words = [f"lora.type={kind}", "lora.rank=4", "lora.alpha=3"]
    first = Adapter(deepcopy(loaded), load.build({}, overrides=words))
    with torch.no_grad():
        for index, parameter in enumerate(first.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.05)
    path = lora_file.write(tmp_path / "a.safetensors", first.export_layers(), {}, "fp32")
    if layout == "diffusers":
        from trainer.adapters.export import export

        path = export(path, "diffusers", tmp_path / "b.safetensors")
    wider = "6" if kind in ("lora", "rslora", "dora") else "4"
    parts = deepcopy(loaded)
    second = Adapter(parts, load.build({}, overrides=[f"lora.type={kind}", f"lora.rank={wider}", "lora.alpha=5"]), path)
    for key, layer in first.export_layers().items():
        weight = parts.module(key[0]).get_submodule(key[1]).base_layer.weight.detach().numpy()
        assert np.allclose(second.export_layers()[key].delta(weight), layer.delta(weight), atol=1e-6)


def test_going_on_says_how_much_of_the_file_is_used_and_refuses_one_mostly_unknown(loaded, tmp_path):
    from tests.helpers.lora_files import raw

    def make(path, *words: str) -> Adapter:
        return Adapter(deepcopy(loaded), load.build({}, overrides=["lora.rank=4", *words]), path)

    first = make(None)
    path = lora_file.write(tmp_path / "a.safetensors", first.export_layers(), {}, "fp32")
    total = len(first.layers)
    same = make(path)
    assert (
        same.reading is not None
        and same.reading.note() == ("layers_read", {"name": "a", "read": total, "total": total})
        and not same.untrained_layers
    )
    text = sum(part != "unet" for part, _ in first.layers)
    less = make(path, "lora.train_text_encoder=false")
    assert (
        len(less.untrained_layers) == less.continued.left == text
        and "text_encoder.encoder.layers.0.self_attn.q_proj" in less.untrained_layers
    )
    tensors = {key.replace("lora_unet_", "unet.elsewhere."): array for key, array in lora_file.read_tensors(path).items()}
    half = raw(tmp_path / "half.safetensors", tensors)
    with pytest.raises(Problem) as told:
        make(half)
    assert (told.value.code, told.value.field) == ("lora_half_read", "lora.continue_from") and "unet.elsewhere." in str(
        told.value
    )
    going_on = make(half, "lora.partial=true").reading
    assert going_on is not None
    code, params = going_on.note()
    assert (code, params["read"], params["total"]) == ("layers_unread", text, total) and "elsewhere" in params["layers"]


def test_a_file_that_does_not_fit_the_training_is_refused_with_the_reason(loaded, tmp_path):
    def make(*words: str) -> Adapter:
        return Adapter(deepcopy(loaded), load.build({}, overrides=words))

    path = lora_file.write(tmp_path / "a.safetensors", make("lora.rank=8").export_layers(), {}, "fp32")
    for words, code in ((["lora.type=loha"], "start_kind"), (["lora.rank=4"], "start_rank")):
        with pytest.raises(Problem) as told:
            Adapter(deepcopy(loaded), load.build({}, overrides=words), path)
        assert told.value.code == code and told.value.field == "lora.continue_from" and str(told.value)
