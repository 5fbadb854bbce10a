"""Each definition against another library's, or its formula written out, on random data."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from rela_bids import quantification as quantify
from rela_bids.templates import atlas_names
from rela_bids.tracers import TRACERS

SHAPE = (34, 30, 27)
RANGE = 3.0


@pytest.fixture(scope="module")
def scans() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images and a ball for a brain, which does not touch the image's edge."""
    rng = np.random.default_rng(0)
    one = rng.random(SHAPE, dtype=np.float32)
    two = one + rng.normal(0, 0.2, SHAPE).astype(np.float32)
    middle = (np.array(SHAPE) - 1) / 2
    away = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - middle, axis=-1)
    return one, two, away < 7


def without_air(scans) -> list[np.ndarray]:
    one, two, mask = scans
    return [np.where(mask, scan, 0).astype(np.float64) for scan in (one, two)]


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured SUVR of 40 people in 5 regions."""
    rng = np.random.default_rng(2)
    measured = rng.normal(1.3, 0.3, (40, 5))
    return 0.1 + 0.8 * measured + rng.normal(0, 0.15, (40, 5)), measured


def test_region_means_and_volumes_are_those_of_each_label():
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 2, 17, 2035], SHAPE).astype(np.int16)
    suvr = rng.random(SHAPE, dtype=np.float32)
    indices = [17, 2035, 3000]
    means = quantify.region_means(suvr, labels, indices)
    volumes = quantify.region_volumes(labels, indices, 0.008)
    for mean, volume, index in zip(means[:2], volumes[:2], indices, strict=False):
        assert mean == pytest.approx(suvr[labels == index].mean(), rel=1e-5)
        assert volume == pytest.approx(0.008 * (labels == index).sum())
    assert np.isnan(means[2])
    assert volumes[2] == 0


def test_the_composite_is_the_mean_over_all_of_its_voxels():
    rng = np.random.default_rng(4)
    names = atlas_names()
    labels = rng.choice(list(names), SHAPE).astype(np.int16)
    suvr = rng.random(SHAPE, dtype=np.float32)
    weights = quantify.composite_weights(
        list(names.values()), quantify.region_volumes(labels, list(names), 1.0)
    )
    means = np.nan_to_num(quantify.region_means(suvr, labels, list(names)))
    members = [index for index, name in names.items() if name in quantify.COMPOSITE_REGIONS]
    assert len(members) == 38
    assert weights @ means == pytest.approx(suvr[np.isin(labels, members)].mean(), rel=1e-5)


def test_a_composite_of_regions_that_are_not_there_is_refused():
    with pytest.raises(KeyError, match="ctx-lh-caudal"):
        quantify.composite_weights(["Left-Putamen"], [1.0])


@pytest.mark.parametrize(
    ("label", "suvr", "value"),
    [("11CPIB", 1.009, -0.06), ("11CPIB", 2.076, 99.9), ("18FAV1451", 1.163, 0.0)],
)
def test_scales_have_their_anchors_where_they_were_published(label, suvr, value):
    assert quantify.on_scale(suvr, TRACERS[label].conversion) == pytest.approx(value, abs=0.1)


def test_psnr_is_that_of_scikit_image_and_torchmetrics(scans):
    import torch
    from skimage.metrics import peak_signal_noise_ratio
    from torchmetrics.functional.image import peak_signal_noise_ratio as of_torchmetrics

    one, two, mask = scans
    found = quantify.agreement(one, two, mask, RANGE)
    wanted = peak_signal_noise_ratio(one[mask], two[mask], data_range=RANGE)
    assert quantify.psnr(one, two, mask, RANGE) == pytest.approx(wanted, rel=1e-6)
    assert found.psnr_brain == pytest.approx(wanted, rel=1e-6)
    volumes = (torch.from_numpy(volume) for volume in without_air(scans))
    whole = of_torchmetrics(*volumes, data_range=RANGE)
    assert found.psnr_volume == pytest.approx(float(whole), rel=1e-6)


def test_mae_is_that_of_torchmetrics(scans):
    import torch
    from torchmetrics.functional import mean_absolute_error

    one, two, mask = scans
    found = quantify.agreement(one, two, mask, RANGE)
    wanted = mean_absolute_error(torch.from_numpy(one[mask]), torch.from_numpy(two[mask]))
    assert found.mae_brain == pytest.approx(float(wanted), rel=1e-5)
    assert quantify.mae(one, two, mask) == found.mae_brain
    whole = mean_absolute_error(*(torch.from_numpy(volume) for volume in without_air(scans)))
    assert found.mae_volume == pytest.approx(float(whole), rel=1e-5)


def test_ssim_is_that_of_torchmetrics_in_three_dimensions(scans):
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    one, two, mask = scans
    volumes = [torch.from_numpy(volume)[None, None] for volume in without_air(scans)]
    _, full = structural_similarity_index_measure(
        *volumes, data_range=RANGE, sigma=1.5, gaussian_kernel=True, return_full_image=True
    )
    similarity = full[0, 0].numpy()
    found = quantify.agreement(one, two, mask, RANGE)
    assert found.ssim_brain == pytest.approx(similarity[mask].mean(), abs=1e-6)
    assert found.ssim_volume == pytest.approx(similarity.mean(), abs=1e-6)


def test_ssim_is_that_of_scikit_image_on_the_whole_volume(scans):
    from skimage.metrics import structural_similarity

    one, two, mask = scans
    whole = structural_similarity(
        *without_air(scans),
        data_range=RANGE,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )[1]
    found = quantify.agreement(one, two, mask, RANGE)
    assert quantify.ssim(one, two, mask, RANGE) == pytest.approx(whole[mask].mean(), abs=1e-9)
    assert found.ssim_volume == pytest.approx(whole.mean(), abs=1e-9)


def test_ssim_is_the_weighted_formula_at_every_voxel_of_the_mask(scans):
    one, two, mask = scans
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = line[:, None, None] * line[:, None] * line
    window /= window.sum()
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    x, y = (np.pad(scan, 5) for scan in without_air(scans))
    values = []
    for i, j, k in np.argwhere(mask):
        near = np.s_[i : i + 11, j : j + 11, k : k + 11]
        a, b = (window * x[near]).sum(), (window * y[near]).sum()
        var_a, var_b = ((window * (v[near] - m) ** 2).sum() for v, m in ((x, a), (y, b)))
        covariance = (window * (x[near] - a) * (y[near] - b)).sum()
        values.append(
            (2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2))
        )
    assert quantify.ssim(one, two, mask, RANGE) == pytest.approx(np.mean(values), abs=1e-9)


def test_nothing_sees_what_lies_outside_the_mask(scans):
    one, two, mask = scans
    elsewhere = np.where(mask, two, 99)
    wanted = quantify.agreement(one, two, mask, RANGE)
    assert quantify.agreement(one, elsewhere, mask, RANGE) == wanted


def test_pearson_is_that_of_scipy_for_each_region(pairs):
    predicted, measured = pairs
    wanted = [stats.pearsonr(a, b).statistic for a, b in zip(predicted.T, measured.T, strict=True)]
    np.testing.assert_allclose(quantify.pearson(predicted, measured), wanted, rtol=1e-10)
    assert np.isnan(quantify.pearson([1, 2], [1, 2]))
    assert np.isnan(quantify.pearson([1, 1, 1], [1, 2, 3]))


def test_icc_is_that_of_an_analysis_of_variance(pairs):
    """Mean squares out of statsmodels' table, put into Shrout and Fleiss' formula."""
    import pandas as pd
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    predicted, measured = pairs
    n = len(predicted)
    found = quantify.icc21(predicted, measured)
    for region in range(predicted.shape[1]):
        table = pd.DataFrame(
            {
                "suvr": np.concatenate([predicted[:, region], measured[:, region]]),
                "person": np.tile(np.arange(n), 2),
                "method": np.repeat(["a", "b"], n),
            }
        )
        squares = anova_lm(smf.ols("suvr ~ C(person) + C(method)", table).fit())["mean_sq"]
        rows, judges, error = squares
        wanted = (rows - error) / (rows + error + 2 / n * (judges - error))
        assert found[region] == pytest.approx(wanted, rel=1e-8)


def test_bland_altman_is_mean_and_spread_of_differences(pairs):
    predicted, measured = pairs
    bias, low, high = quantify.bland_altman(predicted, measured)
    difference = predicted - measured
    np.testing.assert_allclose(bias, stats.describe(difference).mean, rtol=1e-10)
    spread = 1.96 * np.sqrt(stats.describe(difference).variance)
    np.testing.assert_allclose(high - bias, spread, rtol=1e-10)
    np.testing.assert_allclose(bias - low, spread, rtol=1e-10)


def test_auc_and_balanced_accuracy_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    positive = rng.random(60) < 0.4
    # Rounded, so that there are ties.
    score = np.round(positive + rng.normal(0, 1, 60), 1)
    wanted = sklearn_metrics.roc_auc_score(positive, score)
    assert quantify.auc(positive, score) == pytest.approx(wanted, abs=1e-12)
    called = score > 0.5
    wanted = sklearn_metrics.balanced_accuracy_score(positive, called)
    assert quantify.balanced_accuracy(positive, called) == pytest.approx(wanted, abs=1e-12)
    assert np.isnan(quantify.auc(np.ones(3, bool), [1, 2, 3]))


def test_the_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(1).normal(20, 2, 50)
    low, high = quantify.bootstrap_over_people(np.mean, values, resamples=4000)
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.05)


def test_the_bootstrap_takes_pairs_together_and_every_region_at_once(pairs):
    low, high = quantify.bootstrap_over_people(quantify.pearson, *pairs, resamples=500)
    assert low.shape == high.shape == (5,)
    found = quantify.pearson(*pairs)
    assert ((low < found) & (found < high)).all()
    again = quantify.bootstrap_over_people(
        quantify.pearson, *(rows[:, 2] for rows in pairs), resamples=500
    )
    assert again == pytest.approx((low[2], high[2]), abs=1e-12)


def test_the_bootstrap_draws_people_and_not_sessions():
    """Ten sessions of one person say no more than one: the interval does not narrow."""
    values = np.random.default_rng(1).normal(20, 2, 30)
    people = np.arange(30)
    once = quantify.bootstrap_over_people(np.mean, values, people=people)
    repeated = quantify.bootstrap_over_people(
        np.mean, np.repeat(values, 10), people=np.repeat(people, 10)
    )
    assert repeated == pytest.approx(once, abs=1e-9)


def test_resamples_without_a_value_are_left_out():
    rng = np.random.default_rng(0)
    low, high = quantify.bootstrap_over_people(
        quantify.auc, rng.random(6) < 0.3, rng.random(6), resamples=200
    )
    assert 0 <= low <= high <= 1
