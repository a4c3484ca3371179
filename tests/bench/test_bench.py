"""The measuring itself: both loops do the same work, figures are told as promised, what cannot be measured is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch

from bench import __main__ as command
from bench import other, training
from bench.cases import CASES, HERE, ON_GPU, case
from tests.helpers import tiny
from trainer.__main__ import main
from trainer.bases import catalog
from trainer.bases.families import family, loading
from trainer.config.sections.lora import Lora
from trainer.core.home import PROJECT, Home
from trainer.engine.speed import device
from trainer.hardware import memory

CPU = torch.device("cpu")


@pytest.mark.slow
def test_both_loops_give_the_same_losses_and_the_work_is_counted():
    device.silence_libraries()
    from bench.ours import Ours
    from bench.reference import Reference

    ours, reference = Ours(case("mini-cpu-b1")), Reference(case("mini-cpu-b1"))
    for _ in range(2):
        assert ours.step() == pytest.approx(reference.step(), rel=1e-3)
    assert ours.losses() == pytest.approx(reference.losses(), rel=1e-3)
    forward_and_back = reference.flops()
    assert forward_and_back > 2 * sum(p.numel() for p in reference.parts.unet.parameters())


def test_both_loops_give_the_same_losses_on_sdxl_whose_text_encoders_stay(tmp_path, monkeypatch):
    """The cases of real size need a card; here both sides take the same road on a small base of the family."""
    device.silence_libraries()
    from bench import setting
    from bench.ours import Ours
    from bench.reference import Reference

    folder, facts = tiny.make(tmp_path / "xl", "sdxl", words=4096), catalog.find(Home(PROJECT), "mini")
    facts = replace(facts, id="xl", path=folder, family="sdxl")
    monkeypatch.setattr(setting, "load_parts", lambda case: loading.load(family("sdxl"), facts, CPU, torch.float32))
    small = replace(case("sdxl-gpu-b4-checkpointing"), device="cpu", dtype="fp32", batch=2, resolution=64)
    ours, reference = Ours(small), Reference(small)
    for _ in range(2):
        assert ours.step() == pytest.approx(reference.step(), rel=1e-4)
    assert {part for part, _ in ours.run.adapter.layers} == {"unet"} == reference.trained and reference.kept
    assert ours.run.components.unet.is_gradient_checkpointing and reference.flops() > 0
    ours.draw()


def test_the_figures_of_a_case_follow_from_what_was_measured():
    """Ours 0.1, 0.2 and 0.1 s a step, the reference 0.2, 0.2 and 0.3; 4e12 operations a step on a card of 1e14 a second."""
    peaks = {"peak_bytes": 3, "peak_allocated_bytes": 2, "peak_process_bytes": 9}
    told = {
        "ours": {"losses": [1.0, 0.51], **peaks},
        "reference": {"losses": [1.0, 0.5], "flops": 4e12, **{name: 2 * value for name, value in peaks.items()}},
    }
    times, first = {"ours": [0.1, 0.2, 0.1], "reference": [0.2, 0.2, 0.3]}, {"ours": 7.0, "reference": 8.0}
    found = training.figures(case("sd15-gpu-b4"), times, told, first, 1e14)
    assert found["ratio_by_round"] == [2, 1, 3] and found["ratio"] == 2
    assert (found["ours"], found["reference"], found["pictures_per_second"]) == pytest.approx((10, 5, 40))
    assert (found["share_of_limit"], found["share_of_limit_reference"]) == pytest.approx((0.4, 0.2))  # 0.04 s of 0.1 and 0.2
    assert found["losses_apart"] == pytest.approx(0.02) and found["losses_equal"] and found["tolerance"] == 3e-2
    exact = training.figures(replace(case("sd15-gpu-b4"), dtype="fp32"), times, told, first, 1e14)
    assert not exact["losses_equal"] and exact["tolerance"] == 1e-3
    assert (found["first_step_seconds"], found["peak_bytes_reference"], found["peak_process_bytes"]) == (7, 6, 9)


def test_every_case_that_needs_a_gpu_is_there():
    names = {f"sd15-gpu-b{batch}{more}" for batch in (1, 4, 16) for more in ("", "-checkpointing")}
    names |= {f"sdxl-gpu-b{batch}{more}" for batch in (1, 4) for more in ("", "-checkpointing")}
    names |= {f"{kind}-gpu" for kind in ("steady", "growth", "prepare", "preview", "start-up")}
    assert names <= set(ON_GPU) and len(CASES) == len({c.name for c in CASES})
    assert all(case(name).dtype == "bf16" and case(name).device == "cuda" for name in ON_GPU)
    for base, side in (("sd1", 512), ("sdxl", 1024)):
        for reads in (True, False):
            rungs = {
                (c.checkpointing, c.precision, c.offload)
                for c in CASES
                if c.kind == "rung" and c.base == base and c.text_encoder == reads
            }
            ladder = memory.plans(base, side, Lora(train_text_encoder=reads))
            assert {(r.checkpointing, r.precision, r.offload) for r in ladder} < rungs and (True, "full", 1.0) in rungs


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_its_cases_are_listed_as_not_measured(capsys, tmp_path):
    assert main(["bench", "--gpu", "--out", str(tmp_path)]) == 2
    rows = [line for line in capsys.readouterr().out.splitlines() if "not measured" in line]
    assert len(rows) == len(ON_GPU) and any(row.startswith("| sdxl-rung-checkpointing-int8-away50 |") for row in rows)
    assert not list(tmp_path.glob("*.json"))


def test_what_was_measured_is_kept_although_a_later_case_fails(monkeypatch, tmp_path):
    def measure(wanted):
        if wanted.name == "preview":
            raise MemoryError
        return {
            "case": wanted.name,
            "ours": 1.0,
            "reference": None,
            "unit": "1/s",
            "ratio": None,
            "share_of_limit": None,
            "peak_bytes": 0,
            "steps": 1000,
            "resident_megabytes_by_tenth": [200.0] * 9 + [250.0],
            "step_milliseconds_by_pictures": {"10": 20.0, "10000": 10.0},
        }

    monkeypatch.setattr(command, "_measure", measure)
    with pytest.raises(MemoryError):
        command.main(["--case", "steady", "--case", "preview", "--out", str(tmp_path / "kept")])
    assert json.loads((tmp_path / "kept" / "steady.json").read_text())["ours"] == 1.0
    command.main(["--case", "growth", "--out", str(tmp_path / "kept")])
    names = [row.split(" | ")[0] for row in (tmp_path / "kept" / "table.md").read_text().splitlines()[2:]]
    assert names == ["| growth", "| steady"]  # of both sittings, as the cases stand
    heights = {}
    for name in ("growth", "steady"):
        drawn = ElementTree.parse(tmp_path / "kept" / f"{name}.svg").getroot()
        line = drawn.find("{*}polyline")
        assert line is not None
        heights[name] = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
        assert len(drawn.findall("{*}text")) == 1 + 2 * len(heights[name])
    (slow, quick), floor = heights["growth"], 240 - 44
    assert (floor - slow) == pytest.approx(2 * (floor - quick), abs=0.2)  # from nought
    assert len(set(heights["steady"][:9])) == 1 and heights["steady"][9] < heights["steady"][8]


def test_every_operation_has_one_kind():
    from bench.profile import OTHER, kind_of

    kinds = {
        "aten::mkldnn_convolution": "convolutions", "aten::convolution_backward": "convolutions",
        "aten::addmm": "matrix products", "aten::mm": "matrix products",
        "aten::native_group_norm_backward": "norms", "aten::copy_": "copies",
        "aten::_scaled_dot_product_flash_attention_for_cpu": "attention", "Optimizer.step#AdamW.step": "optimiser",
        "aten::_foreach_mul_": "optimiser", "autograd::engine::evaluate_function: MulBackward0": "autograd", "aten::mul": OTHER,
        "sm90_xmma_fprop_implicit_gemm_bf16": "convolutions", "nvjet_tst_128x256": "matrix products", "Memcpy DtoD": "copies",
        "void at::native::vectorized_elementwise_kernel<4>": OTHER, "fmha_cutlassF_bf16": "attention",
    }  # fmt: skip
    assert {name: kind_of(name) for name in kinds} == kinds


def test_a_profile_accounts_for_the_whole_step(capsys):
    """A step that sleeps 20 ms and multiplies: the sleep is nothing of torch's, and the sum is the step."""
    import time

    from bench import profile

    class Sleeper:
        def step(self) -> None:
            time.sleep(0.02)
            torch.mm(torch.ones(512, 512), torch.ones(512, 512))

    told = profile.take(Sleeper(), replace(case("mini-cpu-b1"), steps=4))
    kinds = told["kinds"]
    assert kinds["matrix products"][1] == 1 and kinds["matrix products"][0] > 0 and kinds["convolutions"] == [0, 0]
    assert kinds[profile.REST][0] > 19 and sum(row[0] for row in kinds.values()) == pytest.approx(told["step_ms"], rel=0.05)
    rows = profile.table(case("mini-cpu-b1"), {"ours": told, "reference": told}).splitlines()
    assert len(rows) == 2 + len(kinds) + 1 and rows[2].startswith("| optimiser | 0.0 | 0 |")
    assert main(["bench", "--profile", "preview"]) == 2
    assert "preview" in capsys.readouterr().err


@pytest.mark.slow
def test_both_sides_are_profiled_and_the_table_is_kept(tmp_path, capsys):
    assert main(["bench", "--profile", "mini-cpu-b1", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.strip()
    assert (tmp_path / "mini-cpu-b1-profile.md").read_text().strip() == shown
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:] for row in shown.splitlines()}
    assert float(rows["convolutions"][0]) > 1 and float(rows["convolutions"][2]) > 1


def test_a_rung_stands_beside_what_the_ladder_computes():
    wanted = case("sdxl-rung-checkpointing-int8-away100")
    lora = Lora(train_text_encoder=False)
    rung = next(r for r in memory.plans("sdxl", 1024, lora) if (r.precision, r.offload) == ("int8", 1))
    told = training.beside_computed(wanted, 0.5, 9.0, {"card_bytes": rung.bytes // 2, "peak_bytes": 1, "peak_process_bytes": 2})
    assert told["computed_bytes"] == rung.bytes and told["ratio"] == pytest.approx(2) and told["ours"] == 2
    assert "| sdxl-rung-checkpointing-int8-away100 | 2.00 | – |" in command.table([told])


@pytest.mark.slow
def test_a_start_is_measured_from_nothing_to_the_first_step():
    told = training.startup(replace(case("start-up"), rounds=1))
    assert told["ratio"] == pytest.approx(told["ours"] / told["reference"])
    assert told["first_step_seconds"] == pytest.approx(1 / told["ours"]) and told["peak_process_bytes"] > 2e8


@pytest.mark.slow
def test_growth_is_told_as_json_and_choosing_a_batch_stays_as_quick(capsys, tmp_path):
    assert main(["bench", "--case", "growth", "--json", "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"case", "machine", "ours", "reference", "ratio", "share_of_limit", "peak_bytes"} <= told.keys()
    each = told["microseconds_by_pictures"]
    assert each["10000"] < 10 * each["10"]
    assert (tmp_path / "growth.json").exists() and "| growth |" in (tmp_path / "table.md").read_text()


def test_a_case_that_does_not_exist_is_one_sentence(capsys):
    assert main(["bench", "--case", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("name", [c.name for c in CASES if c.device == "cuda"][:1])
def test_a_gpu_case_without_a_gpu_is_one_sentence(capsys, name):
    assert main(["bench", "--case", name]) == 2
    assert "CUDA" in capsys.readouterr().err


def test_what_runs_unasked_needs_no_gpu_and_no_large_model():
    assert HERE and all(case(name).device == "cpu" and case(name).base in ("mini", "tiny") for name in HERE)
    assert all(case(name).steps < 1000 and case(name).pictures < 1000 for name in HERE)  # the long ones are asked for by name


def test_memory_over_a_training_and_the_cost_of_a_step_are_told():
    told = other.steady(replace(case("steady"), steps=20))
    assert len(told["resident_megabytes_by_tenth"]) == 10 and told["ratio"] == pytest.approx(1, abs=0.1)


def test_the_machine_is_told_without_its_name():
    import socket

    assert socket.gethostname() not in json.dumps(command.machine(case("growth")))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", [c.name for c in CASES if c.device == "cuda" and c.base == "sd1" and c.kind == "train"])
def test_the_gpu_cases_measure(capsys, name):
    assert main(["bench", "--case", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["losses_equal"]
