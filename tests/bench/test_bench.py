"""The measuring itself: both loops do the same work, figures are told as promised, what cannot be measured is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bench import __main__ as command
from bench import other
from bench.cases import CASES, HERE, case
from trainer.__main__ import main
from trainer.engine import device


@pytest.mark.slow
def test_both_loops_give_the_same_losses_and_the_work_is_counted():
    device.quiet()
    from bench.ours import Ours
    from bench.reference import Reference

    ours, reference = Ours(case("mini-cpu-b1")), Reference(case("mini-cpu-b1"))
    for _ in range(2):
        assert ours.step() == pytest.approx(reference.step(), rel=1e-3)
    assert ours.losses() == pytest.approx(reference.losses(), rel=1e-3)
    forward_and_back = reference.flops()
    assert forward_and_back > 2 * sum(p.numel() for p in reference.parts.unet.parameters())


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
@pytest.mark.parametrize("name", [c.name for c in CASES if c.device == "cuda" and c.base == "sd1"])
def test_the_gpu_cases_measure(capsys, name):
    assert main(["bench", "--case", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["losses_equal"]
