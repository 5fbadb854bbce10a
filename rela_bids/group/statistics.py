"""Agreement of synthetic with measured PET, region by region, over people.

A person counts once: the sessions that have both are averaged first. Regions are never pooled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rela_bids.group.records import MEAN, MEASURED, METRICS, Layout, Scan, Variant
from rela_bids.quantification import bland_altman, bootstrap_over_people, icc21, pearson

Values = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95

# An interval from fewer people is too narrow to go by.
FEWEST_PEOPLE = 5

POINTS = (
    "people",
    "synthetic_mean",
    "synthetic_sd",
    "measured_mean",
    "measured_sd",
    "pearson_r",
    "icc21",
    "bias",
    "limit_low",
    "limit_high",
    "mae",
    "mae_of_others",
)


@dataclass(frozen=True)
class Group:
    """Scans that may be taken together: one variant, one tracer, one reference region, one atlas.

    `training` are the participants that the model was trained on, as far as is known; they are
    described but take no part in statistics of agreement.
    """

    variant: Variant
    tracer: str
    reference_region: str
    layout: Layout
    scans: Sequence[Scan]
    training: frozenset[str] = frozenset()

    @property
    def tracer_name(self) -> str:
        """The tracer's name in plain words."""
        return self.scans[0].tracer_name

    @property
    def title(self) -> str:
        """The tracer's name and label."""
        return f"{self.tracer_name} ({self.tracer})"

    @property
    def measured(self) -> list[Scan]:
        """The scans with a measured PET of people that the model has not seen in training."""
        return [
            scan
            for scan in self.scans
            if scan.has_measured and scan.key.participant_id not in self.training
        ]


def groups_of(
    scans: Iterable[Scan], training: Mapping[str, frozenset[str]] | None = None
) -> list[Group]:
    """Scans by what must not be pooled, sorted; `training` people by the model's SHA-256."""

    def apart(scan: Scan) -> tuple[str, ...]:
        return (
            scan.key.tracer,
            scan.variant.label,
            scan.reference_region,
            *scan.layout.regions,
        )

    return [
        Group(
            variant=found[0].variant,
            tracer=found[0].key.tracer,
            reference_region=found[0].reference_region,
            layout=found[0].layout,
            scans=found,
            training=(training or {}).get(found[0].variant.sha256, frozenset()),
        )
        for found in (list(same) for _, same in groupby(sorted(scans, key=apart), key=apart))
    ]


@dataclass(frozen=True)
class Pairs:
    """Regional SUVR of people with a measured PET, arrays (people, regions), NaN where not known.

    A person's values are means over the sessions in which a region has both.
    """

    people: tuple[str, ...]
    sessions: int
    synthetic: Values
    measured: Values


def pairs_of(group: Group) -> Pairs:
    """Synthetic and measured SUVR of each region, a row for each person."""
    return pairs_in(group.measured, range(len(group.layout.regions)))


def pairs_in(scans: Sequence[Scan], regions: Sequence[int]) -> Pairs:
    """Synthetic and measured SUVR of some rows of the tables of `scans`, which have one layout."""
    owners = [scan.key.participant_id for scan in scans]
    people = tuple(dict.fromkeys(owners))
    values = np.array([scan.values[:, [MEAN, MEASURED]][list(regions)] for scan in scans])
    values = values.reshape(len(scans), len(regions), 2)
    values[np.isnan(values).any(axis=2)] = np.nan
    both = average(owners, people, values)
    return Pairs(people, len(scans), both[..., 0], both[..., 1])


def everybody(group: Group) -> tuple[int, Values, Values]:
    """How many people there are, and mean and standard deviation of their synthetic SUVR.

    Of all people, with a measured PET or without; arrays (regions,).
    """
    owners = [scan.key.participant_id for scan in group.scans]
    people = tuple(dict.fromkeys(owners))
    values = average(owners, people, np.array([scan.values[:, MEAN] for scan in group.scans]))
    known = np.isfinite(values)
    count = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(0) / count
        square = (np.where(known, values - mean, 0) ** 2).sum(0)
        return len(people), mean, np.where(count > 1, np.sqrt(square / (count - 1)), np.nan)


def average(owners: Sequence[str], people: Sequence[str], values: Values) -> Values:
    """Means of the rows of each person, in the order of `people`; what is NaN is passed over.

    >>> average(["a", "b", "a"], ["a", "b"], np.array([1.0, 5.0, 3.0]))
    array([2., 5.])
    """
    place = {person: row for row, person in enumerate(people)}
    rows = np.array([place[owner] for owner in owners], dtype=np.intp)
    sums = np.zeros((len(people), *values.shape[1:]))
    counts = np.zeros_like(sums)
    np.add.at(sums, rows, np.nan_to_num(values))
    np.add.at(counts, rows, np.isfinite(values))
    with np.errstate(invalid="ignore"):
        return sums / counts


def region_statistics(pairs: Pairs) -> dict[str, Values]:
    """The statistics of each region by column of ``group_statistics.tsv``, arrays (regions,).

    Each region takes the people who have it. Intervals are 95% bootstrap intervals over people.
    """
    columns = [
        _of_region(pairs.synthetic[:, region], pairs.measured[:, region])
        for region in range(pairs.synthetic.shape[1])
    ]
    found = {name: np.array([column[name] for column in columns]) for name in POINTS}
    enough = found["people"] >= FEWEST_PEOPLE
    for name, values in resampled(pairs).items():
        low, high = ends(values)
        found[f"{name}_low"] = np.where(enough, low, np.nan)
        found[f"{name}_high"] = np.where(enough, high, np.nan)
    return found


def _of_region(synthetic: Values, measured: Values) -> dict[str, float]:
    known = np.isfinite(synthetic) & np.isfinite(measured)
    x, y = synthetic[known], measured[known]
    if not x.size:
        return dict.fromkeys(POINTS, np.nan) | {"people": 0}
    bias, low, high = bland_altman(x, y)
    found = (
        x.size,
        x.mean(),
        _spread(x),
        y.mean(),
        _spread(y),
        pearson(x, y),
        icc21(x, y),
        bias,
        low,
        high,
        np.abs(x - y).mean(),
        _error_of_others(y),
    )
    return {name: float(value) for name, value in zip(POINTS, found, strict=True)}


def _spread(values: Values) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else float("nan")


def _error_of_others(measured: Values) -> float:
    """Mean absolute error of taking, for each person, the mean of the others' measured values."""
    n = measured.size
    if n < 2:
        return float("nan")
    others = (measured.sum() - measured) / (n - 1)
    return float(np.abs(measured - others).mean())


def resampled(pairs: Pairs) -> dict[str, Values]:
    """Each region's r, ICC(2,1), bias and MAE in `RESAMPLES` resamples of the people.

    The numbers that `rela_bids.quantification.bootstrap_over_people` would take its quantiles of,
    arrays (resamples, regions), for all regions at once: a resample is how often each person was
    drawn, the statistics are functions of weighted sums, and one matrix product gives those.
    """
    known = np.isfinite(pairs.synthetic) & np.isfinite(pairs.measured)
    x, y = (np.where(known, v, 0) for v in (pairs.synthetic, pairs.measured))
    # About its mean a region's sums of squares lose no digits.
    centre = y.sum(0) / np.maximum(known.sum(0), 1)
    x, y = (np.where(known, v - centre, 0) for v in (x, y))
    weights = draws(len(pairs.people))
    n, sx, sy, sxx, syy, sxy, error = (
        weights @ v for v in (known * 1.0, x, y, x * x, y * y, x * y, np.abs(x - y))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        sxx, syy, sxy = sxx - sx**2 / n, syy - sy**2 / n, sxy - sx * sy / n
        # Mean squares of two measurements of each person: between people, between measurements,
        # and the rest; see `rela_bids.quantification.icc21`.
        people, rest = (sxx + syy + 2 * sxy) / 2 / (n - 1), (sxx + syy - 2 * sxy) / 2 / (n - 1)
        level = (sx - sy) ** 2 / n / 2
        icc = (people - rest) / (people + rest + 2 * (level - rest) / n)
        found = {"pearson_r": sxy / np.sqrt(sxx * syy), "icc21": icc}
        few = {name: np.where(n > 2, values, np.nan) for name, values in found.items()}
        return few | {"bias": (sx - sy) / n, "mae": error / n}


def ends(values: Values) -> tuple[Values, Values]:
    """The percentile interval of resampled statistics, NaN where none is known."""
    finite = np.isfinite(values)
    some = finite.any(0)
    kept = np.where(finite | ~some, np.where(finite, values, 0), np.nan)
    quantile = np.nanquantile if np.isnan(kept).any() else np.quantile
    low, high = quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def draws(people: int) -> Values:
    """How often each person is in each resample, (resamples, people)."""
    if not people:
        return np.zeros((1, 0))
    drawn = np.random.default_rng(0).integers(0, people, (RESAMPLES, people))
    offsets = np.arange(RESAMPLES)[:, None] * people
    counts = np.bincount((drawn + offsets).ravel(), minlength=RESAMPLES * people)
    return counts.reshape(RESAMPLES, people).astype(np.float64)


@dataclass(frozen=True)
class Estimate:
    """A number, and its 95% bootstrap interval over people; the ends are NaN for too few people."""

    value: float
    low: float
    high: float
    people: int


def image_metrics(group: Group) -> dict[str, Estimate]:
    """The mean over people of each of `METRICS`, whose sessions are averaged first."""
    scans = [scan for scan in group.measured if scan.agreement is not None]
    people = tuple(dict.fromkeys(scan.key.participant_id for scan in scans))
    if not people:
        return {}
    values = np.array([[scan.agreement[name] for name in METRICS] for scan in scans])  # type: ignore[index]
    averaged = average([scan.key.participant_id for scan in scans], people, values)
    return {name: mean_of(averaged[:, column]) for column, name in enumerate(METRICS)}


def mean_of(values: Values) -> Estimate:
    """The mean over people who have a value."""
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if known.size else float("nan")
    if known.size < FEWEST_PEOPLE:
        return Estimate(mean, float("nan"), float("nan"), known.size)
    low, high = bootstrap_over_people(np.mean, known, resamples=RESAMPLES, level=LEVEL)
    return Estimate(mean, low, high, known.size)
