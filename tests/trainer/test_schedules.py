"""Schedules as numbers."""

from __future__ import annotations

import pytest

from trainer.strategies.schedules import Constant, Cosine, Linear


def test_warm_up_rises_evenly_and_reaches_full():
    rates = [Constant(warmup=0.1).factor(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)]) and rates[10:] == [1.0] * 90


def test_linear_and_cosine_end_near_nothing_and_start_full():
    for schedule in (Linear(warmup=0), Cosine(warmup=0)):
        assert schedule.factor(0, 100) == 1.0 and 0 < schedule.factor(99, 100) < 0.02
    assert Linear(warmup=0).factor(50, 100) == pytest.approx(0.5)
    assert Cosine(warmup=0).factor(25, 100) == pytest.approx(0.853553, abs=1e-6)
