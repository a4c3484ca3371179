"""The forward process, targets and min-SNR weights against their formulas written out by hand."""

from __future__ import annotations

import pytest
import torch

from trainer.config.sections.learning import Noise
from trainer.core.problem import Problem
from trainer.engine.objective.noise import NoiseSchedule, draw_noise, draw_timesteps, stretched_to_zero

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
    epsilon = NoiseSchedule(positive, "epsilon").weight(t, "min_snr", gamma)
    velocity = NoiseSchedule(positive, "v_prediction").weight(t, "min_snr", gamma)
    terminal = NoiseSchedule(ALPHA, "v_prediction").weight(torch.tensor([0, 1, 2, 3]), "min_snr", gamma)
    for i in range(3):
        s = snr(i)
        assert float(epsilon[i]) == pytest.approx(min(s, gamma) / s)
        assert float(velocity[i]) == pytest.approx(min(s, gamma) / (s + 1))
        assert float(terminal[i]) == pytest.approx((min(s, gamma) + 1) / (s + 1))
    assert float(terminal[3]) == 1.0


def test_no_gamma_and_no_weighting_weigh_all_alike():
    schedule = NoiseSchedule(ALPHA, "epsilon")
    for rule, gamma in (("min_snr", None), ("none", 5.0)):
        assert torch.equal(schedule.weight(torch.tensor([0, 2]), rule, gamma), torch.ones(2))


def test_debiased_weights_by_prediction():
    t, positive = torch.tensor([0, 1, 2]), ALPHA[:3]
    epsilon = NoiseSchedule(positive, "epsilon").weight(t, "debiased")
    velocity = NoiseSchedule(positive, "v_prediction").weight(t, "debiased")
    terminal = NoiseSchedule(ALPHA, "v_prediction").weight(torch.tensor([1, 3]), "debiased")
    for i in range(3):
        assert float(epsilon[i]) == pytest.approx(snr(i) ** -0.5)
        assert float(velocity[i]) == pytest.approx(snr(i) ** 0.5 / (snr(i) + 1))
    assert terminal.tolist() == pytest.approx([1.0, 1.0])


def test_with_kohyas_reckoning_weights_are_those_of_sd_scripts():
    """apply_snr_weight and apply_debiased_estimation written out: min(s, γ)/s and 1/√min(s, 1000) for ε, min(s, γ)/(s+1) and
    1/(min(s, 1000)+1) for v, whatever the schedule ends in."""
    alpha = torch.tensor([0.9999, 0.99, 0.5, 0.1, 0.0], dtype=torch.float32)
    s = [float(a) / (1 - float(a)) for a in alpha]
    t = torch.arange(5)
    assert s[0] > 1000 and s[-1] == 0
    velocity = NoiseSchedule(alpha, "v_prediction")
    assert velocity.zero_terminal
    by_snr = velocity.weight(t, "min_snr", 5.0, "kohya").tolist()
    assert by_snr == pytest.approx([min(one, 5) / (one + 1) for one in s], rel=1e-3)
    debiased = velocity.weight(t, "debiased", None, "kohya").tolist()
    assert debiased == pytest.approx([1 / (min(one, 1000) + 1) for one in s], rel=1e-4)
    epsilon = NoiseSchedule(alpha[:4], "epsilon")
    by_snr = epsilon.weight(t[:4], "min_snr", 5.0, "kohya").tolist()
    assert by_snr == pytest.approx([min(one, 5) / one for one in s[:4]], rel=1e-3)
    debiased = epsilon.weight(t[:4], "debiased", None, "kohya").tolist()
    assert debiased == pytest.approx([min(one, 1000) ** -0.5 for one in s[:4]], rel=1e-4)
    assert torch.equal(velocity.weight(t, "none", 5.0, "kohya"), torch.ones(5))


def test_the_border_of_huber_follows_the_noise_as_the_formulas_say():
    schedule, t, c = NoiseSchedule(ALPHA, "v_prediction"), torch.tensor([0, 1, 2, 3]), 0.2
    assert schedule.huber_threshold(t, "constant", c).tolist() == pytest.approx([c] * 4)
    assert schedule.huber_threshold(t, "exponential", c).tolist() == pytest.approx([c ** (n / 4) for n in range(4)])
    sigma = [((1 - float(a)) / float(a)) ** 0.5 for a in ALPHA[:3]]
    expected = [(1 - c) / (1 + s) ** 2 + c for s in sigma] + [c]  # where nothing of the picture is left, c itself
    assert schedule.huber_threshold(t, "snr", c).tolist() == pytest.approx(expected)


def test_schedule_is_read_from_the_base():
    from diffusers import DDIMScheduler, PNDMScheduler  # pyright: ignore[reportPrivateImportUsage]

    common = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    plain = NoiseSchedule.of(PNDMScheduler(**common, skip_prk_steps=True), torch.device("cpu"))
    zero = NoiseSchedule.of(
        DDIMScheduler(**common, prediction_type="v_prediction", rescale_betas_zero_snr=True), torch.device("cpu")
    )
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert torch.allclose(plain.alpha_bar, torch.cumprod(1 - betas, 0), atol=1e-6)
    assert not plain.zero_terminal and plain.prediction == "epsilon"
    assert zero.zero_terminal and zero.prediction == "v_prediction"


def test_noise_offset_shifts_whole_channels():
    plain = draw_noise(torch.Size((2, 4, 32, 32)), torch.Generator().manual_seed(0), 0.0)
    shifted = draw_noise(torch.Size((2, 4, 32, 32)), torch.Generator().manual_seed(0), 0.5)
    difference = shifted - plain
    assert float(difference.std((2, 3)).max()) < 1e-6 and float(difference.std()) > 0.2


def test_pyramid_noise_has_more_of_the_coarse_and_the_same_size():
    shape = torch.Size((8, 4, 32, 32))
    plain, coarse = (draw_noise(shape, torch.Generator().manual_seed(0), 0.0, levels, 0.8) for levels in (0, 8))
    assert float(coarse.std()) == pytest.approx(1, abs=1e-3)
    block = torch.nn.AvgPool2d(8)
    assert float(block(coarse).std()) > 2 * float(block(plain).std())


def test_with_kohyas_reckoning_the_first_coarser_noise_is_as_fine_as_the_picture():
    """sd-scripts' pyramid_noise_like written out with the same draws: size // rⁱ and discountⁱ from i = 0."""
    shape, discount = torch.Size((2, 4, 24, 16)), 0.7
    made = draw_noise(shape, torch.Generator().manual_seed(3), 0.0, 3, discount, "kohya")
    chance = torch.Generator().manual_seed(3)
    expected = torch.randn(shape, generator=chance)
    for i in range(3):
        r = float(torch.rand((), generator=chance)) * 2 + 2
        high, wide = max(1, int(24 / r**i)), max(1, int(16 / r**i))
        grown = torch.nn.Upsample(size=(24, 16), mode="bilinear")(torch.randn((2, 4, high, wide), generator=chance))
        expected += grown * discount**i
    assert torch.allclose(made, expected / expected.std(), atol=1e-5)


def test_the_coarse_has_a_smaller_share_with_kohyas_reckoning():
    """The share of the variance that is in the means of 4x4 latents at discount 0.8: about 0.40, with kohya's about 0.29."""

    def share(compat: str) -> float:
        chance = torch.Generator().manual_seed(0)
        many = torch.cat([draw_noise(torch.Size((1, 4, 64, 64)), chance, 0.0, 6, 0.8, compat) for _ in range(200)])
        return float(torch.nn.functional.avg_pool2d(many, 4).var() / many.var())

    assert share("own") == pytest.approx(0.40, abs=0.03) and share("kohya") == pytest.approx(0.29, abs=0.03)


def test_timesteps_keep_to_their_range_and_lean_where_asked():
    def drawn(**words):
        return draw_timesteps(4000, 1000, torch.Generator().manual_seed(0), Noise(**words)).float()

    uniform = drawn()
    assert uniform.min() < 5 and uniform.max() > 994 and abs(float(uniform.mean()) - 500) < 15
    middle = drawn(timestep_sampling="logit_normal")
    assert abs(float(middle.median()) - 500) < 20 and float(middle.std()) < 0.8 * float(uniform.std())
    assert float(drawn(timestep_sampling="logit_normal", logit_mean=1.0).mean()) > 650
    for rule in ("uniform", "logit_normal"):
        part = drawn(timestep_sampling=rule, min_timestep=200, max_timestep=300)
        assert part.min() >= 200 and part.max() < 300
    assert set(draw_timesteps(50, 10, torch.Generator().manual_seed(0), Noise(min_timestep=950)).tolist()) == {9}


def test_a_v_base_can_be_stretched_to_zero_and_an_epsilon_base_says_why_not():
    from diffusers import DDIMScheduler  # pyright: ignore[reportPrivateImportUsage]

    scheduler = DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    plain, zero = (NoiseSchedule.of(s, torch.device("cpu")) for s in (scheduler, stretched_to_zero(scheduler)))
    assert not plain.zero_terminal and zero.zero_terminal and zero.prediction == "v_prediction"
    assert float(zero.alpha_bar[0]) == pytest.approx(float(plain.alpha_bar[0]))
    with pytest.raises(Problem) as problem:
        stretched_to_zero(DDIMScheduler())
    assert problem.value.code == "zero_terminal_epsilon" and problem.value.field == "noise.zero_terminal_snr"
