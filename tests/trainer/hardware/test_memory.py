"""Memory plans: counted bytes that can be counted again, plans that go down, one that fits; and no torch for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainer.config import load
from trainer.config.sections.lora import Lora
from trainer.core.home import PROJECT
from trainer.hardware import memory

GB = 10**9


@pytest.mark.parametrize(("family", "side", "batch"), [("sd1", 512, 1), ("sd1", 512, 8), ("sd2", 768, 2), ("sdxl", 1024, 4)])
def test_the_ladder_goes_down_and_keeps_the_effective_batch(family, side, batch):
    plans = list(memory.plans(family, side, Lora(), batch, 2))
    sizes = [plan.bytes for plan in plans]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.6 * sizes[0]
    assert all(plan.batch * plan.accumulation == batch * 2 for plan in plans)
    held = [(plan.precision, plan.offload) for plan in plans][-5:]
    assert held == [("int8", 0), ("int8", 0.5), ("int8", 1), ("int4", 1), ("int4", 1)] and not plans[-1].text_encoder
    assert all(plan.checkpointing for plan in plans[1:])
    for free in (sizes[0], sizes[0] - 1, sizes[-1], sizes[-1] - 1):
        plan, fits = memory.suggest(family, side, free, Lora(), batch, 2)
        assert fits == (free >= sizes[-1]) and plan.bytes == next((size for size in sizes if size <= free), sizes[-1])


def test_small_cards_get_the_plans_they_can_hold():
    """The sizes the project aims at: SD 1.5 at 512 px in 4 and 3 GB, SDXL at 1024 px in 12 and 8 GB; computed, not measured."""
    still = Lora(train_text_encoder=False)
    for family, side, free, precision, share in (
        ("sd1", 512, 4 * GB, "full", 0),
        ("sd1", 512, 3 * GB, "int8", 0),
        ("sd1", 512, 2.2 * GB, "int8", 1),
        ("sdxl", 1024, 12 * GB, "full", 0),
        ("sdxl", 1024, 8 * GB, "int8", 0),
        ("sdxl", 1024, 4 * GB, "int8", 0.5),
    ):
        plan, fits = memory.suggest(family, side, round(free), still)
        assert fits and (plan.precision, plan.offload) == (precision, share) and plan.bytes <= free
    assert memory.suggest("sdxl", 1024, 24 * GB, still)[0].checkpointing is False


def test_what_waits_in_main_memory_is_not_on_the_card():
    """All blocks but two: what is left of SDXL's 5.1 GB is what no block holds, and two of the largest."""
    weights = memory.counted()["sdxl"]["weights"]["full"]
    lora = Lora(train_text_encoder=False)
    whole, away = (
        memory.needed("sdxl", 1024, memory.MemoryPlan(1, 1, True, offload=share), memory.trainable_parameters("sdxl", lora))
        for share in (0.0, 1.0)
    )
    assert weights["blocks"] > 0.9 * weights["unet"] and weights["largest"] < 0.03 * weights["unet"]
    assert whole - away == pytest.approx(1.1 * (weights["blocks"] - 2 * weights["largest"]), rel=0.25)
    assert away < 3.2 * GB


def test_the_gradients_of_a_lora_are_small_beside_the_base():
    """Why no backward pass is fused: bytes of all gradients at rank 16 in fp32, UNet alone and with the text encoders."""
    for family, unet, all_ in (("sd1", 12.8e6, 17.5e6), ("sdxl", 92.9e6, 118.6e6)):
        for reads, size in ((False, unet), (True, all_)):
            lora = Lora(rank=16, train_text_encoder=reads)
            assert 4 * memory.trainable_parameters(family, lora) == pytest.approx(size, rel=0.01)
            side = memory.counted()[family]["side"]
            assert all(size < 0.06 * plan.bytes for plan in memory.plans(family, side, lora))


def test_text_encoders_stay_where_they_learn_or_read_new_words_at_every_look():
    text = memory.counted()["sdxl"]["weights"]["full"]["text"]
    told, endless = (
        memory.of_config(load.build({}, overrides=["lora.train_text_encoder=false", *more]), "sdxl", 1024)
        for more in ((), ("captions.shuffle_tags=true",))
    )
    assert endless.bytes - told.bytes == pytest.approx(1.1 * text, rel=1e-6)
    away = load.build(
        {}, overrides=["lora.train_text_encoder=false", "captions.shuffle_tags=true", "memory.offload_fraction=1"]
    )
    assert memory.of_config(away, "sdxl", 1024).bytes < told.bytes


def test_the_page_of_figures_says_what_is_computed_and_that_nothing_is_measured():
    lines = (PROJECT / "docs" / "performance.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.endswith("| open |")]
    settings = (
        (False, "full", 0),
        (True, "full", 0),
        (True, "int8", 0),
        (True, "int8", 0.5),
        (True, "int8", 1),
        (True, "int4", 1),
        (True, "int4", 0),
        (True, "full", 0.5),
        (True, "full", 1),
    )
    for row, (checkpointing, precision, share) in zip(rows, settings, strict=True):
        found = []
        for family, known in memory.counted().items():
            for reads in (True, False):
                plan = memory.MemoryPlan(1, 1, checkpointing, precision, share, reads)
                size = memory.needed(
                    family, known["side"], plan, memory.trainable_parameters(family, Lora(train_text_encoder=reads))
                )
                found.append(f"{size / GB:.1f}")
        assert row[2:8] == found


def test_a_plan_is_a_set_of_options_and_a_config_stands_on_one():
    plan, _ = memory.suggest("sdxl", 1024, 8 * GB, Lora(train_text_encoder=False), 4)
    config = load.build({}, overrides=[f"{name}={value}" for name, value in plan.options().items()])
    assert memory.of_config(config, "sdxl", 1024) == plan and config.memory.quantize_base == "int8"
    more = config.model_copy(update={"lora": config.lora.model_copy(update={"rank": 128})})
    numbers = memory.trainable_parameters("sdxl", config.lora)
    assert memory.trainable_parameters("sdxl", more.lora) == 8 * numbers
    assert memory.of_config(more, "sdxl", 1024).bytes - plan.bytes == pytest.approx(7 * numbers * 16 * 1.1, rel=1e-6)


def test_the_counted_bytes_are_counted_again_and_hold_at_other_sizes():
    from trainer.engine.probes import count
    from trainer.engine.speed import device

    device.silence_libraries()
    known = memory.counted()["sd1"]
    weights, step = count.step_bytes("sd1", 512, 1, "int4", checkpointing=True)
    assert 2 * weights["largest"] < weights["blocks"] < weights["unet"]
    assert weights == known["weights"]["int4"] and step <= known["step"]["checkpointed"]["each"] * 1.01
    _, larger = count.step_bytes("sd1", 640, 3, "full", checkpointing=True)
    told = known["step"]["checkpointed"]
    assert larger == pytest.approx(told["always"] + 3 * told["each"] * (640 / 512) ** 2, rel=0.05)
    assert count.picture_bytes("sd1", 512) == (known["vae"], known["picture"])


def test_asking_needs_no_torch():
    code = (
        "import sys; from trainer.hardware import memory; from trainer.config.train import Lora; "
        "memory.suggest('sd1', 512, 10**10, Lora()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, timeout=60)
