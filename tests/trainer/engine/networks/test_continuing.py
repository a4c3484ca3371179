"""Going on from files of LyCORIS: exactly where they end, on every layer, or a sentence that says what to set."""

from __future__ import annotations

from copy import deepcopy

import lycoris.modules as theirs
import numpy as np
import pytest
import torch

from tests.helpers.lora_files import raw
from tests.trainer.adapters.lycoris_cases import learnt
from trainer.adapters import file as lora_file
from trainer.config import load
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.networks.adapter import Adapter, layers_of
from trainer.formats.names import bare, to_kohya


@pytest.fixture(scope="module")
def loaded(tiny_base, tmp_path_factory):
    from trainer.core.home import Home

    config = load.build({"model": {"base": str(tiny_base)}, "memory": {"base_dtype": "fp32"}})
    return load_base(config, Home(tmp_path_factory.mktemp("home")).create())


def _layer(parts, part, module):
    paths = dict(parts.module(part).named_modules())
    return next(layer for name, layer in paths.items() if (name if part == "unet" else bare(name)) == module)


def _theirs(parts, path, kind, words, only=""):
    """A file of one of LyCORIS's kinds on every layer of the base."""
    torch.manual_seed(0)
    tensors = {}
    for part, module in layers_of(parts):
        if only in module:
            layer = learnt(getattr(theirs, kind)("layer", deepcopy(_layer(parts, part, module)), **{"alpha": 3.0} | words))
            state = layer.state_dict()
            tensors |= {f"{to_kohya(part, module)}.{what}": value.detach().numpy() for what, value in state.items()}
    return raw(path / f"{kind}.safetensors", {key: np.ascontiguousarray(value) for key, value in tensors.items()})


def _going_on(parts, file, *words):
    return Adapter(deepcopy(parts), load.build({}, overrides=["lora.targets=all", *words]), file)


def _same(parts, file, adapter):
    """Whether every layer that learns begins where the file ends."""
    given = lora_file.normalise(file).modules
    assert adapter.layers
    for (part, name), layer in adapter.export_layers().items():
        module = name if part == "unet" else bare(name)
        weight = _layer(parts, part, module).weight.detach().numpy()
        wanted = given[part, module].delta(weight)
        assert np.abs(layer.delta(weight) - wanted).max() <= 1e-5 * np.abs(wanted).max(), (part, name)
    return True


EXACT = {
    "LoKr of factor 2": ("LokrModule", {"lora_dim": 2, "factor": 2}, ["lora.type=lokr", "lora.rank=2", "lora.lokr_factor=2"]),
    "LoKr at a wider rank": ("LokrModule", {"lora_dim": 1}, ["lora.type=lokr", "lora.rank=3"]),
    "LoKr split as evenly as possible": ("LokrModule", {"lora_dim": 2}, ["lora.type=lokr", "lora.rank=2"]),
    "LoKr of two split factors": ("LokrModule", {"lora_dim": 1, "decompose_both": True}, ["lora.type=lokr", "lora.rank=1"]),
    "diag-OFT, conv_out in smaller blocks": ("DiagOFTModule", {"lora_dim": 4}, ["lora.type=oft", "lora.rank=4"]),
    "diag-OFT in larger blocks": ("DiagOFTModule", {"lora_dim": 4}, ["lora.type=oft", "lora.rank=8"]),
    "diag-OFT with a constraint": ("DiagOFTModule", {"lora_dim": 4, "constraint": 0.01}, ["lora.type=oft", "lora.rank=4"]),
    "LoHa at a wider rank": ("LohaModule", {"lora_dim": 2}, ["lora.type=loha", "lora.rank=5"]),
    "GLoRA at a wider rank": ("GLoRAModule", {"lora_dim": 2}, ["lora.type=glora", "lora.rank=5"]),
    "LoRA of more ranks than conv_out has outputs": ("LoConModule", {"lora_dim": 8}, ["lora.type=lora", "lora.rank=8"]),
    "LoRA into DoRA's neighbour rsLoRA": ("LoConModule", {"lora_dim": 4}, ["lora.type=rslora", "lora.rank=9"]),
    "DoRA by column": ("LoConModule", {"lora_dim": 4, "weight_decompose": True, "wd_on_out": False},
                       ["lora.type=dora", "lora.rank=6"]),
    "(IA)³": ("IA3Module", {}, ["lora.type=ia3"]),
    "full": ("FullModule", {}, ["lora.type=full"]),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_a_training_begins_exactly_where_a_file_of_lycoris_ends(loaded, tmp_path, case):
    kind, words, options = EXACT[case]
    file = _theirs(loaded, tmp_path, kind, words)
    adapter = _going_on(loaded, file, *options)
    assert _same(loaded, file, adapter) and set(adapter.layers) and len(adapter.layers) == len(layers_of(loaded))
    biases = sum(layer.bias is not None for layer in lora_file.normalise(file).modules.values())
    assert adapter.continued == (biases, 0) and (biases > 0) == (case == "full")


SHAPED = {
    "LoKr of another factor": ("LokrModule", {"lora_dim": 2, "factor": 4}, ["lora.type=lokr", "lora.rank=2"]),
    "LoKr of whole factors": (
        "LokrModule", {"factor": 4, "full_matrix": True}, ["lora.type=lokr", "lora.rank=2", "lora.lokr_factor=4"]),
    "LoKr with a core": ("LokrModule", {"lora_dim": 2, "use_tucker": True}, ["lora.type=lokr", "lora.rank=2"]),
    "LoKr split the other way round": (
        "LokrModule", {"lora_dim": 2, "factor": 4, "unbalanced_factorization": True}, ["lora.type=lokr", "lora.alpha=5"]),
    "LoKr of more ranks": ("LokrModule", {"lora_dim": 3}, ["lora.type=lokr", "lora.rank=1"]),
    "diag-OFT in blocks that do not fit": ("DiagOFTModule", {"lora_dim": 4}, ["lora.type=oft", "lora.rank=3"]),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPED)
def test_factors_and_blocks_of_other_shapes_are_kept_as_the_file_has_them_and_learn(loaded, tmp_path, case):
    kind, words, options = SHAPED[case]
    file = _theirs(loaded, tmp_path, kind, words)
    adapter = _going_on(loaded, file, *options)
    assert _same(loaded, file, adapter) and adapter.continued.shaped > 0
    learnt_parts = adapter.parts
    tokens = learnt_parts.family.tokens(learnt_parts, ["blobby"])
    given = learnt_parts.family.encode(learnt_parts, tokens)
    learnt_parts.family.predict(learnt_parts, torch.ones(1, 4, 8, 8), torch.tensor([300]), given).pow(2).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in adapter.parameters())
    again = _going_on(loaded, file, *options)  # as where a run is resumed
    again.load(adapter.state())
    written = lora_file.write(
        tmp_path / "again.safetensors",
        {(part, name if part == "unet" else bare(name)): layer for (part, name), layer in adapter.export_layers().items()},
        {},
        "fp32",
    )
    assert _same(loaded, written, adapter)


REFUSED = {
    "DoRA by row": ("LoConModule", {"weight_decompose": True}, ["lora.type=dora"], "start_dora_rows", "resize"),
    "DoRA on LoKr": ("LokrModule", {"weight_decompose": True}, ["lora.type=dora"], "start_kind", "dora + lokr"),
    "(IA)³ of inputs": ("IA3Module", {"train_on_input": True}, ["lora.type=ia3"], "start_ia3_input", "lora.exclude"),
    "rescaled OFT": ("DiagOFTModule", {"rescaled": True}, ["lora.type=oft"], "start_kind", "oft + rescale"),
    "BOFT": ("ButterflyOFTModule", {"lora_dim": 4}, ["lora.type=oft"], "start_kind", "boft"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_gone_on_from_is_refused_with_the_reason_and_a_way(loaded, tmp_path, case):
    kind, words, options, code, way = REFUSED[case]
    file = _theirs(loaded, tmp_path, kind, words, only="attn1.to_q")
    with pytest.raises(Problem) as refused:
        _going_on(loaded, file, *options)
    assert refused.value.code == code and way in refused.value.sentence("en") and way in refused.value.sentence("ja")


@pytest.mark.parametrize(("kind", "ours"), [("LohaModule", "loha"), ("LoConModule", "lora"), ("GLoRAModule", "glora")])
def test_a_file_of_more_ranks_is_refused_and_the_rank_it_names_works(loaded, tmp_path, kind, ours):
    file = _theirs(loaded, tmp_path, kind, {"lora_dim": 6})
    with pytest.raises(Problem) as refused:
        _going_on(loaded, file, f"lora.type={ours}", "lora.rank=5")
    assert (refused.value.code, refused.value.params["theirs"], refused.value.params["ours"]) == ("start_rank", 6, 5)
    assert _same(loaded, file, _going_on(loaded, file, f"lora.type={ours}", "lora.rank=6"))


def test_a_file_for_a_base_of_another_size_is_refused_as_such(loaded, tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    down, up = np.ones((4, 320), np.float32), np.ones((320, 4), np.float32)
    file = raw(tmp_path / "a.safetensors", {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up})
    with pytest.raises(Problem) as refused:
        _going_on(loaded, file)
    assert refused.value.code == "start_size" and "32 x 32" in refused.value.sentence("en")


def test_layers_and_biases_left_behind_are_counted_and_noted(bench, tmp_path):
    from trainer.core import events

    parts = load_base(bench.config(), bench.home)
    file = _theirs(parts, tmp_path, "LoConModule", {"lora_dim": 2})
    config = bench.config(f"lora.continue_from={file}", "run.steps=1", "samples.steps=1")
    bench.train(config, "on")
    (note,) = [event for event in bench.events if isinstance(event, events.Note) and event.code == "start_left"]
    adapter = Adapter(load_base(config, bench.home), config, file)
    assert note.params["count"] == adapter.continued.left == len(layers_of(parts)) - len(adapter.layers) > 0
