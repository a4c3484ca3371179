"""Weights that wait in main memory: the same losses, file and pictures to the bit, and at most two blocks there at once."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.helpers import tiny
from tests.helpers.training_home import Bench
from trainer.config import load
from trainer.core import events
from trainer.core.home import Home
from trainer.engine.base import load_base
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.setup import place_base
from trainer.engine.speed import cuda_graphs, offload

CPU = torch.device("cpu")


class Counting(offload.CopyStream):
    """Copies within main memory, as to a card, and counts the bytes of the copies that are alive."""

    now = most = trips = round = 0

    def fetch(self, sources):
        trip = super().fetch(sources)
        Counting.trips += 1
        for copy in trip.copies:
            Counting.now += copy.nbytes
            weakref.finalize(copy.untyped_storage(), self.gone, Counting.round, copy.nbytes)
        Counting.most = max(Counting.most, Counting.now)
        return trip

    @staticmethod
    def gone(brought, size):
        if brought == Counting.round:  # a copy of an earlier test may outlive it, until the collector comes by
            Counting.now -= size

    @classmethod
    def afresh(cls):
        cls.now = cls.most = cls.trips = 0
        cls.round += 1


@pytest.fixture
def away(monkeypatch):
    """As on a card: whoever asks gets a courier, though it carries from main memory to main memory."""
    Counting.afresh()
    monkeypatch.setattr(offload, "courier_for", Counting)


@pytest.fixture(scope="module")
def xl_base(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("away") / "xl", "sdxl", words=4096)


def tensors(file):
    with safe_open(file, "pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata()["sshs_model_hash"]  # noqa: SIM118


def left(bench, name):
    """What a run left behind: losses and judgements, and the bytes of its pictures."""
    judged = [(e.step, e.loss, e.base) for e in bench.events if isinstance(e, events.Validated)]
    return judged, [path.read_bytes() for path in sorted((bench.run(name).path / "samples").glob("*.png"))]


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("sd1", ("lora.train_text_encoder=true",)),
        pytest.param(
            "sdxl",
            (
                "lora.train_text_encoder=false",
                "memory.quantize_base=int8",
                "lora.targets=all",
                "validation.images=0000.png",
                "validation.every=1",
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_losses_file_and_pictures_are_those_without_offloading_to_the_bit_also_after_a_stop(
    tiny_base, xl_base, picture_folder, tmp_path, monkeypatch, family, words
):
    shutil.copytree(picture_folder, tmp_path / "set")
    bench = Bench(Home(tmp_path / "home").create(), tiny_base if family == "sd1" else xl_base, tmp_path / "set")
    words = (
        *words,
        "run.steps=2",
        "run.batch_size=1",
        "save.every=1",
        "samples.steps=1",
        "samples.every=2",
        "save.dtype=fp32",
        "memory.gradient_checkpointing=true",
    )
    plain = bench.train(bench.config(*words), "plain")
    wanted, told = bench.losses(), left(bench, "plain")
    Counting.afresh()
    monkeypatch.setattr(offload, "courier_for", Counting)
    config = bench.config(*words, "memory.offload_fraction=1", "memory.compile=on")
    file = bench.train(config, "away")
    (started,) = [e for e in bench.events if isinstance(e, events.Started)]
    count = len(offload.blocks(load_base(config, bench.home).unet))
    assert started.facts["offload"].startswith(f"{count} of {count} blocks")
    assert started.facts["resting"] == ("vae" if family == "sd1" else "text_encoder text_encoder_2 vae")
    assert started.facts["blocks"] == "eager: blocks that wait in main memory come and go"
    assert Counting.trips > 2 * 2 * count
    assert bench.losses() == wanted and left(bench, "away") == told
    shutil.rmtree(bench.run("away").checkpoint(2))
    again = bench.train(config, "away")
    assert bench.losses() == wanted[1:]
    one, two, three = (tensors(path) for path in (plain, file, again))
    assert one[1] == two[1] == three[1] and one[0].keys() == two[0].keys()
    assert all(torch.equal(one[0][key], two[0][key]) and torch.equal(one[0][key], three[0][key]) for key in one[0])


def trained(bench, config, steps=3):
    """Parts, adapter and step maker after a few steps without a run around them, and most bytes brought from the second on."""
    from trainer.engine.data import batches as data
    from trainer.engine.data.latents import LatentCache

    parts = load_base(config, bench.home)
    before = base_hash(parts), {id(p) for p in parts.unet.parameters()}
    adapter = Adapter(parts, config)
    place_base(config, parts)
    maker = TrainingObjective(config, parts, adapter, LatentCache(parts, bench.home.cache / "latents"))
    guard = OptimizerStepper(config, adapter, CPU)
    batches = data.BucketBatchSampler(data.load_examples(config, 64), 1, 0, False).batches()
    for step in range(steps):
        Counting.most = Counting.now
        guard.update(maker.backward(step, [next(batches)]), 1.0)
    return parts, adapter, maker, before


def test_two_blocks_are_there_at_most_and_the_store_is_the_base_itself(bench, away):
    config = bench.config("memory.offload_fraction=1", "lora.train_text_encoder=false")
    parts, adapter, _, (before, objects) = trained(bench, config)
    sizes = [sum(t.nbytes for t in offload.frozen(block)) for block in offload.blocks(parts.unet)]
    assert max(sizes) < Counting.most <= sum(sorted(sizes)[-2:]) < 0.5 * sum(sizes)
    assert Counting.now <= max(sizes)  # the first block of the next step is on its way
    assert base_hash(parts) == before
    learnt = {id(p) for p in adapter.parameters()}
    assert {id(p) for p in parts.unet.parameters()} - learnt == objects
    assert all(p.grad is None for p in parts.unet.parameters())


def test_without_checkpointing_every_block_would_stay_so_it_is_switched_on(bench, away):
    assert load.build({}, overrides=["memory.offload_fraction=0.1"]).memory.checkpoints
    parts, *_ = trained(bench, bench.config("memory.offload_fraction=1"), steps=1)
    assert parts.unet.is_gradient_checkpointing
    middle = parts.unet.mid_block.resnets[0]  # diffusers never computes this one anew
    assert middle not in offload.blocks(parts.unet) and len(offload.blocks(parts.unet)) > 5


def test_a_share_of_the_blocks_is_a_share_of_their_weights_spread_over_the_net():
    sizes = (1, 2, 3, 4, 5, 4, 3, 2, 1, 5)
    modules: list[Any] = [torch.nn.Linear(10 * size, 10, bias=False).requires_grad_(False) for size in sizes]
    numbers = [module.weight.numel() for module in modules]
    assert offload.spread(modules, 0) == [] and offload.spread(modules, 1) == modules
    for share in (0.25, 0.5, 0.75):
        found = offload.spread(modules, share)
        assert sum(numbers[modules.index(m)] for m in found) == pytest.approx(share * 3000, abs=300)
        places = [modules.index(m) for m in found]
        assert places[0] < 5 <= places[-1]


def test_a_lora_folded_in_between_is_what_is_brought(away):
    """The block on its way was copied before; what stands in the store now counts."""
    torch.manual_seed(0)
    first, second = (torch.nn.Linear(8, 8).requires_grad_(False) for _ in range(2))
    line = offload.BlockPrefetcher(Counting(CPU), ahead=True)
    line.add(first)
    line.add(second)
    x = torch.randn(2, 8)
    for _ in range(2):
        wanted = second(first(x))
    assert line.ahead is not None and line.ahead[0].places[0][0] is first
    pristine = first.weight
    first.weight = torch.nn.Parameter(pristine * 2, requires_grad=False)
    assert not torch.allclose(second(first(x)), wanted)
    first.weight = pristine
    assert torch.equal(second(first(x)), wanted) and first.weight is pristine


def test_a_call_that_fails_leaves_the_store_as_it_was(away):
    layer = torch.nn.Linear(8, 8).requires_grad_(False)
    weight = layer.weight
    offload.BlockPrefetcher(Counting(CPU), ahead=False).add(layer)
    with pytest.raises(RuntimeError):
        layer(torch.randn(2, 9))
    assert layer.weight is weight
    assert layer(torch.randn(2, 8)).shape == (2, 8) and Counting.now == 0


def test_words_that_change_at_every_look_keep_their_encoders_unless_memory_is_short(bench, away):
    endless = "captions.shuffle_tags=true"
    for words, waits in (
        ((endless,), "vae"),
        ((endless, "memory.offload_fraction=1"), "text_encoder vae"),
        ((), "text_encoder vae"),
        (("memory.cache_latents=false",), "text_encoder"),
    ):
        config = bench.config(*words)
        parts = load_base(config, bench.home)
        assert offload.rest(parts, config, text_learns=False) == waits
        learning = offload.rest(load_base(config, bench.home), config, text_learns=True)
        assert learning == waits.replace("text_encoder", "").strip()


def test_a_processor_has_nothing_to_move_and_graphs_are_refused(bench):
    config = bench.config("memory.offload_fraction=1", "memory.cuda_graphs=auto")
    parts, adapter, maker, _ = trained(bench, config, steps=1)
    assert place_base(config, parts)[1] == "off: on cpu the base computes where it lies"
    assert offload.rest(parts, config, text_learns=False) == ""
    maker.parts = replace(parts, device=torch.device("cuda"))
    taker, said = cuda_graphs.choose(config, maker, OptimizerStepper(config, adapter, CPU), print)
    assert said.startswith("eager: blocks that wait") and type(taker).__name__ == "EagerStepper"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["full", "int8"])
def test_on_a_gpu_it_learns_the_same_in_less_memory(bench, precision):
    words = (
        "run.device=cuda",
        "memory.base_dtype=bf16",
        "run.steps=4",
        "samples.steps=1",
        "memory.gradient_checkpointing=true",
        f"memory.quantize_base={precision}",
    )
    bench.train(bench.config(*words), "whole")
    wanted = bench.losses()
    bench.train(bench.config(*words, "memory.offload_fraction=1"), "away")
    assert bench.losses() == pytest.approx(wanted, rel=1e-3)
