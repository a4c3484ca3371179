"""Schedules as numbers."""

from __future__ import annotations

import pytest

from trainer.config.strategies.schedules import Constant, Cosine, CosineWithRestarts, Linear, Polynomial, Rex


def test_warm_up_rises_evenly_and_reaches_full():
    rates = [Constant(warmup=0.1).factor(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)]) and rates[10:] == [1.0] * 90


def test_linear_and_cosine_end_near_nothing_and_start_full():
    for schedule in (Linear(warmup=0), Cosine(warmup=0)):
        assert schedule.factor(0, 100) == 1.0 and 0 < schedule.factor(99, 100) < 0.02
    assert Linear(warmup=0).factor(50, 100) == pytest.approx(0.5)
    assert Cosine(warmup=0).factor(25, 100) == pytest.approx(0.853553, abs=1e-6)


def test_restarts_begin_full_again_and_fall_as_often_as_asked():
    rates = [CosineWithRestarts(warmup=0, cycles=3).factor(step, 300) for step in range(300)]
    assert [i for i in range(300) if rates[i] == 1.0] == [0, 100, 200]
    assert rates[50] == pytest.approx(0.5) and rates[99] < 0.001 and rates[250] == pytest.approx(0.5)


def test_polynomial_and_rex_are_their_formulas():
    assert Polynomial(warmup=0, power=2).factor(50, 100) == pytest.approx(0.25)
    assert Polynomial(warmup=0, power=1).factor(30, 100) == pytest.approx(Linear(warmup=0).factor(30, 100))
    assert Rex(warmup=0).factor(0, 100) == 1.0
    assert Rex(warmup=0).factor(50, 100) == pytest.approx(0.5 / 0.75)
    assert Rex(warmup=0).factor(99, 100) == pytest.approx(0.01 / 0.505)


@pytest.mark.parametrize(
    "rule", [Constant(), Cosine(), Linear(), CosineWithRestarts(), Polynomial(), Rex()], ids=lambda r: r.name
)
def test_every_schedule_is_a_function_of_the_step_between_nothing_and_full(rule):
    rates = [rule.factor(step, 200) for step in range(200)]
    assert rates == [rule.factor(step, 200) for step in range(200)]
    assert all(0 < rate <= 1 for rate in rates) and rates[0] == pytest.approx(1 / 11) and max(rates) == 1.0
