"""How good samples of synthetic PET are: one person and tracer at a time, and over people.

Everything is in SUVR and in the brain mask, on the model grid.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids.phantom.regions import GROUPS
from rela_bids.quantification import mae, pearson, psnr, region_means, ssim
from rela_bids.templates import atlas_on
from rela_bids.volumes import Array, Grid

Mask = NDArray[np.bool_]

# Regions of fewer voxels of the grid are left out.
FEWEST_VOXELS = 4

# Details finer than a Gaussian of this standard deviation, voxels, are high frequencies.
DETAIL = 1.0

# Standard normal quantile of a two-sided interval of 90%.
NINETY_PERCENT = 1.645


@cache
def regions_on(grid: Grid) -> tuple[tuple[str, ...], NDArray[np.int_]]:
    """Names of groups of the atlas' labels, and which of them each voxel of a grid is in, from 1.

    The same place for everybody, since brains are aligned to the template by an affine alone.
    """
    labels = atlas_on(grid)
    masks = {name: np.isin(labels, members) for name, members in GROUPS.items()}
    large = {name: mask for name, mask in masks.items() if mask.sum() >= FEWEST_VOXELS}
    groups = sum(number * mask for number, mask in enumerate(large.values(), start=1))
    return tuple(large), groups


def detail_power(suvr: Array, mask: Mask) -> float:
    """Mean square of what a small Gaussian takes away, the mask's edge not counted as a detail."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), DETAIL)
    smooth = ndimage.gaussian_filter(np.where(mask, suvr, 0), DETAIL)
    detail = suvr[mask] - smooth[mask] / weight[mask]
    return float(np.mean(detail.astype(np.float64) ** 2))


def regional_means(suvr: Array, mask: Mask, grid: Grid) -> NDArray[np.float64]:
    """The mean of each region of `regions_on`, NaN where the mask leaves nothing of it."""
    names, groups = regions_on(grid)
    return region_means(suvr, np.where(mask, groups, 0), range(1, len(names) + 1))


def score_samples(
    samples: Array, measured: Array, mask: Mask, data_range: float, grid: Grid
) -> dict[str, Any]:
    """Scores of K samples, (K, X, Y, Z), of one measured PET, (X, Y, Z).

    ``psnr``, ``ssim`` and ``mae`` are of the mean of the samples; ``detail`` is the ratio of
    high-frequency power of the first sample to the measured PET's; ``regional``,
    ``regional_single`` (of the first sample) and ``regional_measured`` are means by region. With
    several samples that differ, ``spread_error`` is the correlation over regions of the samples'
    standard deviation with the absolute error, and ``coverage`` the share of regions, and
    ``voxel_coverage`` of voxels, that lie within 1.645 standard deviations of the mean.
    """
    mean = samples.mean(0)
    regional, truth = (regional_means(x, mask, grid) for x in (mean, measured))
    scores: dict[str, Any] = {
        "psnr": psnr(mean, measured, mask, data_range),
        "ssim": ssim(mean, measured, mask, data_range),
        "mae": mae(mean, measured, mask),
        "psnr_single": psnr(samples[0], measured, mask, data_range),
        "detail": detail_power(samples[0], mask) / detail_power(measured, mask),
        "regional": regional.tolist(),
        "regional_single": regional_means(samples[0], mask, grid).tolist(),
        "regional_measured": truth.tolist(),
    }
    std = samples.std(0)
    if std[mask].max() > 1e-6:
        spread = np.std([regional_means(sample, mask, grid) for sample in samples], axis=0)
        error = np.abs(regional - truth)
        there = np.isfinite(error)
        off = np.abs(mean - measured)[mask]
        scores |= {
            "spread_error": float(np.corrcoef(spread[there], error[there])[0, 1]),
            "coverage": float(np.mean(error[there] <= NINETY_PERCENT * spread[there])),
            "voxel_coverage": float(np.mean(off <= NINETY_PERCENT * std[mask])),
        }
    return scores


def by_person(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """The mean of a metric over each person's tracers, where there is one."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if metric in row:
            values.setdefault(row["person"], []).append(row[metric])
    return {person: float(np.mean(own)) for person, own in values.items()}


def correlation_between_people(
    rows: Sequence[Mapping[str, Any]], people: Sequence[str] | None = None
) -> float:
    """Pearson's r of synthetic with measured uptake between people: mean over regions and tracers.

    Never pooled over regions, whose differences all people share. `people` may name a person
    several times, as a bootstrap does.
    """
    correlations: list[NDArray[np.float64]] = []
    for tracer in dict.fromkeys(row["tracer"] for row in rows):
        own = {row["person"]: row for row in rows if row["tracer"] == tracer}
        chosen = [own[person] for person in (people or list(own)) if person in own]
        pairs = ([row[key] for row in chosen] for key in ("regional", "regional_measured"))
        correlations.append(pearson(*pairs))
    return float(np.nanmean(correlations))


def variety_between_people(
    rows: Sequence[Mapping[str, Any]], people: Sequence[str] | None = None
) -> float:
    """How much single samples differ between people, as a share of how much measured PET does.

    The ratio of variances between people, summed over regions; the mean over tracers. Below 1,
    people look more alike than they are. `people` as in `correlation_between_people`.
    """
    ratios = []
    for tracer in dict.fromkeys(row["tracer"] for row in rows):
        own = {row["person"]: row for row in rows if row["tracer"] == tracer}
        chosen = [own[person] for person in (people or list(own)) if person in own]
        single, measured = (
            np.nanvar([row[key] for row in chosen], axis=0).sum()
            for key in ("regional_single", "regional_measured")
        )
        ratios.append(single / measured)
    return float(np.mean(ratios))
