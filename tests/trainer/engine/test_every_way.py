"""Every kind of adapter, optimiser, schedule, loss and preset on every family: trains, goes on exactly, saves, previews."""

from __future__ import annotations

import shutil
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers import tiny
from tests.helpers.training_home import Bench, make_tiny
from trainer.adapters.file import read_header
from trainer.adapters.fold import LoraFuser, LoraStrength
from trainer.config import load
from trainer.core.home import Home
from trainer.engine.base import load_base
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter, base_hash
from trainer.engine.output import checkpoint

BASES = {
    "sd1": ("sd1", "epsilon", False),
    "sd1-v": ("sd1", "v_prediction", True),
    "sd2": ("sd2", "epsilon", False),
    "sd2-v": ("sd2", "v_prediction", False),
    "xl": ("sdxl", "epsilon", False),
    "xl-v": ("sdxl", "v_prediction", True),
}
"""Name -> family, prediction, zero terminal SNR."""
KINDS = {
    "lora": ["lora.targets=attention_mlp", "lora.dropout=0.1", "lora.rank_dropout=0.2", "lora.module_dropout=0.2",
             "lora.scale_weight_norms=0.05", "lora.text_encoder_stop_at=0.5"],
    "locon": ["lora.targets=all", "lora.conv_rank=1", "lora.block_ranks=mid_block = 6\nup_blocks.0 = 3"],
    "rslora": ["lora.type=rslora"], "dora": ["lora.type=dora", "lora.targets=all"],
    "loha": ["lora.type=loha", "lora.targets=attention_mlp", "lora.rank_dropout=0.2", "lora.module_dropout=0.2"],
    "lokr": ["lora.type=lokr", "lora.lokr_factor=4", "lora.alpha=3"],
    "pissa": ["lora.init=pissa", "lora.targets=attention_mlp"], "olora": ["lora.init=olora", "lora.type=rslora"],
    "oft": ["lora.type=oft", "lora.alpha=0.5"], "ia3": ["lora.type=ia3", "lora.targets=attention_mlp"],
    "glora": ["lora.type=glora", "lora.targets=all", "lora.rank_dropout=0.2"],
    "full": ["lora.type=full", "lora.module_dropout=0.2"],
}  # fmt: skip
OPTIMIZERS = (
    "adamw",
    "lion",
    "adafactor",
    "came",
    "muon",
    "schedule_free",
    "adamw8bit",
    "prodigy",
    "dadapt_adam",
    "dadapt_lion",
    "lion8bit",
    "paged_adamw8bit",
)
SCHEDULES = ("cosine", "constant", "linear", "cosine_with_restarts", "polynomial", "rex")
LOSSES = (("mse", "min_snr"), ("huber", "debiased"), ("smooth_l1", "none"))
PRESETS = ("style", "character", "concept")


def _case(base: str, i: int) -> tuple[str, ...]:
    """Case `i` of a base: base, kind, optimiser, schedule, loss and preset, so that the twelve cases meet all of each."""
    return base, list(KINDS)[i % 12], OPTIMIZERS[(i * 5 + 1) % 12], SCHEDULES[i % 6], str(i % 3), PRESETS[i % 3]


EVERY_STRATEGY = [
    pytest.param(_case(two[i % 2], i), marks=() if "sd1" in two else pytest.mark.slow)
    for two in (("sd1", "sd1-v"), ("sd2", "sd2-v"), ("xl", "xl-v"))
    for i in range(12)
]
"""On each family everything there is, on its two predictions in turn; the later families are slow together."""


@pytest.fixture(scope="module")
def benches(tmp_path_factory, picture_folder):
    """By name of a base: its bench, its parts as loaded, its pictures as drawn without a LoRA. Made once each."""
    known: dict[str, tuple[Bench, object, np.ndarray]] = {}

    def of(name: str):
        if name not in known:
            family, prediction, zero_snr = BASES[name]
            root = tmp_path_factory.mktemp(name)
            if family == "sd1":
                make_tiny(root / "base", prediction)
            else:
                tiny.make(root / "base", family, prediction, zero_snr, words=4096)
            shutil.copytree(picture_folder, root / "set")
            bench = Bench(Home(root / "home").create(), root / "base", root / "set")
            parts = load_base(bench.config(), bench.home)
            known[name] = bench, parts, _pixels(deepcopy(parts), ())[0]
        return known[name]

    return of


def _pixels(parts, loras: tuple[LoraStrength, ...]) -> list[np.ndarray]:
    asked = GenerateRequest("a red blob", steps=1, guidance=3.0, width=64, height=64, loras=loras, strengths=(0.0, 0.7))
    return [np.asarray(drawn.image, np.int16) for drawn in ImageSampler(parts).draw(asked)]


def _look(parts) -> torch.Tensor:
    """What the model gives for one caption, one noise, one timestep."""
    tokens = parts.family.tokens(parts, ["blobby, a red blob"])
    sized = SimpleNamespace(bucket=(64, 64), micro_conditioning=(64, 64, 0, 0, 64, 64))
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        told = parts.family.encode(parts, tokens) | parts.family.added_conditioning(parts, [sized])
        return parts.family.predict(parts, noisy, torch.tensor([300]), told)


@pytest.mark.parametrize("case", EVERY_STRATEGY, ids="-".join)
def test_every_strategy_and_preset_works_on_every_family(benches, monkeypatch, case):
    base, kind, optimizer, schedule, loss, preset = case
    bench, loaded, bare = benches(base)
    monkeypatch.setattr("trainer.engine.train.load_base", lambda *given: deepcopy(loaded))
    given = load.preset(preset, loaded.facts)
    given.pop("optimizer"), given.pop("schedule")
    rates = ["optimizer.lr=0.005", "optimizer.text_encoder_lr=0.005"]
    if optimizer == "prodigy":
        rates = ["optimizer.lr=1", "optimizer.d_coef=10"]
    elif optimizer.startswith("dadapt"):
        rates = [f"optimizer.lr={3 if optimizer == 'dadapt_adam' else 10}"]
    config = load.build(
        given,
        {
            "model": {"base": str(bench.base)},
            "images": {"folder": str(bench.folder), "resolution": 64},
            "save": {"name": "blob", "dtype": "fp32", "every": 5},
            "memory": {"base_dtype": "fp32"},
            "captions": {"trigger": "blobby"},
            "samples": {"steps": 1, "prompts": ["a blob"], "every": 1000},
            "optimizer": {"name": optimizer},
            "schedule": {"name": schedule},
        },
        overrides=[
            "run.steps=10",
            "run.batch_size=1",
            "lora.train_text_encoder=true",
            "lora.rank=2",
            "lora.alpha=2",
            *KINDS[kind],
            *rates,
            f"loss.type={LOSSES[int(loss)][0]}",
            f"loss.weighting={LOSSES[int(loss)][1]}",
        ],
    )
    name = "-".join((base, kind, optimizer, schedule, loss, preset))
    published = bench.train(config, name)
    losses = bench.losses()
    assert len(losses) == 10 and np.isfinite(losses).all()
    run = bench.run(name)
    last = checkpoint.newest(run, config, lambda step: pytest.fail(f"checkpoint {step} is damaged"))
    shutil.rmtree(run.checkpoint(10))  # as if it had been ended half-way, before its LoRA went into the library
    straight = published.rename(bench.home.cache / f"{name}.safetensors")
    run.published.unlink()
    resumed = bench.train(config, name)
    assert bench.losses() == losses[5:]
    said = [read_header(file).metadata for file in (straight, resumed)]
    assert said[0]["sshs_model_hash"] == said[1]["sshs_model_hash"] and straight != resumed
    family, prediction, zero_snr = BASES[base]
    assert said[0]["modelspec.prediction_type"] == ("v" if prediction == "v_prediction" else "epsilon")
    assert said[0]["ss_zero_terminal_snr"] == str(zero_snr) and said[0]["ss_v2"] == str(family == "sd2")

    parts = deepcopy(loaded)
    before, plain = base_hash(parts), _look(parts)
    zero, some = _pixels(parts, (LoraStrength(straight),))
    assert np.array_equal(zero, bare) and not np.array_equal(some, bare) and base_hash(parts) == before
    adapter = Adapter(parts, config)
    assert last is not None
    adapter.load(last.adapter)
    learnt = _look(parts)
    with adapter.disabled():
        fuser = LoraFuser(parts)
        ((_, matched, total),) = fuser.fuse([LoraStrength(straight)])
        assert matched == total == len(adapter.layers)
        drawn = _look(parts)
        fuser.unfuse()
    assert (learnt - plain).abs().max() > 2e-5 and base_hash(parts) == before
    if optimizer != "schedule_free":  # whose checkpoint holds what it steps, and whose file holds the average
        assert (drawn - learnt).abs().max() <= 1e-5
