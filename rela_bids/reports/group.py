"""The group's page: agreement with measured PET, models side by side, worst cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rela_bids.atomic import write_text
from rela_bids.group.findings import Findings
from rela_bids.group.records import MEAN
from rela_bids.group.statistics import Group, average, image_metrics, pairs_of
from rela_bids.group.tables import Row
from rela_bids.reports import group_grids as grids
from rela_bids.reports.group_grids import Grid, number
from rela_bids.reports.group_plots import Panel, bland_altman_plot, profile_plot, scatter_plot
from rela_bids.reports.page import render_page
from rela_bids.reports.training import Picture


@dataclass(frozen=True)
class Section:
    """What the page shows of one group; `number` tells its place on the page."""

    group: Group
    number: int
    title: str
    pictures: Sequence[Picture]
    tables: Sequence[Grid]
    every_region: Grid | None
    worst: Grid | None


def write_group_report(path: Path, findings: Findings) -> Path:
    """Write the page.

    Raises
    ------
    CannotWriteError
        If it cannot be written.
    """
    return write_text(path, render_group(path.parent, findings))


def render_group(root: Path, findings: Findings) -> str:
    """The HTML of the page; links lead to the reports of people that are in `root`."""
    groups = findings.groups
    several = len({group.variant for group in groups}) > 1
    sections = [
        _section(root, group, rows, place, several=several)
        for place, (group, rows) in enumerate(zip(groups, findings.statistics, strict=True), 1)
    ]
    compared = [found.second for found in findings.comparisons]
    models = {group.variant.sha256: group.variant for group in (*groups, *compared)}
    scans = [scan for group in groups for scan in group.scans]
    titles = [section.title for section in sections]
    return render_page(
        "group.html",
        script="sort.js",
        title="Synthetic PET of the group",
        models=list(models.values()),
        simulated=any(variant.simulated for variant in models.values()),
        people=len({scan.key.subject for scan in scans}),
        sessions=len({(scan.key.subject, scan.key.session) for scan in scans}),
        measured=any(group.measured for group in groups),
        cautions=findings.cautions(),
        problems=findings.problems,
        flagged=grids.flagged_grid(root, findings.outcomes),
        overview=grids.overview_grid(titles, groups, findings.statistics),
        sections=sections,
        positivity=[
            (title, check, grids.positivity_grid(check))
            for title, check in zip(titles, findings.positivity, strict=True)
        ],
        comparisons=[(found, grids.comparison_grids(found)) for found in findings.comparisons],
        every_scan=grids.scans_grid(root, groups, several=several),
    )


def _section(
    root: Path, group: Group, rows: Sequence[Row], place: int, *, several: bool
) -> Section:
    title = group.title + (f", {group.variant.label}" if several else "")
    shown = grids.main_regions(group)
    pictures, tables = [], []
    if group.measured:
        tables = [grids.image_grid(image_metrics(group))]
        if shown:
            short = [rows[row] for row in shown]
            pictures = _agreement_pictures(group, shown, short, title)
            tables.append(grids.region_grid(f"Main regions, {title}", short))
        every = grids.region_grid(f"Every region, {title}", rows)
    else:
        pictures = [_profile(group, shown, title)] if shown else []
        every = grids.synthetic_grid(f"Every region, {title}", rows)
    return Section(
        group=group,
        number=place,
        title=title,
        pictures=pictures,
        tables=tables,
        every_region=every if rows else None,
        worst=grids.worst_grid(root, group) if group.measured else None,
    )


def _agreement_pictures(
    group: Group, shown: Sequence[int], rows: Sequence[Row], title: str
) -> list[Picture]:
    pairs = pairs_of(group)
    panels, limits = [], []
    for region, row in zip(shown, rows, strict=True):
        known = np.isfinite(pairs.synthetic[:, region])
        if known.any():
            line = f"r {number(row['pearson_r'], '.2f')}, ICC {number(row['icc21'], '.2f')}"
            synthetic, measured = pairs.synthetic[known, region], pairs.measured[known, region]
            panels.append(Panel(str(row["region"]), synthetic, measured, line))
            limits.append((row["bias"], row["limit_low"], row["limit_high"]))
    if not panels:
        return []
    count = len(pairs.people)
    people = f"{count} people" if count > 1 else "1 person"
    named = ", ".join(f"{panel.region} ({panel.line})" for panel in panels)
    agree = ", ".join(
        f"{panel.region} {number(bias, '+.2f')} ({number(low, '+.2f')} to {number(high, '+.2f')})"
        for panel, (bias, low, high) in zip(panels, limits, strict=True)
    )
    return [
        Picture(
            "scatter.svg",
            scatter_plot(panels),
            "Synthetic against measured",
            f"A point is a person ({people}), whose sessions are averaged; on the line both are "
            "the same. A flat cloud means that the model gives everybody about the same.",
            f"{title}, synthetic against measured SUVR, a panel for each region: {named}.",
        ),
        Picture(
            "bland_altman.svg",
            bland_altman_plot(panels, limits),
            "Bland–Altman",
            "A point is a person. Lines: the bias and, dashed, the limits of agreement, between "
            "which 95% of differences are expected. A cloud that slopes down means that high "
            "values are made too low and low ones too high.",
            f"{title}, synthetic minus measured SUVR against their mean, a panel for each region. "
            f"Bias and limits of agreement: {agree}.",
        ),
    ]


def _profile(group: Group, shown: Sequence[int], title: str) -> Picture:
    owners = [scan.key.participant_id for scan in group.scans]
    people = tuple(dict.fromkeys(owners))
    values = average(owners, people, np.array([scan.values[:, MEAN] for scan in group.scans]))
    columns = [(row, values[np.isfinite(values[:, row]), row]) for row in shown]
    known = [(group.layout.regions[row], found) for row, found in columns if found.size]
    medians = ", ".join(f"{name} {np.median(found):.2f}" for name, found in known)
    return Picture(
        "profile.svg",
        profile_plot(known),
        "Synthetic SUVR of these people",
        "The point is the median, the bar the middle half, the line the 5th to the 95th percentile "
        "of people.",
        f"{title}, synthetic SUVR by region, medians: {medians}.",
    )
