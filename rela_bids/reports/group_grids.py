"""The tables of the group's page, as texts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rela_bids.group.comparison import PEARSON, REGIONAL_ERROR, Comparison, Difference
from rela_bids.group.outcomes import Outcome
from rela_bids.group.positivity import Positivity
from rela_bids.group.records import MEAN, MEASURED, Scan
from rela_bids.group.statistics import Estimate, Group, image_metrics
from rela_bids.group.tables import Row
from rela_bids.tracers import TRACERS

# Shown as panels and in the short table, as far as the atlas has them; the table has all.
MAIN_REGIONS = {
    "tau": (
        "ctx-lh-entorhinal",
        "ctx-rh-entorhinal",
        "ctx-lh-inferiortemporal",
        "ctx-rh-inferiortemporal",
        "ctx-lh-precuneus",
    ),
    "": (
        "ctx-lh-precuneus",
        "ctx-rh-precuneus",
        "ctx-lh-rostralmiddlefrontal",
        "ctx-lh-inferiortemporal",
        "Left-Hippocampus",
    ),
}
PANELS = 6
WORST = 5


# A page with more rows would be slow to open; the tables have all of them.
MOST_ROWS = 6000


Cells = Sequence[str]


@dataclass(frozen=True)
class Grid:
    """A table of the page: texts, whose first column names the row; `links` are of the rows."""

    caption: str
    head: Cells
    rows: Sequence[Cells]
    links: Sequence[str] = ()
    sortable: bool = False


def main_regions(group: Group) -> list[int]:
    """Rows of the regions to show: composites, then `MAIN_REGIONS`, then the first others."""
    target = TRACERS[group.tracer].target if group.tracer in TRACERS else ""
    wanted = MAIN_REGIONS.get(target, MAIN_REGIONS[""])
    regions, indices = group.layout.regions, group.layout.indices
    composites = [row for row, index in enumerate(indices) if index == "n/a"]
    named = [regions.index(name) for name in wanted if name in regions]
    return list(dict.fromkeys([*composites, *named, *range(len(regions))]))[:PANELS]


# Column of the statistics and decimal places.
COMPOSITE_SUMMARY = (("pearson_r", ".2f"), ("icc21", ".2f"), ("bias", "+.3f"))
METRIC_NAMES = {
    "psnr": ("PSNR, dB", ".1f"),
    "ssim": ("SSIM", ".3f"),
    "mae": ("MAE, SUVR", ".3f"),
}


def image_grid(found: Mapping[str, Estimate]) -> Grid:
    """PSNR, SSIM and MAE, means over people."""
    rows = []
    for name, (title, digits) in METRIC_NAMES.items():
        cells = [
            _estimate(e, digits) for e in (found.get(f"{name}_brain"), found.get(f"{name}_volume"))
        ]
        rows.append((title, *cells))
    people = next(iter(found.values())).people if found else 0
    caption = f"Whole images: means over {people} people, 95% intervals"
    return Grid(caption, ("", "in the brain", "whole image"), rows)


def region_grid(caption: str, rows: Sequence[Row]) -> Grid:
    """Agreement of each region."""
    head = (
        *("Region", "People", "Measured", "Synthetic", "r", "ICC", "Bias", "Limits"),
        *("MAE", "MAE of others' mean"),
    )
    return Grid(caption, head, [_region_cells(row) for row in rows], sortable=True)


def _region_cells(row: Row) -> Cells:
    return (
        str(row["region"]),
        str(row["people"]),
        number(row["measured_mean"], ".2f"),
        number(row["synthetic_mean"], ".2f"),
        _with_ends(row, "pearson_r", ".2f"),
        _with_ends(row, "icc21", ".2f"),
        _with_ends(row, "bias", "+.3f"),
        _range(row["limit_low"], row["limit_high"], "+.2f"),
        _with_ends(row, "mae", ".3f"),
        number(row["mae_of_others"], ".3f"),
    )


def synthetic_grid(caption: str, rows: Sequence[Row]) -> Grid:
    """Synthetic SUVR of each region, where there is nothing to hold it against."""
    cells = [
        (
            str(row["region"]),
            str(row["all_people"]),
            number(row["all_synthetic_mean"], ".3f"),
            number(row["all_synthetic_sd"], ".3f"),
        )
        for row in rows
    ]
    head = ("Region", "People", "Mean synthetic SUVR", "Standard deviation between people")
    return Grid(caption, head, cells, sortable=True)


def composite(scan: Scan) -> tuple[float, float]:
    """Synthetic and measured SUVR of the first composite, NaN where there is none."""
    if "n/a" not in scan.layout.indices:
        return math.nan, math.nan
    synthetic, measured = scan.values[scan.layout.indices.index("n/a"), [MEAN, MEASURED]]
    return float(synthetic), float(measured)


def worst_grid(root: Path, group: Group) -> Grid:
    """The scans with the lowest PSNR, and those whose composite is farthest off."""

    def psnr(scan: Scan) -> float:
        return scan.agreement["psnr_brain"] if scan.agreement else math.inf

    def off(scan: Scan) -> float:
        synthetic, measured = composite(scan)
        difference = abs(synthetic - measured)
        return difference if math.isfinite(difference) else -1.0

    scans = group.measured
    lowest = sorted((s for s in scans if math.isfinite(psnr(s))), key=psnr)[:WORST]
    farthest = sorted((s for s in scans if off(s) >= 0), key=off, reverse=True)[:WORST]
    reasons: dict[int, list[str]] = {}
    for chosen, reason in ((lowest, "PSNR"), (farthest, "composite")):
        for scan in chosen:
            reasons.setdefault(id(scan), []).append(reason)
    shown = [scan for scan in scans if id(scan) in reasons]
    shown.sort(key=psnr)
    rows = [(*_scan_cells(scan), " and ".join(reasons[id(scan)])) for scan in shown]
    return Grid(
        f"The {WORST} with the lowest PSNR and the {WORST} whose composite is farthest off",
        (*SCAN_HEAD, "Why"),
        rows,
        [_link(root, scan.key.subject) for scan in shown],
        sortable=True,
    )


SCAN_HEAD = (
    *("Person", "Session", "PSNR, dB", "SSIM", "MAE, SUVR"),
    *("Composite: synthetic", "Composite: measured", "Composite: difference"),
)


def _scan_cells(scan: Scan) -> Cells:
    synthetic, measured = composite(scan)
    metrics = scan.agreement or {}
    return (
        scan.key.participant_id,
        scan.key.session_id,
        *(
            number(metrics.get(f"{name}_brain", math.nan), digits)
            for name, (_, digits) in METRIC_NAMES.items()
        ),
        number(synthetic, ".3f"),
        number(measured, ".3f"),
        number(synthetic - measured, "+.3f"),
    )


def scans_grid(root: Path, groups: Sequence[Group], *, several: bool) -> Grid:
    """Every session and tracer, as far as `MOST_ROWS` go."""
    rows, links = [], []
    for group in groups:
        for scan in group.scans[: MOST_ROWS - len(rows)]:
            variant = (scan.variant.label,) if several else ()
            person, session, *numbers = _scan_cells(scan)
            trained_on = _yes_or_no(scan.key.participant_id in group.training)
            last = trained_on if group.training else "n/a"
            rows.append((person, session, scan.key.tracer, *numbers, *variant, last))
            links.append(_link(root, scan.key.subject))
    person, session, *others = SCAN_HEAD
    variant = ("Model and settings",) if several else ()
    head = (person, session, "Tracer", *others, *variant, "Trained on")
    total = sum(len(group.scans) for group in groups)
    caption = "Every session and tracer"
    if total > len(rows):
        caption = f"The first {len(rows)} of {total} sessions and tracers; group_suvr.tsv has all"
    return Grid(caption, head, rows, links, sortable=True)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def flagged_grid(root: Path, outcomes: Sequence[Outcome]) -> Grid | None:
    """What is to be known of sessions, as far as `MOST_ROWS` go; None where there is nothing."""
    flagged = [outcome for outcome in outcomes if outcome.lines]
    shown = flagged[:MOST_ROWS]
    rows = [
        (f"sub-{o.subject}", f"ses-{o.session}" if o.session else "n/a", " ".join(o.lines))
        for o in shown
    ]
    caption = f"{len(flagged)} of {len(outcomes)} sessions"
    links = [_link(root, outcome.subject) for outcome in shown]
    return Grid(caption, ("Person", "Session", "What"), rows, links, True) if rows else None


def _link(root: Path, subject: str) -> str:
    """The address of a person's report, relative to the page; nothing where there is none."""
    name = f"sub-{subject}.html"
    return quote(name) if (root / name).is_file() else ""


def overview_grid(
    titles: Sequence[str], groups: Sequence[Group], statistics: Sequence[Sequence[Row]]
) -> Grid:
    """A row for each group, with its title; `statistics` are its rows by region."""
    rows = []
    for title, group, found in zip(titles, groups, statistics, strict=True):
        metrics = image_metrics(group)
        first = next((row for row in found if row["index"] == "n/a"), None)
        rows.append(
            (
                title,
                str(len({scan.key.subject for scan in group.scans})),
                str(len(group.scans)),
                str(len({scan.key.subject for scan in group.measured})),
                _estimate(metrics.get("psnr_brain"), ".1f"),
                _estimate(metrics.get("ssim_brain"), ".3f"),
                *(_with_ends(first, name, digits) for name, digits in COMPOSITE_SUMMARY),
            )
        )
    head = (
        *("Tracer", "People", "Sessions", "People with measured PET", "PSNR, dB", "SSIM"),
        *("r, composite", "ICC, composite", "Bias, composite"),
    )
    return Grid("Each tracer, with 95% bootstrap intervals over people", head, rows)


def positivity_grid(check: Positivity) -> Grid | None:
    """A row for each predictor; None where nothing was computed."""
    if not check.predictions:
        return None
    rows = [
        (
            found.predictor,
            "yes" if found.learned else "no",
            _interval(*found.auc, ".2f"),
            _interval(*found.balanced_accuracy, ".2f"),
        )
        for found in check.predictions
    ]
    first = check.predictions[0]
    caption = (
        f"{check.group.title}: {first.positive} of {first.people} people are positive on measured "
        f"PET (at least {check.cutoff})"
    )
    return Grid(caption, ("Told by", "Learned here", "AUC", "Balanced accuracy"), rows)


def comparison_grids(found: Comparison) -> list[Grid]:
    """Differences of whole images and of the main regions, as far as there are any."""
    images = [d for d in found.differences if d.region == "n/a"]
    main = main_regions(found.first)
    shown = {found.first.layout.regions[row] for row in main}
    kinds = {REGIONAL_ERROR: "absolute error, SUVR", PEARSON: "r between people"}
    regions = [d for d in found.differences if d.region in shown and d.measure in kinds]
    head = ("Measure", "People", "First", "Second", "Difference", "p", "Nearer to measured PET")
    grids = []
    if images:
        cells = [_difference_cells(d, _metric_name(d.measure)) for d in images]
        grids.append(Grid("Whole images", head, cells))
    if regions:
        cells = [_difference_cells(d, f"{d.region}, {kinds[d.measure]}") for d in regions]
        grids.append(Grid("Main regions", head, cells, sortable=True))
    return grids


def _metric_name(column: str) -> str:
    """``psnr_brain`` in words."""
    metric, place = column.split("_")
    return f"{METRIC_NAMES[metric][0]}, {'in the brain' if place == 'brain' else 'whole image'}"


def _difference_cells(found: Difference, name: str) -> Cells:
    p = found.p_fdr if found.region != "n/a" else found.p
    return (
        name,
        str(found.people),
        number(found.first, ".3f"),
        number(found.second, ".3f"),
        _interval(found.difference, found.low, found.high, "+.3f"),
        "n/a" if math.isnan(p) else ("< 0.001" if p < 0.001 else f"{p:.3f}"),
        ("not shown", "first", "second")[found.nearer],
    )


def number(value: float, digits: str) -> str:
    """A number as text, ``n/a`` where it is not known."""
    return f"{value:{digits}}" if math.isfinite(value) else "n/a"


def _range(low: float, high: float, digits: str) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return "n/a"
    return f"{low:{digits}} to {high:{digits}}"


def _interval(value: float, low: float, high: float, digits: str) -> str:
    """``22.1 [21.0, 23.2]``, without the interval where it is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return number(value, digits)
    return f"{value:{digits}} [{low:{digits}}, {high:{digits}}]"


def _estimate(found: Estimate | None, digits: str) -> str:
    return _interval(found.value, found.low, found.high, digits) if found else "n/a"


def _with_ends(row: Row | None, name: str, digits: str) -> str:
    if row is None:
        return "n/a"
    return _interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)
