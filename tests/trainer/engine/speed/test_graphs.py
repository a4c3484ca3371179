"""The road of CUDA graphs: static buffers give eager's numbers, eager steps in where a graph would be wrong."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch

from trainer.engine.base import load_base
from trainer.engine.data import batches as data
from trainer.engine.data.latents import LatentCache
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.speed import cuda_graphs, step_graph
from trainer.engine.speed.gradient_checkpointing import checkpoint_gradients


class Counting(cuda_graphs.StaticBuffers):
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
def _none_counted(monkeypatch):
    Counting.captured = Counting.replayed = 0
    monkeypatch.setattr(step_graph, "WARM", 1)  # libraries here need no warming


def trained(bench, maker, *words, steps=4):
    """Losses and final tensors of a few steps over both formats of the set."""
    config = bench.config("run.batch_size=1", *words)
    parts = load_base(config, bench.home)
    adapter = Adapter(parts, config)
    if config.memory.gradient_checkpointing:
        checkpoint_gradients(parts)
    notes = []
    if maker:
        graphed: Any = cuda_graphs.GraphedFamily(parts, adapter, notes.append, maker)
        parts.family = graphed
    guard = OptimizerStepper(config, adapter, parts.device)
    steps_of = TrainingObjective(config, parts, adapter, LatentCache(parts, bench.home.cache / "latents"))
    batches = data.BucketBatchSampler(data.load_examples(config, 64), 1, 0, False).batches()
    losses = []
    for step in range(steps):
        looks = list(islice(batches, config.run.gradient_accumulation))
        loss = steps_of.backward(step, looks)
        guard.update(loss, 1.0)
        losses.append(float(loss))
    return losses, adapter.state(), notes, parts


@pytest.mark.parametrize("words", [(), ("lora.train_text_encoder=false",), ("memory.gradient_checkpointing=true",)])
def test_static_buffers_give_the_losses_and_tensors_of_eager_steps(bench, words):
    losses, state, _, _ = trained(bench, None, *words)
    again, mine, notes, _ = trained(bench, Counting, *words)
    assert losses == again and not notes
    assert all(torch.equal(state[name], mine[name]) for name in state)
    text = 0 if words == ("lora.train_text_encoder=false",) else 1
    assert Counting.captured == 2 + text  # the UNet once a format; text has one shape
    assert Counting.replayed == 4 * (1 + text)


def test_a_second_backward_pass_of_a_step_is_eager(bench):
    losses, state, _, _ = trained(bench, None, "run.gradient_accumulation=2", steps=2)
    again, mine, _, _ = trained(bench, Counting, "run.gradient_accumulation=2", steps=2)
    assert losses == again and all(torch.equal(state[name], mine[name]) for name in state)
    assert Counting.replayed == 2 * 2  # text and UNet, of the first micro batch alone


def test_what_cannot_be_captured_goes_on_eager_and_is_said_once(bench):
    class Refuses:
        def __call__(self, work, given, dtype):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    losses, _, _, _ = trained(bench, None)
    again, _, notes, parts = trained(bench, Refuses)
    assert losses == again and notes == ["operation not permitted when stream is capturing"]
    cuda_graphs.drop(parts)
    assert parts.family.name == "sd1" and not isinstance(parts.family, cuda_graphs.GraphedFamily)


def test_a_processor_and_a_person_who_says_so_get_eager_steps(bench):
    for choice, word in (("off", "asked"), ("auto", "cpu")):
        config = bench.config(f"memory.cuda_graphs={choice}")
        parts = load_base(config, bench.home)
        adapter = Adapter(parts, config)
        maker = TrainingObjective(config, parts, adapter, LatentCache(parts, bench.home.cache / "latents"))
        taker, said = cuda_graphs.choose(config, maker, OptimizerStepper(config, adapter, parts.device), print)
        assert (
            word in said and type(taker) is step_graph.EagerStepper and not isinstance(parts.family, cuda_graphs.GraphedFamily)
        )


class Static:
    """The whole step's road without capture; counts what would be."""

    def __init__(self):
        self.warmed = self.recorded = self.replayed = 0

    def warm(self, work):
        self.warmed += 1
        return work()

    def record(self, work):
        self.recorded += 1

        def replay():
            self.replayed += 1
            return work()

        return replay


def taken(bench, recorder, *words, steps=8, on_device=True, breaks=()):
    """Losses, final tensors, state of the guard and notes of whole steps, the rate falling all the while."""
    config = bench.config("run.batch_size=1", *words)
    parts = load_base(config, bench.home)
    adapter = Adapter(parts, config)
    guard = OptimizerStepper(config, adapter, parts.device)
    guard.on_device = on_device  # as on a card: what is not finite is skipped by the optimiser itself
    maker = TrainingObjective(config, parts, adapter, LatentCache(parts, bench.home.cache / "latents"))
    notes = []
    taker = step_graph.GraphStepper(maker, guard, notes.append, recorder) if recorder else step_graph.EagerStepper(maker, guard)
    batches = data.BucketBatchSampler(data.load_examples(config, 64), 1, 0, False).batches()
    losses, finite = [], []
    for step in range(steps):
        adapter.before_step(step, steps, config.run.seed)
        if step in breaks:
            monkey = maker.noise.alpha_bar.clone()
            maker.noise.alpha_bar.fill_(float("nan"))
        loss, good = taker.take(step, [next(batches)], 1 - step / steps)
        if step in breaks:
            maker.noise.alpha_bar.copy_(monkey)
        losses.append(loss)
        finite.append(bool(good))
        if step == 4:  # as after a roll back: everything from a checkpoint
            kept, state = guard.state(), adapter.state()
            adapter.load(state)
            guard.load(kept, guard.lr_factor)
    return [float(loss) for loss in losses], adapter.state(), guard, finite, notes


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("lora.train_text_encoder=false",),
        ("lora.text_encoder_stop_at=0.5", "run.ema_decay=0.9"),
        ("loss.masked=true", "loss.weighting=min_snr", "noise.offset=0.1", "lora.scale_weight_norms=0.05"),
    ],
)
def test_a_whole_step_from_buffers_gives_the_losses_and_tensors_of_eager_steps(bench, words):
    losses, state, guard, _, _ = taken(bench, None, *words)
    recorder = Static()
    again, mine, other, finite, notes = taken(bench, recorder, *words)
    assert not notes and all(finite) and recorder.replayed > 0 and recorder.warmed + recorder.replayed == 8
    assert again == pytest.approx(losses, rel=2e-6)  # a rate in 32 bits instead of 64
    assert all(torch.allclose(state[name], mine[name], rtol=1e-4, atol=5e-6) for name in state)
    assert other.learning_rates() == guard.learning_rates() and other.learning_rates()["unet"] > 0
    assert all(type(group["lr"]) is float for group in other.state()["optimizer"]["param_groups"])


def test_a_whole_step_that_is_not_finite_changes_nothing(bench):
    recorder = Static()
    _, state, _, finite, _ = taken(bench, recorder, breaks=(2, 7))
    assert [place for place, good in enumerate(finite) if not good] == [2, 7]
    assert recorder.replayed and all(torch.isfinite(tensor).all() for tensor in state.values())


def test_a_whole_step_that_cannot_be_captured_goes_on_eagerly_and_says_so_once(bench):
    class Refuses(Static):
        def record(self, work):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    losses, state, _, _, _ = taken(bench, None)
    again, mine, _, _, notes = taken(bench, Refuses())
    assert notes == ["operation not permitted when stream is capturing"]
    assert again == pytest.approx(losses, rel=2e-6)
    assert all(torch.allclose(state[name], mine[name], rtol=1e-4, atol=5e-6) for name in state)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("optimizer.name=prodigy",), "reads numbers"),
        (("run.gradient_accumulation=2",), "several passes"),
        (("preservation.base_prior=0.5", "captions.trigger=blobby"), "adds a pass"),
        (("captions.max_token_length=150",), "pieces"),
        ((), ""),
    ],
)
def test_what_stands_in_the_way_of_a_whole_step_is_named(bench, words, why):
    config = bench.config(*words)
    parts = load_base(config, bench.home)
    adapter = Adapter(parts, config)
    guard = OptimizerStepper(config, adapter, parts.device)
    assert not guard.fallback_reason
    guard.on_device = isinstance(guard.optimizer, torch.optim.AdamW)
    said = step_graph.obstacle(config, guard, adapter.trains("text_encoder"))
    assert why in said and bool(why) == bool(said)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_whole_step_as_a_cuda_graph_gives_eagers_losses(bench, dtype):
    words = ("run.device=cuda", f"memory.base_dtype={dtype}")
    losses, *_ = taken(bench, None, *words)
    again, _, _, _, notes = taken(bench, step_graph.CudaRecorder(), *words)
    assert not notes and again == pytest.approx(losses, rel=1e-4 if dtype == "fp32" else 2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_cuda_graphs_give_eagers_losses(bench, dtype):
    words = ("run.device=cuda", f"memory.base_dtype={dtype}")
    losses, _, _, _ = trained(bench, None, *words)
    again, _, notes, _ = trained(bench, cuda_graphs.CudaGraphs, *words)
    assert not notes and again == pytest.approx(losses, rel=1e-4 if dtype == "fp32" else 2e-2)
