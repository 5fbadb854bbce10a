"""Plots over people, a panel for each region, as SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rela_bids.group.statistics import Values
from rela_bids.reports.plots import COLOURS, WIDTH, as_svg

COLUMNS = 3

# More points than this are drawn as pixels: a person's mark in SVG takes a hundred bytes.
MOST_MARKS = 150
PIXELS_PER_INCH = 130


@dataclass(frozen=True)
class Panel:
    """A region: SUVR of each person, and the line below its name."""

    region: str
    synthetic: Values
    measured: Values
    line: str


def scatter_plot(panels: Sequence[Panel]) -> bytes:
    """Synthetic against measured SUVR, a point for each person; the line is where both are same."""
    figure = _figure(panels)
    for axes, panel in _panels(figure, panels):
        both = np.concatenate([panel.measured, panel.synthetic])
        low, high = _padded(both)
        axes.plot([low, high], [low, high], color="0.4", linewidth=1)
        _points(axes, panel.measured, panel.synthetic)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    figure.supxlabel("measured, SUVR", fontsize=10)
    figure.supylabel("synthetic, SUVR", fontsize=10)
    return _finished(figure)


def bland_altman_plot(
    panels: Sequence[Panel], limits: Sequence[tuple[float, float, float]]
) -> bytes:
    """Synthetic minus measured against the mean of both; lines are bias and limits of agreement.

    `limits` are bias, lower and upper limit of each panel, SUVR.
    """
    figure = _figure(panels)
    differences = [panel.synthetic - panel.measured for panel in panels]
    low, high = _padded(np.concatenate([*differences, np.ravel(limits), [0.0]]))
    for (axes, panel), difference, lines in zip(
        _panels(figure, panels), differences, limits, strict=True
    ):
        axes.axhline(0, color="0.7", linewidth=1)
        for value, style in zip(lines, ("-", "--", "--"), strict=True):
            if math.isfinite(value):
                axes.axhline(value, color=COLOURS[1], linewidth=1.2, linestyle=style)
        _points(axes, (panel.synthetic + panel.measured) / 2, difference)
        axes.set_ylim(low, high)
    figure.supxlabel("mean of synthetic and measured, SUVR", fontsize=10)
    figure.supylabel("synthetic minus measured, SUVR", fontsize=10)
    return _finished(figure)


def profile_plot(regions: Sequence[tuple[str, Values]]) -> bytes:
    """Synthetic SUVR of people by region: median, quartiles, 5th and 95th percentile."""
    figure = Figure((WIDTH, 0.9 + 0.42 * len(regions)), layout="constrained")
    axes = figure.subplots()
    for row, (_, values) in enumerate(regions):
        least, low, middle, high, most = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
        axes.hlines(row, least, most, color=COLOURS[0], linewidth=1.2)
        axes.hlines(row, low, high, color=COLOURS[0], linewidth=7, alpha=0.5)
        axes.plot(middle, row, "o", color=COLOURS[1], markersize=5)
    axes.set_yticks(range(len(regions)), labels=[name for name, _ in regions], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("synthetic, SUVR")
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return _finished(figure)


def _figure(panels: Sequence[Panel]) -> Figure:
    rows = math.ceil(len(panels) / COLUMNS)
    return Figure((WIDTH, 0.4 + rows * (WIDTH / COLUMNS + 0.3)), layout="constrained")


def _panels(figure: Figure, panels: Sequence[Panel]) -> Iterator[tuple[Axes, Panel]]:
    rows = math.ceil(len(panels) / COLUMNS)
    every = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(every, panels, strict=False):
        axes.set_title(f"{panel.region}\n{panel.line}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.93")
        yield axes, panel


def _points(axes: Axes, x: Values, y: Values) -> None:
    many = x.size > MOST_MARKS
    axes.scatter(
        x,
        y,
        s=9 if many else 26,
        color=COLOURS[0],
        alpha=0.45 if many else 0.7,
        linewidth=0,
        rasterized=many,
    )


def _padded(values: Values) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    pad = 0.05 * (high - low) or 0.1
    return low - pad, high + pad


def _finished(figure: Figure) -> bytes:
    return as_svg(figure, dpi=PIXELS_PER_INCH)
