"""How well synthetic PET tells who is above a cut-off on measured PET, beside age and MRI alone.

The measured PET decides who is positive; each person counts once, as the mean of their sessions.
What is learned from people (a cut-off, or a logistic regression on age or volumes) is learned on
nine tenths of them and judged on the tenth, ten times.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rela_bids.exceptions import UsageError
from rela_bids.group.records import MEAN, MEASURED, VOLUME
from rela_bids.group.statistics import Group, Values, average, draws, ends
from rela_bids.quantification import auc, balanced_accuracy

FOLDS = 10

# Fewer on either side of the cut-off say nothing, and some of ten folds would have none.
FEWEST_OF_A_KIND = 10


@dataclass(frozen=True)
class Cutoff:
    """Positive is who has a composite of at least `value`, in SUVR or on a scale."""

    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


# For every tracer with the scale. The scale's values are approximate, and so is who is positive.
CUTOFFS: Mapping[str, Cutoff] = {
    "Centiloid": Cutoff(
        24.4,
        "Centiloid",
        "La Joie 2019, doi:10.1016/j.jalz.2018.09.001: intermediate to high neuropathological "
        "change at autopsy",
    ),
    "CenTauRz": Cutoff(
        2.0,
        "CenTauRz",
        "two standard deviations above cognitively unimpaired people without amyloid, by which "
        "Villemagne 2023, doi:10.1002/dad2.12454, defines the scale",
    ),
}
UNITS = {"": "SUVR", "SUVR": "SUVR", "CL": "Centiloid", "CENTAURZ": "CenTauRz"}
UNITS |= {"CENTILOID": "Centiloid", "CTRZ": "CenTauRz"}
GIVEN = "given with --positivity-cutoff"

# Volumes as shares of all regions' volume, which is a measure too.
STRUCTURES: Mapping[str, tuple[str, ...]] = {
    "hippocampus": ("Left-Hippocampus", "Right-Hippocampus"),
    "amygdala": ("Left-Amygdala", "Right-Amygdala"),
    "lateral ventricles": ("Left-Lateral-Ventricle", "Right-Lateral-Ventricle"),
    "entorhinal cortex": ("ctx-lh-entorhinal", "ctx-rh-entorhinal"),
}


def parse_cutoff(text: str) -> tuple[str, Cutoff]:
    """``TRC=VALUE`` in SUVR, or with the unit CL or CenTauRz, as a tracer's label and its cut-off.

    Raises
    ------
    UsageError
        If it is none of these.

    >>> label, cutoff = parse_cutoff("18FAV45=20CL")
    >>> label, str(cutoff)
    ('18FAV45', '20 Centiloid')
    """
    match = re.fullmatch(r"(?:trc-)?([a-zA-Z0-9+]+)=(-?\d+(?:\.\d+)?) ?([a-zA-Z]*)", text)
    if match is None or match[3].upper() not in UNITS:
        raise UsageError(
            f"--positivity-cutoff {text!r} is not TRC=VALUE in SUVR, such as 18FAV45=1.11, or on a "
            "scale, such as 18FAV45=20CL or 18FAV1451=2CenTauRz"
        )
    return match[1], Cutoff(float(match[2]), UNITS[match[3].upper()], GIVEN)


@dataclass(frozen=True)
class Prediction:
    """How well something tells who is positive; AUC and balanced accuracy with their intervals.

    `learned` says whether it was fitted to other people of the same data.
    """

    predictor: str
    learned: bool
    people: int
    positive: int
    auc: tuple[float, float, float]
    balanced_accuracy: tuple[float, float, float]


@dataclass(frozen=True)
class Positivity:
    """The check for one group; without `predictions`, `why_not` says why."""

    group: Group
    cutoff: Cutoff | None
    predictions: tuple[Prediction, ...] = ()
    why_not: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _People:
    """Values of people with a measured composite: the composite's, and features by predictor."""

    labels: tuple[str, ...]
    synthetic: Values
    measured: Values
    volumes: Values

    def only(self, keep: NDArray[np.bool_]) -> "_People":
        labels = tuple(label for label, kept in zip(self.labels, keep, strict=True) if kept)
        return _People(labels, self.synthetic[keep], self.measured[keep], self.volumes[keep])


def positivity_of(
    group: Group, cutoffs: Mapping[str, Cutoff], ages: Mapping[str, float] | None
) -> Positivity:
    """Compare synthetic PET, age and volumes in telling who is positive.

    Parameters
    ----------
    cutoffs : by tracer label; other tracers have that of their scale, if there is one.
    ages : years by participant; None where participants.tsv has none.
    """
    cutoff = cutoffs.get(group.tracer) or CUTOFFS.get(_scale(group))
    if cutoff is None:
        return Positivity(
            group,
            None,
            why_not="no cut-off is known for this tracer: give one with --positivity-cutoff "
            f"{group.tracer}=SUVR",
        )
    people = _people(group, cutoff)
    if people is None:
        return Positivity(
            group, cutoff, why_not=f"the tables have no composite in {cutoff.unit} for it"
        )
    lacking = _lacking(people.measured >= cutoff.value)
    if lacking:
        return Positivity(group, cutoff, why_not=lacking)
    people, years, notes = _with_age(people, cutoff, ages)
    return Positivity(group, cutoff, _predictions(people, years, cutoff), notes=notes)


def _scale(group: Group) -> str:
    return next((scan.scale for scan in group.scans if scan.scale), "")


def _lacking(positive: NDArray[np.bool_]) -> str:
    """Why the people are not enough, or nothing."""
    yes, no = int(positive.sum()), int((~positive).sum())
    if min(yes, no) >= FEWEST_OF_A_KIND:
        return ""
    if not yes + no:
        return "nobody has a measured PET"
    return (
        f"{yes} people are positive and {no} negative on measured PET; it takes "
        f"{FEWEST_OF_A_KIND} of each"
    )


def _people(group: Group, cutoff: Cutoff) -> _People | None:
    """People with both composites in the cut-off's unit; None where there is no such composite."""
    if "n/a" not in group.layout.indices:
        return None
    row = group.layout.indices.index("n/a")
    volumes, _ = volume_features(group)
    owners, composites = [], []
    for scan in group.measured:
        if cutoff.unit not in ("SUVR", scan.scale):
            return None
        pair = scan.values[row, [MEAN, MEASURED]] if cutoff.unit == "SUVR" else scan.on_scale
        owners.append(scan.key.participant_id)
        composites.append(pair)
    labels = tuple(dict.fromkeys(owners))
    both = np.array(composites, float).reshape(-1, 2)
    both[np.isnan(both).any(axis=1)] = np.nan
    values = average(owners, labels, both)
    averaged = average(owners, labels, volumes)
    return _People(labels, values[:, 0], values[:, 1], averaged).only(np.isfinite(values[:, 0]))


def volume_features(group: Group) -> tuple[Values, list[str]]:
    """Of each measured scan the volumes that logistic regression gets, and their names.

    The volume of all regions together in ml, and the shares of `STRUCTURES` that the atlas has and
    of the cortex.
    """
    regions = group.layout.regions
    atlas = np.array([index != "n/a" for index in group.layout.indices])
    named = {
        name: np.isin(regions, members)
        for name, members in STRUCTURES.items()
        if set(members) <= set(regions)
    }
    cortex = np.array([name.startswith("ctx-") for name in regions])
    if cortex.any():
        named["cortex"] = cortex & atlas
    volumes = np.array([scan.values[:, VOLUME] for scan in group.measured])
    volumes = np.nan_to_num(volumes.reshape(-1, len(regions)))
    total = volumes[:, atlas].sum(1)
    shares = [volumes[:, chosen].sum(1) / np.maximum(total, 1e-9) for chosen in named.values()]
    return np.stack([total, *shares], axis=1), ["all regions", *named]


def _with_age(
    people: _People, cutoff: Cutoff, ages: Mapping[str, float] | None
) -> tuple[_People, Values | None, tuple[str, ...]]:
    """The people whose age is known, if that leaves enough; all are then judged on the same."""
    if ages is None:
        return people, None, ("participants.tsv has no age, so age is not among the predictors.",)
    years = np.array([ages.get(label, math.nan) for label in people.labels])
    known = np.isfinite(years)
    if _lacking(people.measured[known] >= cutoff.value):
        return people, None, ("Too few people have an age in participants.tsv to use it.",)
    left = int((~known).sum())
    notes = (f"{left} people without an age in participants.tsv are left out.",) if left else ()
    return people.only(known), years[known], notes


def _predictions(people: _People, years: Values | None, cutoff: Cutoff) -> tuple[Prediction, ...]:
    truth = people.measured >= cutoff.value
    at_cutoff = _judge(
        f"synthetic PET, at least {cutoff}",
        truth,
        people.synthetic,
        people.synthetic >= cutoff.value,
        learned=False,
    )
    synthetic, volumes = people.synthetic[:, None], people.volumes
    features: dict[str, Sequence[Values]] = {"synthetic PET": [synthetic]}
    if years is not None:
        features["age"] = [years[:, None]]
    features["MRI volumes"] = [volumes]
    if years is not None:
        features["age and MRI volumes"] = [years[:, None], volumes]
        features["age, MRI volumes and synthetic PET"] = [years[:, None], volumes, synthetic]
    else:
        features["MRI volumes and synthetic PET"] = [volumes, synthetic]
    learned = []
    for name, columns in features.items():
        chance = _out_of_fold(np.concatenate(columns, axis=1), truth)
        learned.append(_judge(name, truth, chance, chance >= 0.5, learned=True))
    return (at_cutoff, *learned)


def _out_of_fold(features: Values, truth: NDArray[np.bool_]) -> Values:
    """Each person's chance to be positive, by a logistic regression that has not seen them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return cross_val_predict(model, features, truth, cv=folds, method="predict_proba")[:, 1]


def _judge(
    name: str, truth: NDArray[np.bool_], score: Values, called: NDArray[np.bool_], *, learned: bool
) -> Prediction:
    weights = draws(truth.size)
    return Prediction(
        name,
        learned,
        truth.size,
        int(truth.sum()),
        (auc(truth, score), *_ends(resampled_auc(weights, truth, score))),
        (balanced_accuracy(truth, called), *_ends(_resampled_accuracy(weights, truth, called))),
    )


def _ends(values: Values) -> tuple[float, float]:
    low, high = ends(values)
    return float(low), float(high)


def resampled_auc(weights: Values, truth: NDArray[np.bool_], score: Values) -> Values:
    """`rela_bids.quantification.auc` of resamples, (resamples,), by how often each person is drawn.

    Over the sorted scores, each positive person beats the negative weight below, and half of that
    of the same score.
    """
    order = np.argsort(score)
    starts = np.unique(score[order], return_index=True)[1]
    positive, negative = (
        np.add.reduceat((weights * kind)[:, order], starts, axis=1) for kind in (truth, ~truth)
    )
    below = np.cumsum(negative, axis=1) - negative / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))


def _resampled_accuracy(
    weights: Values, truth: NDArray[np.bool_], called: NDArray[np.bool_]
) -> Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = weights @ (truth & called) / (weights @ truth)
        specificity = weights @ (~truth & ~called) / (weights @ ~truth)
    return (sensitivity + specificity) / 2
