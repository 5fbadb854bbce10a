"""Synthesis on arrays, with a small untrained network: scale, mask, seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rela_bids.exceptions import UsageError
from rela_bids.model.checkpoint import load_model, save_model
from rela_bids.model.inference import Sampling, mean_and_std, mri_channels, to_suvr
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS, override
from rela_bids.settings import SynthesisSettings
from rela_bids.synthesis import plan_synthesis, resolve_device, sample_pet
from rela_bids.templates import reference_region_on
from rela_bids.tracers import TRACERS
from rela_bids.volumes import TEMPLATE_BRAIN_CENTRE, Grid

GRID = Grid.about(TEMPLATE_BRAIN_CENTRE, (16, 24, 16), 10.0)
TWO = {label: TRACERS[label] for label in ("18FAV45", "18FAV1451")}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    config = override(
        replace(PRESETS["fast"], grid=GRID),
        {"diffusion": {"trained_timesteps": [999, 749, 499, 249]}, "sampling_steps": 2},
    )
    config = replace(config, network=replace(config.network, channels=(8, 8)))
    torch.manual_seed(0)
    network = build_denoiser(config.network, len(TWO))
    with torch.no_grad():  # Untrained, it does not look at the noise.
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, network, config, TWO, {"simulated": True, "trained_on": "nothing"})
    return path


@pytest.fixture(scope="module")
def brain():
    rng = np.random.default_rng(0)
    mask = np.zeros(GRID.shape, bool)
    mask[4:12, 4:20, 4:12] = True
    t1w, flair = (rng.gamma(4, 50, GRID.shape).astype(np.float32) for _ in range(2))
    return t1w, flair, mask


SAMPLING = Sampling(n_samples=3, steps=2, seed=1, names=("01", "1"))


def run(model_file, brain, sampling=SAMPLING, tracers=("18FAV45", "18FAV1451"), flair=True):
    t1w, flair_data, mask = brain
    return list(
        sample_pet(
            load_model(model_file), t1w, flair_data if flair else None, mask, tracers, sampling
        )
    )


def test_pet_is_finite_in_range_and_zero_outside_the_brain(model_file, brain):
    for pet in run(model_file, brain):
        assert pet.mean.shape == GRID.shape
        assert np.isfinite(pet.mean).all()
        assert np.isfinite(pet.std).all()
        assert (pet.mean[~brain[2]] == 0).all()
        assert (pet.std[~brain[2]] == 0).all()
        assert 0 <= pet.mean.min() < pet.mean.max() <= pet.tracer.suvr_scale


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads(model_file, brain):
    one = run(model_file, brain)
    two = run(model_file, brain, replace(SAMPLING, threads=2))
    for a, b in zip(one, two, strict=True):
        assert a.mean.tobytes() == b.mean.tobytes()
        assert a.std.tobytes() == b.std.tobytes()


def test_a_tracer_does_not_depend_on_the_others(model_file, brain):
    alone = run(model_file, brain, tracers=("18FAV1451",))[0]
    assert alone.mean.tobytes() == run(model_file, brain)[1].mean.tobytes()


@pytest.mark.parametrize("change", [{"seed": 2}, {"names": ("01", "2")}, {"names": ("02", "1")}])
def test_another_seed_subject_or_session_has_other_noise(model_file, brain, change):
    other = run(model_file, brain, replace(SAMPLING, **change))[0]
    assert not np.array_equal(other.mean, run(model_file, brain)[0].mean)


def test_flair_makes_a_difference_and_its_absence_is_no_error(model_file, brain):
    without = run(model_file, brain, flair=False)[0]
    assert not np.array_equal(without.mean, run(model_file, brain)[0].mean)


def test_passes_are_counted_up_to_their_number(model_file, brain):
    seen = []
    t1w, flair, mask = brain
    for _ in sample_pet(
        load_model(model_file), t1w, flair, mask, list(TWO), SAMPLING, lambda *p: seen.append(p)
    ):
        pass
    assert seen == [(n + 1, 12) for n in range(12)]


def test_every_sample_is_handed_out_as_it_is_made(model_file, brain):
    seen = {label: [] for label in TWO}
    model, passed = load_model(model_file), lambda done, total: None
    pets = sample_pet(
        model, *brain, list(TWO), SAMPLING, passed, lambda label, suvr: seen[label].append(suvr)
    )
    for pet in pets:
        samples = seen[pet.tracer.label]
        assert len(samples) == SAMPLING.n_samples
        np.testing.assert_allclose(np.mean(samples, 0), pet.mean, atol=1e-6)


def test_mean_and_std_are_those_of_numpy():
    volumes = np.random.default_rng(0).normal(1, 2, (7, 4, 5, 6)).astype(np.float32)
    mean, std = mean_and_std(iter(volumes))
    np.testing.assert_allclose(mean, volumes.mean(0), atol=1e-6)
    np.testing.assert_allclose(std, volumes.std(0), atol=1e-6)


def test_a_modality_the_model_does_not_use_is_zero(brain):
    t1w, flair, mask = brain
    channels = mri_channels(t1w, flair, mask, ("t1w",), "suvr")
    assert channels[0].any()
    assert not channels[1].any()


def test_the_models_own_numbers_hold_unless_others_are_asked_for(model_file):
    plan = plan_synthesis(SynthesisSettings(model=str(model_file)), ())
    assert (plan.n_samples, plan.sampling_steps) == (16, 2)
    assert list(plan.tracers) == list(TWO)
    assert plan.simulated
    asked = SynthesisSettings(model=str(model_file), n_samples=1, sampling_steps=4, device="cpu")
    plan = plan_synthesis(asked, ["18FAV1451"])
    assert (plan.n_samples, plan.sampling_steps, list(plan.tracers)) == (1, 4, ["18FAV1451"])


def test_a_tracer_the_model_does_not_know_is_named(model_file):
    with pytest.raises(UsageError, match="11CPIB"):
        plan_synthesis(SynthesisSettings(model=str(model_file)), ["11CPIB"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="cuda"):
        resolve_device("cuda")


def test_per_image_scaling_is_brought_back_to_suvr_by_the_reference_region():
    grid = PRESETS["fast"].grid
    tracer = TRACERS["18FAV45"]
    region = reference_region_on(tracer.reference_region, grid)
    unit = np.where(region, np.float32(-0.5), np.float32(0.5))
    everywhere = np.ones(grid.shape, bool)
    suvr = to_suvr(unit, tracer.suvr_scale, everywhere, region)
    assert suvr[region].mean() == pytest.approx(1)
    assert suvr[~region].mean() == pytest.approx(3)
    kept = to_suvr(unit, tracer.suvr_scale, everywhere, None)
    assert kept[region].mean() == pytest.approx(0.25 * tracer.suvr_scale)


@pytest.mark.parametrize(("intensity", "relative"), [("minmax", True), ("suvr", False)])
def test_only_models_of_per_image_scaling_are_brought_to_the_reference_region(
    tmp_path, brain, intensity, relative
):
    config = replace(PRESETS["fast"], grid=GRID, intensity=intensity)
    config = replace(config, network=replace(config.network, channels=(8, 8)))
    one_step = replace(SAMPLING, steps=1)
    save_model(tmp_path / "model.safetensors", build_denoiser(config.network, 2), config, TWO, {})
    pet = run(tmp_path, brain, one_step, tracers=("18FAV45",))[0]
    region = reference_region_on(pet.tracer.reference_region, GRID) & brain[2]
    assert region.any()
    assert (float(pet.mean[region].mean()) == pytest.approx(1.0, abs=1e-4)) == relative
