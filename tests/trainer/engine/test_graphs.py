"""The road of CUDA graphs: static buffers give eager's numbers, eager steps in where a graph would be wrong."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from trainer.config.train import Memory
from trainer.engine import data, graphs
from trainer.engine.cache import Latents
from trainer.engine.guard import Guard
from trainer.engine.inject import Adapter
from trainer.engine.step import StepMaker
from trainer.engine.train import checkpoint_gradients, load_base


class Counting(graphs.StaticBuffers):
    """Counts captures and replays."""

    captured = replayed = 0

    def __call__(self, work, given, dtype):
        Counting.captured += 1
        replay = super().__call__(work, given, dtype)

        def counted(*now):
            Counting.replayed += 1
            return replay(*now)

        return counted


@pytest.fixture(autouse=True)
def _none_counted():
    Counting.captured = Counting.replayed = 0


def trained(bench, maker, *words, steps=4):
    """Losses and final tensors of a few steps over both formats of the set."""
    config = bench.config("run.batch_size=1", *words)
    parts = load_base(config, bench.home)
    adapter = Adapter(parts, config)
    if config.memory.gradient_checkpointing:
        checkpoint_gradients(parts)
    notes = []
    if maker:
        parts.family = graphs.Graphed(parts, adapter, notes.append, maker)
    guard = Guard(config, adapter, parts.device)
    steps_of = StepMaker(config, parts, adapter, Latents(parts, bench.home.cache / "latents"))
    batches = data.Plan(data.load_items(config, 64), 1, 0, False).batches()
    losses = []
    for step in range(steps):
        looks = list(islice(batches, config.run.accumulation))
        loss = steps_of.backward(step, looks)
        guard.update(loss, 1.0)
        losses.append(float(loss))
    return losses, adapter.state(), notes, parts


@pytest.mark.parametrize("words", [(), ("lora.text_encoder=false",), ("memory.gradient_checkpointing=true",)])
def test_static_buffers_give_the_losses_and_tensors_of_eager_steps(bench, words):
    losses, state, _, _ = trained(bench, None, *words)
    again, mine, notes, _ = trained(bench, Counting, *words)
    assert losses == again and not notes
    assert all(torch.equal(state[name], mine[name]) for name in state)
    text = 0 if words == ("lora.text_encoder=false",) else 1
    assert Counting.captured == 2 + text  # the UNet once a format; text has one shape
    assert Counting.replayed == 4 * (1 + text)


def test_a_second_backward_pass_of_a_step_is_eager(bench):
    losses, state, _, _ = trained(bench, None, "run.accumulation=2", steps=2)
    again, mine, _, _ = trained(bench, Counting, "run.accumulation=2", steps=2)
    assert losses == again and all(torch.equal(state[name], mine[name]) for name in state)
    assert Counting.replayed == 2 * 2  # text and UNet, of the first micro batch alone


def test_what_cannot_be_captured_goes_on_eager_and_is_said_once(bench):
    class Refuses:
        def __call__(self, work, given, dtype):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    losses, _, _, _ = trained(bench, None)
    again, _, notes, parts = trained(bench, Refuses)
    assert losses == again and notes == ["operation not permitted when stream is capturing"]
    graphs.drop(parts)
    assert parts.family.name == "sd1" and not isinstance(parts.family, graphs.Graphed)


def test_a_processor_and_a_person_who_says_so_get_eager_steps(bench):
    parts = load_base(bench.config(), bench.home)
    adapter = Adapter(parts, bench.config())
    for memory, word in ((Memory(graphs="off"), "asked"), (Memory(graphs="auto"), "cpu")):
        assert word in graphs.choose(parts, adapter, memory, print)
    assert not isinstance(parts.family, graphs.Graphed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_cuda_graphs_give_eagers_losses(bench, dtype):
    words = ("run.device=cuda", f"memory.dtype={dtype}")
    losses, _, _, _ = trained(bench, None, *words)
    again, _, notes, _ = trained(bench, graphs.CudaGraphs, *words)
    assert not notes and again == pytest.approx(losses, rel=1e-4 if dtype == "fp32" else 2e-2)
