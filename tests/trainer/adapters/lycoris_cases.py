"""LyCORIS itself as a second opinion: small layers of every kind it has, and how far what we read and write differs from it.

`python -m tests.trainer.adapters.lycoris_cases` prints the table kept in docs/decisions; test_lycoris.py holds its numbers.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import lycoris.modules as theirs
import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from tests.helpers.lora_files import raw
from trainer.adapters import file as lora_file
from trainer.adapters.targets import LayerRank
from trainer.config.sections.lora import Lora
from trainer.engine.networks.types import ADAPTER_TYPES
from trainer.formats.layers import Layer
from trainer.formats.names import to_kohya

logging.getLogger("LyCORIS").setLevel(logging.ERROR)  # tells on stdout how it splits each layer
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
LAYERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "linear": (f"{BLOCK}.attn1.to_q", lambda: nn.Linear(24, 64)),
    "conv 3x3": ("down_blocks.0.resnets.0.conv1", lambda: nn.Conv2d(24, 64, 3)),
    "conv 1x1": ("down_blocks.0.attentions.0.proj_in", lambda: nn.Conv2d(24, 64, 1)),
    "layer norm": (f"{BLOCK}.norm1", lambda: nn.LayerNorm(24)),
    "group norm": ("down_blocks.0.attentions.0.norm", lambda: nn.GroupNorm(4, 24)),
}
"""A layer's name in a UNet, and one such layer of a small size."""
WIDE = ("linear", "conv 3x3", "conv 1x1")
Words = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A kind on a layer: of LyCORIS with the class and options of its trainer, or trained here with ours."""

    kind: str
    layer: str
    module: str
    words: Words = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}, {self.layer}"


class Found(NamedTuple):
    """The largest difference as a share of the largest change of a weight, by direction."""

    read: float | None
    """Their file as we read it; None where a file is trained here."""
    loaded: float
    """Our file in a module of theirs."""
    refused: str
    """What their own loader says to the file, which is then put into a module made by its trainer's options; or nothing."""


def _written_there() -> Iterator[Case]:
    kinds: list[tuple[str, str, Words]] = [
        ("LoRA", "LoConModule", {}),
        ("DoRA by row", "LoConModule", {"weight_decompose": True}),
        ("DoRA by column", "LoConModule", {"weight_decompose": True, "wd_on_out": False}),
        ("LoHa", "LohaModule", {}),
        ("LoKr", "LokrModule", {"lora_dim": 2}),
        ("LoKr, factor 4", "LokrModule", {"lora_dim": 2, "factor": 4}),
        ("LoKr, both split", "LokrModule", {"lora_dim": 1, "decompose_both": True}),
        ("LoKr, full matrix", "LokrModule", {"factor": 4, "full_matrix": True}),
        ("LoKr, unbalanced", "LokrModule", {"lora_dim": 2, "factor": 4, "unbalanced_factorization": True}),
        ("LoKr + DoRA by row", "LokrModule", {"lora_dim": 2, "weight_decompose": True}),
        ("(IA)³ on output", "IA3Module", {}),
        ("(IA)³ on input", "IA3Module", {"train_on_input": True}),
        ("GLoRA", "GLoRAModule", {}),
        ("diag-OFT", "DiagOFTModule", {}),
        ("diag-OFT, constraint", "DiagOFTModule", {"constraint": 0.01}),
        ("diag-OFT, rescaled", "DiagOFTModule", {"rescaled": True}),
        ("BOFT", "ButterflyOFTModule", {}),
        ("BOFT, constraint", "ButterflyOFTModule", {"constraint": 0.01}),
        ("BOFT, rescaled", "ButterflyOFTModule", {"rescaled": True}),
        ("full, with bias", "FullModule", {}),
    ]
    for kind, module, words in kinds:
        yield from (Case(kind, layer, module, words) for layer in WIDE)
    yield Case("rsLoRA", "linear", "LoConModule", {"rs_lora": True})
    yield Case("LoRA, Tucker", "conv 3x3", "LoConModule", {"use_tucker": True})
    yield Case("LoHa, Tucker", "conv 3x3", "LohaModule", {"use_tucker": True})
    yield Case("LoHa + DoRA by row", "linear", "LohaModule", {"weight_decompose": True})
    yield Case("LoKr, Tucker", "conv 3x3", "LokrModule", {"lora_dim": 2, "use_tucker": True})
    yield Case("DyLoRA", "linear", "DyLoraModule")
    yield Case("norm", "layer norm", "NormModule")
    yield Case("norm", "group norm", "NormModule")


def _trained_here() -> Iterator[Case]:
    kinds: list[tuple[str, str, Words, Words]] = [
        ("lora", "LoConModule", {"type": "lora"}, {}),
        ("rslora", "LoConModule", {"type": "rslora"}, {}),
        ("dora", "LoConModule", {"type": "dora"}, {"weight_decompose": True, "wd_on_out": False}),
        ("loha", "LohaModule", {"type": "loha"}, {}),
        ("lokr", "LokrModule", {"type": "lokr"}, {}),
        ("lokr, factor 4", "LokrModule", {"type": "lokr", "lokr_factor": 4}, {"factor": 4}),
        ("oft", "DiagOFTModule", {"type": "oft"}, {}),
        ("ia3", "IA3Module", {"type": "ia3"}, {}),
        ("glora", "GLoRAModule", {"type": "glora"}, {}),
        ("full", "FullModule", {"type": "full"}, {}),
    ]
    for kind, module, ours, words in kinds:
        yield from (Case(kind, layer, module, {"ours": ours, **words}) for layer in WIDE)


WRITTEN_THERE = {str(case): case for case in _written_there()}
TRAINED_HERE = {str(case): case for case in _trained_here()}


def measure(case: Case) -> Found:
    """Both directions of a case."""
    torch.manual_seed(0)
    name, make = LAYERS[case.layer]
    layer = make()
    with tempfile.TemporaryDirectory() as folder:
        return (_here if "ours" in case.words else _there)(case, to_kohya("unet", name), name, layer, Path(folder))


@torch.no_grad()
def _there(case: Case, key: str, name: str, layer: Any, folder: Path) -> Found:
    """LyCORIS's file read here, written anew by us, and loaded there."""
    module = learnt(_module(case, deepcopy(layer), {}))
    state = {f"{key}.{what}": tensor.detach().clone().contiguous() for what, tensor in module.state_dict().items()}
    if case.module == "DyLoraModule":  # its forward draws a rank by chance; a file of it is a LoRA to their loader
        module = _loaded(state, key, layer)
    wanted = effect(module, layer)
    path = raw(folder / "theirs.safetensors", {what: tensor.numpy() for what, tensor in state.items()})
    found = lora_file.normalise(path)
    (given,) = found.modules.values()
    assert not found.unknown, found.unknown
    ours = lora_file.write(folder / "ours.safetensors", {("unet", name): given}, {}, "fp32")
    loaded, refused = _put(case, ours, key, layer)
    return Found(difference(change_of(given, layer), wanted), difference(effect(loaded, layer), wanted), refused)


def _here(case: Case, key: str, name: str, layer: Any, folder: Path) -> Found:
    """A file of a layer trained here, loaded there."""
    lora = Lora.model_validate({"rank": 4, **case.words["ours"]})
    model = nn.ModuleDict({"layer": layer})
    kind = ADAPTER_TYPES[lora.type]
    (learning,) = kind.inject(model, {"layer": LayerRank(lora.rank, 3.0)}, lora).values()
    with torch.no_grad():
        for what, tensor in kind.trainable(learning).items():
            noise = torch.randn(tensor.shape)
            tensor.mul_(1 + 0.1 * noise) if what == "dora" else tensor.copy_(0.2 * noise)
    given = kind.export(learning).moved(lambda tensor: tensor.detach().numpy().copy())
    ours = lora_file.write(folder / "ours.safetensors", {("unet", name): given}, {}, "fp32")
    with torch.no_grad():
        loaded, refused = _put(case, ours, key, layer)
        return Found(None, difference(effect(loaded, layer), effect(learning, layer)), refused)


@torch.no_grad()
def learnt(module: Any) -> Any:
    """A module of LyCORIS with chance in all that learns, around a layer of its own."""
    whole = isinstance(module, theirs.FullModule)
    if whole:  # holds the whole weight from then on
        module.apply_to()
    for what, tensor in module.named_parameters():
        noise = torch.randn(tensor.shape)
        if what in ("dora_scale", "rescale"):
            tensor.mul_(1 + 0.1 * noise)
        else:
            tensor.copy_(0.2 * noise + (tensor if whole else 0))
    return module


def _module(case: Case, layer: Any, state: dict[str, Any]) -> Any:
    """A module of LyCORIS as its trainer makes it, with `state` inside."""
    words = {"lora_dim": 4, "alpha": 3.0} | {k: v for k, v in case.words.items() if k != "ours"}
    if case.module == "NormModule":
        words = {}
    module = getattr(theirs, case.module)("layer", layer, **words)
    if state:
        module.load_state_dict(state)
    return module


def _loaded(state: dict[str, torch.Tensor], key: str, layer: Any) -> Any:
    """What LyCORIS's own loader makes of a file's tensors."""
    kind, weights = theirs.get_module(state, key)
    assert kind is not None
    return theirs.make_module(kind, weights, key, layer)


def _put(case: Case, path: Path, key: str, layer: Any) -> tuple[Any, str]:
    """The file in LyCORIS: by its loader, or where that fails in a module as its trainer makes it."""
    state = load_file(path)
    try:
        return _loaded(state, key, layer), ""
    except (RuntimeError, TypeError) as error:
        takes = {f"{key}.{what}": what for what in _module(case, layer, {}).state_dict()}
        inside = {takes[what]: tensor for what, tensor in state.items() if what in takes}
        return _module(case, layer, inside), str(error).split("\n")[0]


def effect(module: Any, layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(ΔW, Δbias) of a module around a layer, by what comes out for each unit of input."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        weight, bias = module.get_merged_weight()
        return weight - layer.weight, bias - layer.bias
    many = layer.weight[0].numel()
    units = torch.eye(many).reshape(many, *layer.weight.shape[1:])
    nothing = torch.zeros_like(units[:1])
    bias = (module(nothing) - layer(nothing)).flatten()
    change = (module(units) - layer(units)).reshape(many, -1) - bias
    return change.T.reshape(layer.weight.shape), bias


def change_of(given: Layer, layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(ΔW, Δbias) as the preview adds them."""
    weight = layer.weight.detach().numpy()
    change = torch.from_numpy(np.ascontiguousarray(given.delta(weight)))
    bias = torch.zeros(len(weight)) if given.bias is None else torch.from_numpy(np.ascontiguousarray(given.bias))
    return change, bias


def difference(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The largest difference as a share of the largest change in `other`."""
    most = max(float(tensor.abs().max()) for tensor in other)
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True)) / most


def table() -> str:
    """All cases as a Markdown table."""
    rows = ["| kind | layer | their file here | our file there | their own loader |", "|---|---|---|---|---|"]
    for title, cases in (("written by LyCORIS", WRITTEN_THERE), ("trained here", TRAINED_HERE)):
        rows.append(f"| **{title}** | | | | |")
        for case in cases.values():
            found = measure(case)
            read = "" if found.read is None else f"{found.read:.0e}"
            says = f"refuses: {found.refused[:90]}" if found.refused else "loads"
            rows.append(f"| {case.kind} | {case.layer} | {read} | {found.loaded:.0e} | {says} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
