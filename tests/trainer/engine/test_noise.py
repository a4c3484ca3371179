"""The forward process, targets and min-SNR weights against their formulas written out by hand."""

from __future__ import annotations

import pytest
import torch

from trainer.engine.noise import NoiseSchedule, draw_noise

ALPHA = torch.tensor([0.99, 0.5, 0.1, 0.0])


def snr(t: int) -> float:
    return float(ALPHA[t] / (1 - ALPHA[t]))


def test_noisy_and_targets():
    x0, noise = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    t = torch.tensor([1, 3])
    schedule = NoiseSchedule(ALPHA, "v_prediction")
    assert torch.allclose(schedule.noisy(x0, noise, t)[0], (0.5**0.5) * x0[0] + (0.5**0.5) * noise[0])
    assert torch.allclose(schedule.noisy(x0, noise, t)[1], noise[1])
    assert torch.allclose(schedule.target(x0, noise, t)[0], (0.5**0.5) * noise[0] - (0.5**0.5) * x0[0])
    assert torch.equal(NoiseSchedule(ALPHA, "epsilon").target(x0, noise, t), noise)


def test_min_snr_weights_by_prediction():
    t, gamma = torch.tensor([0, 1, 2]), 5.0
    positive = ALPHA[:3]
    epsilon = NoiseSchedule(positive, "epsilon").weight(t, gamma)
    velocity = NoiseSchedule(positive, "v_prediction").weight(t, gamma)
    terminal = NoiseSchedule(ALPHA, "v_prediction").weight(torch.tensor([0, 1, 2, 3]), gamma)
    for i in range(3):
        s = snr(i)
        assert float(epsilon[i]) == pytest.approx(min(s, gamma) / s)
        assert float(velocity[i]) == pytest.approx(min(s, gamma) / (s + 1))
        assert float(terminal[i]) == pytest.approx((min(s, gamma) + 1) / (s + 1))
    assert float(terminal[3]) == 1.0


def test_no_gamma_weighs_all_alike():
    assert torch.equal(NoiseSchedule(ALPHA, "epsilon").weight(torch.tensor([0, 2]), None), torch.ones(2))


def test_schedule_is_read_from_the_base():
    from diffusers import DDIMScheduler, PNDMScheduler

    common = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    plain = NoiseSchedule.of(PNDMScheduler(**common, skip_prk_steps=True), torch.device("cpu"))
    zero = NoiseSchedule.of(
        DDIMScheduler(**common, prediction_type="v_prediction", rescale_betas_zero_snr=True), torch.device("cpu"))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert torch.allclose(plain.alpha_bar, torch.cumprod(1 - betas, 0), atol=1e-6)
    assert not plain.zero_terminal and plain.prediction == "epsilon"
    assert zero.zero_terminal and zero.prediction == "v_prediction"


def test_noise_offset_shifts_whole_channels():
    plain = draw_noise(torch.Size((2, 4, 32, 32)), torch.Generator().manual_seed(0), 0.0)
    shifted = draw_noise(torch.Size((2, 4, 32, 32)), torch.Generator().manual_seed(0), 0.5)
    difference = shifted - plain
    assert float(difference.std((2, 3)).max()) < 1e-6 and float(difference.std()) > 0.2
