"""Compiled blocks: the arithmetic that decides, the way back where it fails, and the same numbers."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from trainer.core import events
from trainer.engine.speed import compiled


class BasicTransformerBlock(torch.nn.Module):
    """Stands where diffusers' block of this name stands."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mix = torch.nn.LayerNorm(width), torch.nn.Linear(width, width)

    def forward(self, hidden, context=None):
        return hidden + self.mix(torch.nn.functional.gelu(self.norm(hidden)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    wide = [BasicTransformerBlock(16), BasicTransformerBlock(16)]
    return torch.nn.Sequential(*wide, torch.nn.Linear(16, 8), BasicTransformerBlock(8))


def chosen(model, wanted, calls=1000, formats=1):
    return compiled.choose(model, wanted, calls, formats, lambda: model(torch.ones(2, 5, 16)), nullcontext)


def compiled_blocks(model):
    return [block for block in model if "forward" in vars(block)]


def test_off_and_a_processor_under_auto_stay_eager(model):
    assert chosen(model, "off") == "eager: asked"
    assert chosen(model, "auto").startswith("eager: measured slower") and not compiled_blocks(model)


@pytest.mark.parametrize(
    ("calls", "formats", "seconds", "said"),
    [
        (10, 1, 0.001, "eager: the blocks take 0 s"),  # too short to try
        (100_000, 1, 0.001, "compiled: 3 blocks, saves 150 s"),
        (100_000, 400, 0.001, "eager: compiling costs"),  # each format compiled anew is never repaid
        (100_000, 1, -0.001, "eager: compiling costs"),  # slower than before
    ],
)
def test_auto_compiles_only_what_the_rest_of_the_run_repays(model, monkeypatch, calls, formats, seconds, said):
    monkeypatch.setattr(compiled.torch, "compile", lambda work, dynamic: work)
    clock = iter([0.0, 10.0] * 10)
    monkeypatch.setattr(compiled.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(
        compiled,
        "_seconds",
        lambda block, given, low: 0.001 if isinstance(block, BasicTransformerBlock) else 0.001 - seconds / 2,
    )
    monkeypatch.setattr(torch.nn.Module, "parameters", lambda self, real=torch.nn.Module.parameters: Pretended(real(self)))
    assert chosen(model, "auto", calls, formats).startswith(said)
    assert bool(compiled_blocks(model)) == said.startswith("compiled")


class Pretended(list):
    """Parameters of which the first says it is on a card."""

    def __iter__(self):
        yield from (OnCard(p) for p in super().__iter__())

    def __next__(self):
        return OnCard(super().__getitem__(0))


class OnCard:
    device = torch.device("cuda")

    def __init__(self, parameter):
        self.shape = parameter.shape


def test_what_cannot_be_compiled_goes_on_eager_and_says_why(model, monkeypatch):
    def refuses(work, dynamic):
        raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(compiled.torch, "compile", refuses)
    assert chosen(model, "on") == "eager: RuntimeError: no C++ compiler" and not compiled_blocks(model)


def test_a_run_says_what_became_of_its_blocks_and_goes_on(bench, monkeypatch):
    def refuses(work, dynamic):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiled.torch, "compile", refuses)
    assert bench.train(bench.config("run.steps=1", "samples.steps=1", "memory.compile=on"))
    (started,) = [e for e in bench.events if isinstance(e, events.Started)]
    assert started.facts["blocks"] == "eager: RuntimeError: no C++ compiler"


def test_compiled_blocks_give_the_same_numbers_and_draw_eagerly(model, monkeypatch):
    """Traced for real, forward and backward; without the minute a C++ compiler takes over it."""
    monkeypatch.setattr(compiled.torch, "compile", partial(torch.compile, backend="aot_eager"))
    x = torch.randn(2, 5, 16, requires_grad=True)
    wanted = model(x)
    grad = torch.autograd.grad(wanted.sum(), x)[0]
    with torch.no_grad():
        bare = model(x)
    assert chosen(model, "on").startswith("compiled: 3 blocks")
    got = model(x)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(torch.autograd.grad(got.sum(), x)[0], grad)
    with torch.no_grad():
        assert torch.equal(model(x), bare)
