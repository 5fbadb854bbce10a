"""Distances between volumes, against their formulas written out."""

import numpy as np
import pytest

from rela_bids.model.metrics import bootstrap_interval, mae, psnr, ssim

SHAPE = (14, 13, 12)


@pytest.fixture
def scans() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    one = rng.random(SHAPE, dtype=np.float32)
    two = one + rng.normal(0, 0.2, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    return one, two, mask


def test_psnr_and_mae_see_the_mask_alone(scans):
    one, two, mask = scans
    elsewhere = np.where(mask, two, 99)
    assert psnr(one, elsewhere, mask, 3.0) == psnr(one, two, mask, 3.0)
    assert mae(one, elsewhere, mask) == mae(one, two, mask)
    assert psnr(one, one + 0.3, mask, 3.0) == pytest.approx(20, abs=1e-4)
    assert mae(one, one + 0.3, mask) == pytest.approx(0.3, abs=1e-6)


def test_ssim_is_the_weighted_formula_at_every_voxel_of_the_mask(scans):
    one, two, mask = scans
    data_range = 3.0
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = line[:, None, None] * line[:, None] * line
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # The neighbourhoods that reach over the edge are mirrored, where both volumes are 0.
    x, y = (np.pad(np.where(mask, v, 0).astype(np.float64), 5, "symmetric") for v in (one, two))
    values = []
    for i, j, k in np.argwhere(mask):
        near = np.s_[i : i + 11, j : j + 11, k : k + 11]
        a, b = (window * x[near]).sum(), (window * y[near]).sum()
        var_a, var_b = ((window * (v[near] - m) ** 2).sum() for v, m in ((x, a), (y, b)))
        covariance = (window * (x[near] - a) * (y[near] - b)).sum()
        values.append(
            (2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2))
        )
    assert ssim(one, two, mask, data_range) == pytest.approx(np.mean(values), abs=1e-9)


def test_ssim_does_not_see_what_lies_outside_the_mask(scans):
    one, two, mask = scans
    assert ssim(one, np.where(mask, two, 99), mask, 3.0) == ssim(one, two, mask, 3.0)


def test_an_interval_narrows_with_the_number_of_people():
    values = np.random.default_rng(1).normal(20, 2, 400)
    low, high = bootstrap_interval(values)
    assert low < np.mean(values) < high
    assert high - low == pytest.approx(2 * 1.96 * np.std(values) / 20, rel=0.1)
    few_low, few_high = bootstrap_interval(values[:10])
    assert few_high - few_low > 3 * (high - low)
