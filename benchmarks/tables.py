"""The tables of the benchmarks, as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon
from scores import by_person, correlation_between_people, variety_between_people

from rela_bids.atomic import write_text
from rela_bids.quantification import bootstrap_over_people

Rows = Sequence[Mapping[str, Any]]
Results = Mapping[str, Mapping[str, Any]]

Statistic = Callable[[Rows, Sequence[str] | None], float]

# Fewer resamples for what takes long to compute.
RESAMPLES_BETWEEN_PEOPLE = 400

# Key of the scores, name in the table, decimal places.
METRICS = (
    ("psnr", "PSNR, dB", ".2f"),
    ("ssim", "SSIM", ".3f"),
    ("mae", "MAE, SUVR", ".4f"),
    ("psnr_single", "PSNR of one sample", ".2f"),
    ("detail", "detail of one sample", ".2f"),
    ("spread_error", "std with error, r", ".2f"),
    ("coverage", "90% interval, regions", ".2f"),
    ("voxel_coverage", "90% interval, voxels", ".2f"),
)
BETWEEN_PEOPLE: tuple[tuple[str, Statistic], ...] = (
    ("r between people", correlation_between_people),
    ("variety of one sample", variety_between_people),
)
COMPARED = (
    ("psnr", "PSNR, dB", "+.2f"),
    ("ssim", "SSIM", "+.4f"),
    ("mae", "MAE, SUVR", "+.4f"),
    ("undetailed", "detail, distance from 1", "+.2f"),
)


def comparison_table(results: Results, seconds: Mapping[str, float], conditions: str) -> str:
    """Scores of all systems, and their differences from `fast`, with what they mean."""
    return f"""{conditions}

{_scores(results)}
Means over people, whose tracers are averaged first, with 95% bootstrap intervals over people. PSNR,
SSIM and MAE are of the mean of the samples. r is Pearson's between people, by region and tracer,
averaged. Variety is how much one sample's regions differ between people, as a variance over that of
measured PET: 1 is right, less makes people more alike than they are. Detail is the power of what is
finer than a voxel's width in one sample, divided by the measured PET's: 1 is right. "std with
error" is the correlation over regions of the standard deviation with the error; of the 90%
intervals, mean -/+ 1.645 std, the share that holds the measured value, which should be 0.9.

Differences from `fast` of the same people (positive: larger than `fast`), 95% bootstrap intervals,
and p of Wilcoxon's signed-rank test over people; of what is between people, the interval alone.

{_differences(results)}
What it costs: passes of a denoiser and processor time for one volume on one thread, all timed in
turns in one process; steps that the time of training was enough for; and the largest memory of
sampling and scoring, the program's own included.

{_costs(results, seconds)}"""


def _scores(results: Results) -> str:
    head = ["system", "people", *(name for _, name, _ in METRICS[:3])]
    head += [*(name for name, _ in BETWEEN_PEOPLE), *(name for _, name, _ in METRICS[3:])]
    lines = []
    for result in results.values():
        rows = result["rows"]
        people = len({row["person"] for row in rows})
        cells = [_mean(rows, key, digits) for key, _, digits in METRICS]
        between = [_between_people(rows, statistic) for _, statistic in BETWEEN_PEOPLE]
        lines.append([result["text"], str(people), *cells[:3], *between, *cells[3:]])
    return markdown([head, *lines])


def _mean(rows: Rows, metric: str, digits: str) -> str:
    values = list(by_person(rows, metric).values())
    return _with_interval(values, digits) if values else "–"


def _with_interval(values: Sequence[float], digits: str) -> str:
    low, high = bootstrap_over_people(np.mean, values)
    return f"{np.mean(values):{digits}} [{low:{digits}}, {high:{digits}}]"


def _between_people(rows: Rows, statistic: Statistic) -> str:
    if "regional" not in rows[0]:
        return "–"
    low, high = _interval_over_people(lambda people: statistic(rows, people), rows)
    return f"{statistic(rows, None):.2f} [{low:.2f}, {high:.2f}]"


def _interval_over_people(
    statistic: Callable[[Sequence[str]], float], rows: Rows
) -> tuple[float, float]:
    people = list(dict.fromkeys(row["person"] for row in rows))
    return bootstrap_over_people(
        lambda drawn: statistic(list(drawn)), people, resamples=RESAMPLES_BETWEEN_PEOPLE
    )


def _differences(results: Results) -> str:
    fast = _with_distance(results["fast"]["rows"])
    lines = []
    for name, result in results.items():
        if name == "fast":
            continue
        rows = _with_distance(result["rows"])
        cells = [_difference(rows, fast, key, digits) for key, _, digits in COMPARED]
        between = [_difference_between_people(rows, fast, each) for _, each in BETWEEN_PEOPLE]
        lines.append([result["text"], *cells, *between])
    head = ["system", *(name for _, name, _ in COMPARED), *(name for name, _ in BETWEEN_PEOPLE)]
    return markdown([head, *lines])


def _with_distance(rows: Rows) -> list[dict[str, Any]]:
    """And how far the detail is from the measured PET's, whichever way: a factor of 2 counts 1."""
    return [{**row, "undetailed": abs(np.log2(row["detail"]))} for row in rows]


def _difference(rows: Rows, fast: Rows, metric: str, digits: str) -> str:
    own, other = by_person(rows, metric), by_person(fast, metric)
    differences = [own[person] - other[person] for person in own]
    p = wilcoxon(differences).pvalue if np.any(differences) else 1.0
    return f"{_with_interval(differences, digits)}, p {_p_value(p)}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _difference_between_people(rows: Rows, fast: Rows, statistic: Statistic) -> str:
    if "regional" not in rows[0]:
        return "–"
    people = {row["person"] for row in rows}
    fast = [row for row in fast if row["person"] in people]

    def difference(drawn: Sequence[str] | None) -> float:
        return statistic(rows, drawn) - statistic(fast, drawn)

    low, high = _interval_over_people(difference, rows)
    return f"{difference(None):+.2f} [{low:+.2f}, {high:+.2f}]"


def _costs(results: Results, seconds: Mapping[str, float]) -> str:
    head = ["system", "samples", "passes", "s per volume", "steps of training", "peak memory, MiB"]
    lines = [
        [
            result["text"],
            str(result["samples"]),
            str(result["passes"]),
            f"{seconds[name]:.2f}",
            str(result["steps"]),
            f"{result['peak_mib']:.0f}",
        ]
        for name, result in results.items()
        if name in seconds
    ]
    return markdown([head, *lines])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is the head."""
    head, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rest])


def insert_table(page: Path, name: str, table: str) -> None:
    """Put a table between the marks ``<!-- name -->`` and ``<!-- end of name -->`` of a page."""
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(first)[0], text.split(last)[1]
    write_text(page, f"{before}{first}\n\n{table}\n{last}{after}")
