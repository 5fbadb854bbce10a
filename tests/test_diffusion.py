"""The forward process and its reverse step, against the published numbers and MONAI's scheduler."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from rela_bids.exceptions import UsageError
from rela_bids.model.diffusion import Schedule, draw_noise
from rela_bids.model.presets import PRESETS

PAPER = PRESETS["paper"].diffusion
# `fast`, trained on more timesteps than the one of the preset.
FAST = replace(PRESETS["fast"].diffusion, trained_timesteps=(999, 749, 499, 249))


@pytest.fixture
def expected(reference_numbers):
    with np.load(reference_numbers / "forward.npz") as numbers:
        return {key: torch.from_numpy(numbers[key]) for key in numbers if numbers[key].ndim}


def volume(seed: int, shape: tuple[int, ...] = (1, 1, 16, 16, 16)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_papers_schedule_is_the_published_one(expected):
    schedule = Schedule(PAPER)
    torch.testing.assert_close(
        schedule.alphas_cumprod, expected["alphas_cumprod"], atol=1e-4, rtol=0
    )
    noisy = schedule.add_noise(expected["pet"], expected["noise"], expected["timesteps"])
    torch.testing.assert_close(noisy, expected["noisy"], atol=1e-4, rtol=0)


def test_the_papers_clean_prediction_is_the_published_one(expected):
    clean = Schedule(PAPER).clean_prediction(
        expected["eps_pred"], expected["noisy"], expected["timesteps"]
    )
    torch.testing.assert_close(clean, expected["x0_pred"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("t", [999, 500, 1])
def test_a_step_of_one_is_that_of_monais_scheduler(t):
    schedule = Schedule(PAPER)
    monai = DDPMScheduler(1000, "scaled_linear_beta", beta_start=0.0005, beta_end=0.0195)
    x_t, output = volume(0), volume(1)
    noise = volume(2)
    expected, expected_clean = monai.step(output, t, x_t, torch.Generator().manual_seed(2))
    clean = schedule.clean_prediction(output, x_t, t)
    torch.testing.assert_close(clean, expected_clean)
    step = schedule.ancestral_step(clean, x_t, t, t - 1, noise)
    torch.testing.assert_close(step, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [PAPER, FAST])
@pytest.mark.parametrize(("t", "s"), [(999, 749), (749, 249), (500, 499)])
def test_a_step_of_any_stride_lands_on_the_forward_process(config, t, s):
    schedule = Schedule(config)
    x0 = torch.full((1, 1, 64, 64, 64), 0.5)
    x_t = schedule.add_noise(x0, volume(0, x0.shape), t)
    x_s = schedule.ancestral_step(x0, x_t, t, s, volume(1, x0.shape))
    a = schedule.alphas_cumprod[s].item()
    assert x_s.mean().item() == pytest.approx(a**0.5 * 0.5, abs=0.01)
    assert x_s.var().item() == pytest.approx(1 - a, rel=0.02)


def test_the_fast_schedule_ends_in_pure_noise():
    schedule = Schedule(FAST)
    noise = volume(0)
    assert schedule.alphas_cumprod[-1] == 0
    assert torch.equal(schedule.add_noise(torch.ones_like(noise), noise, 999), noise)
    assert (schedule.alphas_cumprod.diff() < 0).all()


@pytest.mark.parametrize("config", [PAPER, FAST])
def test_the_target_leads_back_to_the_clean_image(config):
    schedule = Schedule(config)
    x0, noise, t = volume(0).clamp(-1, 1), volume(1), torch.tensor([249])
    x_t = schedule.add_noise(x0, noise, t)
    clean = schedule.clean_prediction(schedule.target(x0, noise), x_t, t)
    torch.testing.assert_close(clean, x0, atol=1e-5, rtol=0)


def test_the_fast_preset_trains_on_the_timesteps_that_it_samples():
    schedule = Schedule(FAST)
    drawn = schedule.draw_timesteps(500, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == set(FAST.trained_timesteps)
    for steps in range(1, len(FAST.trained_timesteps) + 1):
        chosen = schedule.sampling_timesteps(steps)
        assert len(chosen) == steps
        assert chosen[0] == 999
        assert set(chosen) <= set(FAST.trained_timesteps)
        assert list(chosen) == sorted(chosen, reverse=True)


def test_the_paper_trains_on_and_samples_all_timesteps():
    schedule = Schedule(PAPER)
    drawn = schedule.draw_timesteps(4000, torch.Generator().manual_seed(0))
    assert drawn.min() < 5
    assert drawn.max() > 994
    assert schedule.sampling_timesteps(1000) == tuple(range(999, -1, -1))
    assert schedule.sampling_timesteps(3) == (999, 500, 0)


@pytest.mark.parametrize(("config", "steps"), [(FAST, 5), (FAST, 0), (PAPER, 1001)])
def test_more_steps_than_the_model_was_trained_on_are_refused(config, steps):
    with pytest.raises(UsageError, match="--sampling-steps"):
        Schedule(config).sampling_timesteps(steps)


@pytest.mark.parametrize("octaves", [1, 5])
@pytest.mark.parametrize("shape", [(64, 64, 64), (50, 63, 41)])
def test_noise_has_unit_variance(octaves, shape):
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([draw_noise((2, 1, *shape), octaves, generator) for _ in range(4)])
    assert draws.shape == (8, 1, *shape)
    assert draws.mean().item() == pytest.approx(0, abs=0.1)
    assert draws.var().item() == pytest.approx(1, rel=0.1)


def test_octaves_put_noise_into_what_is_smooth():
    def smooth_part(octaves: int) -> float:
        noise = draw_noise((1, 1, 64, 64, 64), octaves, torch.Generator().manual_seed(0))
        return torch.nn.functional.avg_pool3d(noise, 16).std().item()

    assert smooth_part(1) < 0.03
    assert smooth_part(5) > 0.2


def test_noise_depends_on_its_generator_alone():
    schedule = Schedule(replace(FAST, noise_octaves=3))
    first, second, other = (
        schedule.draw_noise((1, 1, 20, 24, 20), torch.Generator().manual_seed(seed))
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)
