"""Two models on the same people: paired differences, their intervals and Wilcoxon's test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rela_bids.group.records import METRICS, Scan
from rela_bids.group.statistics import (
    FEWEST_PEOPLE,
    Group,
    Pairs,
    Values,
    average,
    draws,
    ends,
    pairs_in,
    resampled,
)
from rela_bids.quantification import pearson

# Regional error is |synthetic - measured| of a person's region.
REGIONAL_ERROR = "regional_error"
PEARSON = "pearson_r"
UNITS = {"psnr_brain": "dB", "psnr_volume": "dB", "mae_brain": "SUVR", "mae_volume": "SUVR"}
UNITS |= {REGIONAL_ERROR: "SUVR"}
HIGHER_IS_NEARER = ("psnr_brain", "psnr_volume", "ssim_brain", "ssim_volume", PEARSON)

# Measured PET of one session that differs by more, relatively, was not made the same way.
SAME_MEASURED = 0.01


@dataclass(frozen=True)
class Difference:
    """A measure of both models over the same people; `difference` is the first minus the second.

    Attributes
    ----------
    region : ``n/a`` for measures of whole images.
    low, high : 95% bootstrap interval of the difference over people.
    p : of Wilcoxon's signed-rank test, two-sided; `p_fdr` controls the false discovery rate over
        the regions of a tracer (Benjamini and Hochberg 1995). NaN where there is no test.
    """

    measure: str
    region: str
    people: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    p_fdr: float

    @property
    def nearer(self) -> int:
        """1 if the first is nearer to the measured PET, 2 the second, 0 if not shown."""
        if not (self.low > 0 or self.high < 0):
            return 0
        return 1 if (self.difference > 0) == (self.measure in HIGHER_IS_NEARER) else 2


@dataclass(frozen=True)
class Comparison:
    """Two groups of one tracer; `notes` are lines that a reader must know."""

    first: Group
    second: Group
    names: tuple[str, str]
    people: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()


def compare(first: Sequence[Group], second: Sequence[Group], folder: str) -> list[Comparison]:
    """Every pair of groups of one tracer that have people in common.

    Parameters
    ----------
    first, second : of this OUT and of another.
    folder : name of the other OUT.
    """
    return [
        _compare(ours, theirs, folder)
        for ours in first
        for theirs in second
        if ours.tracer == theirs.tracer
        and {scan.key.visit for scan in ours.scans} & {scan.key.visit for scan in theirs.scans}
    ]


def _compare(ours: Group, theirs: Group, folder: str) -> Comparison:
    first, second = _in_common(ours, theirs)
    names = (f"{ours.variant.label} (this OUT)", f"{theirs.variant.label} ({folder})")
    people = len({scan.key.subject for scan in first})
    if not people:
        note = "No measured PET in common: which is nearer to it cannot be known."
        return Comparison(ours, theirs, names, 0, (), (note,))
    known = {name: row for row, name in enumerate(theirs.layout.regions)}
    shared = [name for name in ours.layout.regions if name in known]
    rows = [row for row, name in enumerate(ours.layout.regions) if name in known]
    pairs = _where_both(pairs_in(first, rows), pairs_in(second, [known[name] for name in shared]))
    differences = (*_of_images(first, second), *_of_regions(*pairs, shared))
    return Comparison(ours, theirs, names, people, differences, _notes(ours, theirs, *pairs))


def _in_common(ours: Group, theirs: Group) -> tuple[list[Scan], list[Scan]]:
    """The scans of the same sessions, in the same order, of people whom neither was trained on."""
    seen = {scan.key.visit: scan for scan in theirs.measured}
    first = [scan for scan in ours.measured if scan.key.visit in seen]
    return first, [seen[scan.key.visit] for scan in first]


def _where_both(first: Pairs, second: Pairs) -> tuple[Pairs, Pairs]:
    """The same people, each region of which is known in both or in neither."""
    known = np.isfinite(first.synthetic) & np.isfinite(second.synthetic)

    def only(pairs: Pairs) -> Pairs:
        synthetic, measured = (
            np.where(known, v, np.nan) for v in (pairs.synthetic, pairs.measured)
        )
        return replace(pairs, synthetic=synthetic, measured=measured)

    return only(first), only(second)


def _notes(ours: Group, theirs: Group, first: Pairs, second: Pairs) -> tuple[str, ...]:
    notes = []
    if ours.reference_region != theirs.reference_region:
        notes.append(
            f"The reference regions differ ({ours.reference_region}, {theirs.reference_region})."
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.nanmax(np.abs(first.measured / second.measured - 1), initial=0)
    if apart > SAME_MEASURED:
        notes.append(
            f"The measured PET differs between the two by up to {apart:.0%} in a region: it was "
            "not prepared the same way, and each model is held to its own."
        )
    return tuple(notes)


def _of_images(first: Sequence[Scan], second: Sequence[Scan]) -> list[Difference]:
    both = [(a, b) for a, b in zip(first, second, strict=True) if a.agreement and b.agreement]
    owners = [a.key.participant_id for a, _ in both]
    people = tuple(dict.fromkeys(owners))
    if not people:
        return []
    names = METRICS[:-1]
    sides = [
        average(owners, people, np.array([[s.agreement[m] for m in names] for s in scans]))  # type: ignore[index]
        for scans in zip(*both, strict=True)
    ]
    return [
        difference
        for column, name in enumerate(names)
        for difference in _differences(name, ["n/a"], *(side[:, [column]] for side in sides))
    ]


def _of_regions(first: Pairs, second: Pairs, regions: Sequence[str]) -> list[Difference]:
    errors = [np.abs(pairs.synthetic - pairs.measured) for pairs in (first, second)]
    return [
        *_differences(REGIONAL_ERROR, regions, *errors),
        *_of_correlation(first, second, regions),
    ]


def _of_correlation(first: Pairs, second: Pairs, regions: Sequence[str]) -> list[Difference]:
    samples = [resampled(pairs)[PEARSON] for pairs in (first, second)]
    low, high = ends(samples[0] - samples[1])
    found = []
    for row, region in enumerate(regions):
        known = np.isfinite(first.synthetic[:, row])
        a, b = (
            float(pearson(pairs.synthetic[known, row], pairs.measured[known, row]))
            for pairs in (first, second)
        )
        n = int(known.sum())
        interval = (low[row], high[row]) if n >= FEWEST_PEOPLE else (np.nan, np.nan)
        found.append(Difference(PEARSON, region, n, a, b, a - b, *interval, np.nan, np.nan))
    return found


def _differences(
    measure: str, regions: Sequence[str], first: Values, second: Values
) -> list[Difference]:
    """Of a measure with a value for each person and region, arrays (people, regions)."""
    from scipy.stats import false_discovery_control

    known = np.isfinite(first) & np.isfinite(second)
    apart = np.where(known, first - second, 0)
    weights = draws(len(apart))
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = ends(weights @ apart / (weights @ known))
    p = np.array([_wilcoxon(apart[known[:, row], row]) for row in range(len(regions))])
    adjusted, tested = np.full(len(p), np.nan), np.isfinite(p)
    if tested.any():
        adjusted[tested] = false_discovery_control(p[tested])
    found = []
    for row, region in enumerate(regions):
        who = known[:, row]
        n = int(who.sum())
        a, b = (float(side[who, row].mean()) if n else np.nan for side in (first, second))
        interval = (low[row], high[row]) if n >= FEWEST_PEOPLE else (np.nan, np.nan)
        found.append(
            Difference(measure, region, n, a, b, a - b, *interval, float(p[row]), adjusted[row])
        )
    return found


def _wilcoxon(difference: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    if difference.size < FEWEST_PEOPLE or not difference.any():
        return float("nan")
    return float(wilcoxon(difference).pvalue)
