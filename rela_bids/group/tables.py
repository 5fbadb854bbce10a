"""The group's tables: rows as dicts in the order of the columns, and what the columns mean."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rela_bids.atomic import write_atomically, write_json
from rela_bids.group.comparison import UNITS, Comparison
from rela_bids.group.positivity import Positivity
from rela_bids.group.records import MEAN, MEASURED, METRICS, STD, VOLUME, Scan
from rela_bids.group.statistics import Group, everybody, pairs_of, region_statistics

Row = Mapping[str, Any]
Columns = Mapping[str, Mapping[str, str]]

NOT_FOR = (
    "Synthetic PET is a prediction from MRI, not a measurement. MRI does not determine amyloid or "
    "tau. Not for clinical use."
)


def _column(description: str, units: str = "") -> dict[str, str]:
    return {"Description": description} | ({"Units": units} if units else {})


def _interval(name: str, of: str, units: str = "") -> dict[str, dict[str, str]]:
    text = f"end of the 95% bootstrap interval over people of {of}; n/a for fewer than 5 people"
    return {
        f"{name}_low": _column(f"Lower {text}", units),
        f"{name}_high": _column(f"Upper {text}", units),
    }


SCAN_COLUMNS: Columns = {
    "participant_id": _column("The person"),
    "session_id": _column("The session, n/a where there is no session level"),
    "tracer": _column("BIDS label of the tracer"),
    "variant": _column("The model and settings that made and measured the synthetic PET"),
    "training": _column("Whether the model was trained on this person; n/a where not known"),
}
GROUP_COLUMNS: Columns = {
    "variant": SCAN_COLUMNS["variant"],
    "tracer": SCAN_COLUMNS["tracer"],
    "reference_region": _column("The region whose mean uptake is 1 SUVR"),
}
SUVR_COLUMNS: Columns = {
    **SCAN_COLUMNS,
    "index": _column("The region's number in the atlas, n/a for a composite"),
    "region": _column("The region's name"),
    "volume_ml": _column("Volume of the region", "mL"),
    "synthetic_mean": _column("Mean of the synthetic PET in the region", "SUVR"),
    "synthetic_std": _column(
        "Standard deviation, over the samples of the model, of the region's mean", "SUVR"
    ),
    "measured_mean": _column("Mean of the measured PET in the region, n/a without one", "SUVR"),
    "scale": _column("Scale of the next two columns (approximate), for a composite"),
    "synthetic_on_scale": _column("The synthetic composite on that scale"),
    "measured_on_scale": _column("The measured composite on that scale"),
}
AGREEMENT_COLUMNS: Columns = {
    **SCAN_COLUMNS,
    "psnr_brain": _column("Peak signal-to-noise ratio in the brain", "dB"),
    "psnr_volume": _column("Peak signal-to-noise ratio over the whole image", "dB"),
    "ssim_brain": _column("Structural similarity (3-D, Gaussian window), mean over the brain"),
    "ssim_volume": _column("The same, mean over the whole image"),
    "mae_brain": _column("Mean absolute error in the brain", "SUVR"),
    "mae_volume": _column("Mean absolute error over the whole image", "SUVR"),
    "data_range": _column("The constant range that PSNR and SSIM refer to", "SUVR"),
}
STATISTICS_COLUMNS: Columns = {
    **GROUP_COLUMNS,
    "index": SUVR_COLUMNS["index"],
    "region": SUVR_COLUMNS["region"],
    "all_people": _column("People with a synthetic PET"),
    "all_synthetic_mean": _column("Mean of their synthetic PET", "SUVR"),
    "all_synthetic_sd": _column("Its standard deviation between people", "SUVR"),
    "people": _column(
        "People with both PETs, without those that the model was trained on. Each counts once: "
        "sessions are averaged first"
    ),
    "synthetic_mean": _column("Mean over people of the synthetic PET", "SUVR"),
    "synthetic_sd": _column("Its standard deviation between people", "SUVR"),
    "measured_mean": _column("Mean over people of the measured PET", "SUVR"),
    "measured_sd": _column("Its standard deviation between people", "SUVR"),
    "pearson_r": _column("Pearson's r between people; n/a for fewer than 3"),
    **_interval("pearson_r", "Pearson's r"),
    "icc21": _column("ICC(2,1), absolute agreement (Shrout and Fleiss 1979); n/a for fewer than 3"),
    **_interval("icc21", "the ICC(2,1)"),
    "bias": _column("Mean over people of synthetic minus measured", "SUVR"),
    **_interval("bias", "the bias", "SUVR"),
    "limit_low": _column("Lower Bland-Altman limit: bias - 1.96 standard deviations", "SUVR"),
    "limit_high": _column("Upper Bland-Altman limit: bias + 1.96 standard deviations", "SUVR"),
    "mae": _column("Mean over people of the absolute difference", "SUVR"),
    **_interval("mae", "the mean absolute difference", "SUVR"),
    "mae_of_others": _column(
        "The baseline: mean absolute difference when each person is given the mean of the other "
        "people's measured PET, without any MRI",
        "SUVR",
    ),
}


POSITIVITY_COLUMNS: Columns = {
    **GROUP_COLUMNS,
    "cutoff": _column("Positive is a measured composite of at least this"),
    "cutoff_unit": _column("SUVR, or the scale of the cut-off (approximate)"),
    "predictor": _column("What tells who is positive"),
    "learned": _column(
        "Whether it was fitted to other people of these data: logistic regression, ten folds"
    ),
    "people": _column("People with everything that any of the predictors needs"),
    "positive": _column("Those who are positive on measured PET"),
    "auc": _column("Area under the ROC curve, 0.5 by chance"),
    **_interval("auc", "the AUC"),
    "balanced_accuracy": _column("Mean of sensitivity and specificity, 0.5 by chance"),
    **_interval("balanced_accuracy", "the balanced accuracy"),
}
COMPARISON_COLUMNS: Columns = {
    "tracer": SCAN_COLUMNS["tracer"],
    "first": _column("A model and its settings, of this dataset"),
    "second": _column("Another, of the dataset in brackets"),
    "measure": _column(
        "Of the image (PSNR, SSIM, MAE), or of a region: regional_error is the absolute difference "
        "of synthetic and measured SUVR, pearson_r the correlation between people"
    ),
    "units": _column("Units of the measure"),
    "region": _column("The region, n/a for measures of the image"),
    "people": _column("People whom both models have, and neither was trained on"),
    "first_value": _column("Mean over these people of the first (pearson_r: its value)"),
    "second_value": _column("The same of the second"),
    "difference": _column("First minus second"),
    **_interval("difference", "the difference"),
    "p": _column("Wilcoxon's signed-rank test of the differences, two-sided; n/a for pearson_r"),
    "p_fdr": _column(
        "The same, the false discovery rate controlled over the regions (Benjamini and Hochberg)"
    ),
}


def _of_scan(scan: Scan, group: Group) -> dict[str, Any]:
    known = bool(group.training)
    return {
        "participant_id": scan.key.participant_id,
        "session_id": scan.key.session_id,
        "tracer": scan.key.tracer,
        "variant": scan.variant.label,
        "training": str(scan.key.participant_id in group.training).lower() if known else "n/a",
    }


def _of_group(group: Group) -> dict[str, Any]:
    return {
        "variant": group.variant.label,
        "tracer": group.tracer,
        "reference_region": group.reference_region,
    }


def suvr_rows(groups: Iterable[Group]) -> Iterator[Row]:
    """A row for each session, tracer and region."""
    for group in groups:
        for scan in group.scans:
            first = _of_scan(scan, group)
            for row, (index, region) in enumerate(
                zip(group.layout.indices, group.layout.regions, strict=True)
            ):
                composite = scan.scale if index == "n/a" else ""
                yield first | {
                    "index": index,
                    "region": region,
                    "volume_ml": scan.values[row, VOLUME],
                    "synthetic_mean": scan.values[row, MEAN],
                    "synthetic_std": scan.values[row, STD],
                    "measured_mean": scan.values[row, MEASURED],
                    "scale": composite or "n/a",
                    "synthetic_on_scale": scan.on_scale[0] if composite else math.nan,
                    "measured_on_scale": scan.on_scale[1] if composite else math.nan,
                }


def agreement_rows(groups: Iterable[Group]) -> list[Row]:
    """A row for each session and tracer with a measured PET; once, however many atlases."""
    found: dict[tuple[Any, ...], Row] = {}
    for group in groups:
        for scan in group.scans:
            if scan.agreement is not None:
                row = _of_scan(scan, group) | {name: scan.agreement[name] for name in METRICS}
                found.setdefault(scan.key.visit, row)
    return list(found.values())


def statistics_rows(groups: Iterable[Group]) -> list[Row]:
    """A row for each variant, tracer and region."""
    rows = []
    for group in groups:
        people, mean, spread = everybody(group)
        found = region_statistics(pairs_of(group))
        found |= {"all_synthetic_mean": mean, "all_synthetic_sd": spread}
        for number, (index, region) in enumerate(
            zip(group.layout.indices, group.layout.regions, strict=True)
        ):
            numbers = {name: values[number] for name, values in found.items()}
            numbers["people"] = int(numbers["people"])
            row = {"index": index, "region": region, "all_people": people} | numbers
            rows.append(_of_group(group) | {k: row[k] for k in STATISTICS_COLUMNS if k in row})
    return rows


def positivity_rows(checks: Iterable[Positivity]) -> Iterator[Row]:
    """A row for each predictor."""
    for check in checks:
        for found in check.predictions:
            row = _of_group(check.group) | {
                "cutoff": check.cutoff.value if check.cutoff else math.nan,
                "cutoff_unit": check.cutoff.unit if check.cutoff else "n/a",
                "predictor": found.predictor,
                "learned": str(found.learned).lower(),
                "people": found.people,
                "positive": found.positive,
            }
            for name in ("auc", "balanced_accuracy"):
                ends = (name, f"{name}_low", f"{name}_high")
                row |= dict(zip(ends, getattr(found, name), strict=True))
            yield row


def comparison_rows(comparisons: Iterable[Comparison]) -> Iterator[Row]:
    """A row for each measure and region."""
    for comparison in comparisons:
        for found in comparison.differences:
            yield {
                "tracer": comparison.first.tracer,
                "first": comparison.names[0],
                "second": comparison.names[1],
                "measure": found.measure,
                "units": UNITS.get(found.measure, "n/a"),
                "region": found.region,
                "people": found.people,
                "first_value": found.first,
                "second_value": found.second,
                "difference": found.difference,
                "difference_low": found.low,
                "difference_high": found.high,
                "p": found.p,
                "p_fdr": found.p_fdr,
            }


def write_table(
    path: Path, rows: Iterable[Row], columns: Columns, about: Mapping[str, Any] | None = None
) -> Path:
    """Write a TSV and the JSON beside it that says what its columns are; rows are streamed."""
    content = {"Description": NOT_FOR, **(about or {}), **columns}
    write_json(path.with_suffix(".json"), content)
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("\t".join(columns) + "\n")
        for row in rows:
            file.write("\t".join([cell(row[name]) for name in columns]) + "\n")
    return path


def cell(value: Any) -> str:
    """A value as in a table: six digits, ``n/a`` for what is not known.

    >>> cell(1 / 3), cell(float("nan")), cell(2), cell("a")
    ('0.333333', 'n/a', '2', 'a')
    """
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "n/a"
    return str(value)


def variants_of(groups: Sequence[Group]) -> dict[str, Any]:
    """What each variant is, for a sidecar."""
    return {
        variant.label: {
            "Model": variant.model,
            "SHA256": variant.sha256,
            "TrainedOn": variant.trained_on,
            "TrainedOnSimulatedPET": variant.simulated,
            "Samples": variant.n_samples,
            "SamplingSteps": variant.sampling_steps,
            "Atlas": variant.atlas or "n/a",
        }
        for variant in dict.fromkeys(group.variant for group in groups)
    }
