"""What is measured in a PET, and how two are compared: each definition once.

SUVR is uptake divided by the mean uptake of the tracer's reference region (`rela_bids.tracers`),
in the tracer's frame window. Images are (X, Y, Z) in SUVR. Statistics over people take one row for
each person, or for each session of one, never voxels or regions pooled: axis 0 is rows, and axes
after it, regions for example, are kept.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from rela_bids.tracers import Conversion
from rela_bids.volumes import Array

Mask = NDArray[np.bool_]

GLOBAL_COMPOSITE = "global-composite"

# Frontal, cingulate, lateral parietal with precuneus, and lateral temporal cortex: the summary
# region of Landau et al. 2012, doi:10.1002/ana.23650, in the names of Desikan and Killiany. It
# stands in for the cortical target of the Centiloid method, which is drawn in template space.
_COMPOSITE_OF_A_SIDE = (
    "caudalmiddlefrontal",
    "lateralorbitofrontal",
    "medialorbitofrontal",
    "parsopercularis",
    "parsorbitalis",
    "parstriangularis",
    "rostralmiddlefrontal",
    "superiorfrontal",
    "frontalpole",
    "caudalanteriorcingulate",
    "isthmuscingulate",
    "posteriorcingulate",
    "rostralanteriorcingulate",
    "inferiorparietal",
    "precuneus",
    "superiorparietal",
    "supramarginal",
    "middletemporal",
    "superiortemporal",
)
COMPOSITE_REGIONS = tuple(
    f"ctx-{side}-{name}" for side in ("lh", "rh") for name in _COMPOSITE_OF_A_SIDE
)
COMPOSITE_MEANING = (
    "mean over all voxels of frontal, cingulate, lateral parietal, precuneus and lateral temporal "
    "cortex of both sides (the cortical summary region of Landau 2012, doi:10.1002/ana.23650, by "
    "Desikan-Killiany labels)"
)

# Structural similarity: window of 11 voxels, standard deviation of 1.5 (Wang et al. 2004).
_SSIM_SIGMA, _SSIM_REACH = 1.5, 5

LIMITS = 1.96


def region_volumes(labels: NDArray[np.integer], indices: Sequence[int], voxel_ml: float) -> Array:
    """Volume of each region, ml; `labels` (X, Y, Z), `indices` those of the regions wanted.

    >>> region_volumes(np.array([0, 4, 4, 9]), [4, 9, 7], 0.5)
    array([1. , 0.5, 0. ])
    """
    return _counts(labels, indices)[np.asarray(indices, int)] * voxel_ml


def region_means(suvr: Array, labels: NDArray[np.integer], indices: Sequence[int]) -> Array:
    """Mean SUVR over the voxels of each region; NaN for a region without voxels.

    >>> region_means(np.float32([9, 1, 2, 5]), np.array([0, 4, 4, 9]), [4, 9, 7])
    array([1.5, 5. , nan])
    """
    wanted = np.asarray(indices, int)
    counts = _counts(labels, indices)
    sums = np.bincount(labels.ravel(), np.ravel(suvr).astype(np.float64), counts.size)
    with np.errstate(invalid="ignore"):
        return sums[wanted] / counts[wanted]


def _counts(labels: NDArray[np.integer], indices: Sequence[int]) -> NDArray[np.int_]:
    return np.bincount(labels.ravel(), minlength=max(indices, default=0) + 1)


def composite_weights(
    names: Sequence[str], volumes: Sequence[float], members: Sequence[str] = COMPOSITE_REGIONS
) -> Array:
    """The share of each region in a composite's mean: its share of the composite's volume.

    Raises
    ------
    KeyError
        If `names` lack one of `members`.
    """
    missing = sorted(set(members) - set(names))
    if missing:
        raise KeyError(missing[0])
    inside = np.isin(np.asarray(names), members) * np.asarray(volumes, float)
    return inside / inside.sum()


def on_scale(suvr: float, conversion: Conversion) -> float:
    """Centiloid or CenTauRz of a composite's SUVR: ``slope * SUVR + intercept``.

    Approximate unless the pipeline is calibrated, see `rela_bids.tracers.Conversion`.
    """
    return conversion.slope * suvr + conversion.intercept


def psnr(predicted: Array, measured: Array, mask: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio in the mask, dB: 10 log10(range² / MSE).

    `data_range` is the tracer's constant ``suvr_scale``, never the image's own range, so that
    numbers of different people can be compared.

    >>> brain = np.ones(4, bool)
    >>> round(psnr(np.float32([1, 1, 1, 1]), np.float32([1, 1, 1, 3]), brain, 3.0), 2)
    9.54
    """
    error = (predicted[mask] - measured[mask]).astype(np.float64)
    return _decibel(float(np.mean(error**2)), data_range)


def _decibel(mean_square: float, data_range: float) -> float:
    return float(10 * np.log10(data_range**2 / max(mean_square, 1e-12)))


def mae(predicted: Array, measured: Array, mask: Mask) -> float:
    """Mean absolute error in the mask, SUVR."""
    return float(np.mean(np.abs((predicted[mask] - measured[mask]).astype(np.float64))))


def ssim(predicted: Array, measured: Array, mask: Mask, data_range: float) -> float:
    """Structural similarity in three dimensions, averaged over the mask.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, equation 13: Gaussian window of 11 voxels with a
    standard deviation of 1.5. Both volumes count as 0 outside the mask. `data_range` as for `psnr`.

    >>> scan, brain = np.float32(np.random.default_rng(0).random((12, 12, 12))), np.ones((12,) * 3)
    >>> ssim(scan, scan, brain > 0, 3.0), round(ssim(scan, scan + 1, brain > 0, 3.0), 2)
    (1.0, 0.6)
    """
    box, similarity = _similarity(predicted, measured, mask, data_range)
    return float(similarity[mask[box]].mean())


def _similarity(
    predicted: Array, measured: Array, mask: Mask, data_range: float
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Structural similarity of each voxel in a box about the mask; it is 1 outside the box."""
    from skimage.metrics import structural_similarity

    # Twice the reach, so that no window that holds a voxel of the mask is cut off by the box.
    margin = 2 * _SSIM_REACH
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in found)
    _, similarity = structural_similarity(
        np.where(mask[box], predicted[box], 0).astype(np.float64),
        np.where(mask[box], measured[box], 0).astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        sigma=_SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    return box, similarity


@dataclass(frozen=True)
class Agreement:
    """How near a synthetic PET is to the measured one of the same session.

    ``_brain`` are averages over the brain, ``_volume`` over the whole image with both 0 outside the
    brain, as published work on synthetic PET often has them: they are larger the more air there is.
    PSNR in dB, MAE in SUVR; `data_range` is the tracer's constant that PSNR and SSIM refer to.
    """

    psnr_brain: float
    psnr_volume: float
    ssim_brain: float
    ssim_volume: float
    mae_brain: float
    mae_volume: float
    data_range: float


def agreement(predicted: Array, measured: Array, mask: Mask, data_range: float) -> Agreement:
    """`psnr`, `ssim` and `mae` in the mask and over the volume; arrays (X, Y, Z), SUVR.

    `mask` is the brain, where the measured PET has seen it.
    """
    error = (predicted[mask] - measured[mask]).astype(np.float64)
    share = error.size / mask.size
    box, similarity = _similarity(predicted, measured, mask, data_range)
    square, absolute = float(np.mean(error**2)), float(np.mean(np.abs(error)))
    return Agreement(
        psnr_brain=_decibel(square, data_range),
        psnr_volume=_decibel(square * share, data_range),
        ssim_brain=float(similarity[mask[box]].mean()),
        ssim_volume=1 + float((similarity - 1).sum()) / mask.size,
        mae_brain=absolute,
        mae_volume=absolute * share,
        data_range=data_range,
    )


def pearson(x: ArrayLike, y: ArrayLike) -> Any:
    """Pearson's r between rows, from -1 to 1; NaN where one is constant or there are fewer than 3.

    >>> round(float(pearson([1, 2, 3, 4], [1, 3, 2, 4])), 3)
    0.8
    """
    a, b = _pairs(x, y)
    if len(a) < 3:
        return _nothing(a)
    a, b = a - a.mean(0), b - b.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


def icc21(x: ArrayLike, y: ArrayLike) -> Any:
    """ICC(2,1) of two measurements of each row: two-way random effects, absolute agreement, single.

    Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420: with n rows, k = 2 measurements and the
    mean squares of rows (BMS), measurements (JMS) and error (EMS),
    (BMS − EMS) / (BMS + (k − 1) EMS + k (JMS − EMS) / n). At most 1; a difference in level lowers
    it, unlike Pearson's r. NaN for fewer than 3 rows.

    >>> round(float(icc21([1, 2, 3, 4], [2, 3, 4, 5])), 3)
    0.769
    """
    a, b = _pairs(x, y)
    if len(a) < 3:
        return _nothing(a)
    n, both = len(a), np.stack([a, b])
    grand = both.mean((0, 1))
    rows = 2 * ((both.mean(0) - grand) ** 2).sum(0)
    measurements = n * ((both.mean(1) - grand) ** 2).sum(0)
    rest = ((both - grand) ** 2).sum((0, 1)) - rows - measurements
    between, judges, error = rows / (n - 1), measurements, rest / (n - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (between - error) / (between + error + 2 * (judges - error) / n)


def bland_altman(predicted: ArrayLike, measured: ArrayLike) -> tuple[Any, Any, Any]:
    """Bias, lower and upper limit of agreement of predicted minus measured, in their unit.

    Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8: the mean of the differences, and that
    mean -/+ 1.96 sample standard deviations. The limits are NaN for fewer than 2 rows.

    >>> tuple(round(float(value), 2) for value in bland_altman([2, 4], [1, 1]))
    (2.0, -0.77, 4.77)
    """
    a, b = _pairs(predicted, measured)
    difference = a - b
    bias = difference.mean(0)
    if len(a) < 2:
        return bias, _nothing(a), _nothing(a)
    reach = LIMITS * difference.std(0, ddof=1)
    return bias, bias - reach, bias + reach


def _pairs(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs differ in shape: {a.shape} and {b.shape}")
    return a, b


def _nothing(rows: NDArray[np.float64]) -> Any:
    return np.full(rows.shape[1:], np.nan)[()]


def auc(positive: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, 0 to 1.

    Ties count half. NaN where all rows are positive, or none.

    >>> auc([False, True, False, True], [0.1, 0.4, 0.5, 0.9])
    0.75
    """
    from scipy.stats import rankdata

    truth = np.asarray(positive, bool)
    n = int(truth.sum())
    if n in (0, truth.size):
        return float("nan")
    ranks = rankdata(np.asarray(score, np.float64))
    # Mann and Whitney's U over its largest value.
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * (truth.size - n)))


def balanced_accuracy(positive: ArrayLike, called: ArrayLike) -> float:
    """Mean of sensitivity and specificity, 0 to 1; NaN where all rows are positive, or none.

    >>> balanced_accuracy([True, True, False, False], [True, False, False, False])
    0.75
    """
    truth, said = np.asarray(positive, bool), np.asarray(called, bool)
    if truth.all() or not truth.any():
        return float("nan")
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def bootstrap_over_people(
    statistic: Callable[..., Any],
    *columns: ArrayLike,
    people: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[Any, Any]:
    """Percentile interval of a statistic, resampling people with all of their rows.

    Efron and Tibshirani 1993, chapter 13. Resamples in which the statistic is NaN are left out.

    Parameters
    ----------
    statistic : of `columns`, which it gets resampled; a number, or an array of one shape.
    columns : arrays with a row for each person, or for each session.
    people : of each row; None where each row is a person.

    Returns
    -------
    Low and high ends, of the statistic's shape.

    >>> bootstrap_over_people(np.mean, [2.0, 2.0, 2.0])
    (2.0, 2.0)
    """
    arrays = [np.asarray(column) for column in columns]
    groups = _rows_of(people) if people is not None else None
    count = len(arrays[0]) if groups is None else len(groups)
    found = []
    for drawn in np.random.default_rng(seed).integers(0, count, (resamples, count)):
        rows = drawn if groups is None else np.concatenate([groups[i] for i in drawn])
        found.append(statistic(*(array[rows] for array in arrays)))
    values = np.asarray(found, np.float64)
    some = np.isfinite(values).any(0)
    known = np.where(some, values, 0.0)
    low, high = np.nanquantile(known, [(1 - level) / 2, (1 + level) / 2], axis=0)
    ends = (np.where(some, end, np.nan)[()] for end in (low, high))
    return tuple(float(end) if np.ndim(end) == 0 else end for end in ends)  # type: ignore[return-value]


def _rows_of(people: Sequence[Hashable]) -> list[NDArray[np.intp]]:
    rows: Mapping[Hashable, list[int]] = {person: [] for person in people}
    for row, person in enumerate(people):
        rows[person].append(row)
    return [np.asarray(found, np.intp) for found in rows.values()]
