"""How near a synthetic PET is to the measured one, in SUVR and inside the brain."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rela_bids.volumes import Array


def psnr(predicted: Array, measured: Array, mask: NDArray[np.bool_], data_range: float) -> float:
    """Peak signal-to-noise ratio in the mask, dB: 10 log10(range² / MSE).

    `data_range` is the tracer's constant ``suvr_scale``, never the image's own range, so that
    numbers of different people can be compared.

    >>> brain = np.ones(4, bool)
    >>> round(psnr(np.float32([1, 1, 1, 1]), np.float32([1, 1, 1, 3]), brain, 3.0), 2)
    9.54
    """
    error = (predicted[mask] - measured[mask]).astype(np.float64)
    return float(10 * np.log10(data_range**2 / max(float(np.mean(error**2)), 1e-12)))


def mae(predicted: Array, measured: Array, mask: NDArray[np.bool_]) -> float:
    """Mean absolute error in the mask, SUVR."""
    return float(np.mean(np.abs((predicted[mask] - measured[mask]).astype(np.float64))))


def ssim(predicted: Array, measured: Array, mask: NDArray[np.bool_], data_range: float) -> float:
    """Structural similarity in three dimensions, averaged over the mask.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, equation 13: Gaussian window of 11 voxels with a
    standard deviation of 1.5. Both volumes count as 0 outside the mask. `data_range` as for `psnr`.

    >>> scan, brain = np.float32(np.random.default_rng(0).random((12, 12, 12))), np.ones((12,) * 3)
    >>> ssim(scan, scan, brain > 0, 3.0), round(ssim(scan, scan + 1, brain > 0, 3.0), 2)
    (1.0, 0.6)
    """
    from skimage.metrics import structural_similarity

    _, similarity = structural_similarity(
        np.where(mask, predicted, 0).astype(np.float64),
        np.where(mask, measured, 0).astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(similarity[mask].mean())


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean, resampling `values`, one value per person.

    >>> bootstrap_interval([2.0, 2.0, 2.0])
    (2.0, 2.0)
    """
    rng = np.random.default_rng(seed)
    sample = np.asarray(values, dtype=np.float64)
    means = sample[rng.integers(0, len(sample), (resamples, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
