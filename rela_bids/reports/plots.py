"""Plots as SVG, the same bytes for the same numbers."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rela_bids.reports.summary import RegionRecord

# Okabe and Ito's colours, told apart by the colour-blind, without the yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
DARK = "#00583f"
WIDTH = 9.0
NOT_A_LOSS = ("step", "epoch", "seconds", "learning_rate")


def curve_plot(rows: Sequence[Mapping[str, str]], labels: Sequence[str]) -> bytes:
    """Losses, and held-out PSNR of each tracer with that of the mean PET, against steps.

    `rows` are those of ``training.tsv``.
    """
    figure = Figure((WIDTH, 7.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    names = [name for name in (rows[0] if rows else ()) if name not in NOT_A_LOSS]
    losses = [name for name in names if "psnr_" not in name]
    for number, name in enumerate(losses):
        style = "--" if name.startswith("discriminator") else "-"
        _line(above, rows, name, name.replace("_", " "), number, style)
    above.set(ylabel="loss", yscale="log")
    for number, label in enumerate(labels):
        _line(below, rows, f"psnr_{label}", label, number, "-", marker="o")
        _line(below, rows, f"mean_pet_psnr_{label}", f"{label}, mean PET", number, ":")
    below.set(ylabel="PSNR of held-out people, dB", xlabel="steps of training")
    for axes in (above, below):
        _finish(axes)
    return as_svg(figure)


def scores_plot(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """A panel for each tracer: PSNR of the mean PET and of synthetic PET, a point for each person.

    `pairs` are (mean PET, synthetic), dB, by the panel's title.
    """
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure = Figure((WIDTH, 0.4 + rows * WIDTH / 3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    every = [value for found in pairs.values() for pair in found for value in pair]
    low, high = min(every) - 1, max(every) + 1
    for axes, (title, found) in zip(panels, pairs.items(), strict=False):
        axes.plot([low, high], [low, high], color="0.4", linewidth=1)
        axes.fill_between([low, high], [low, high], [high, high], color=COLOURS[2], alpha=0.1)
        x, y = zip(*found, strict=True)
        axes.scatter(x, y, s=28, color=COLOURS[0], alpha=0.7, edgecolor="white", linewidth=0.5)
        axes.set_title(title, fontsize=10)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.text(low + 0.3, high - 0.3, "synthetic is nearer", va="top", color=DARK, fontsize=9)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    figure.supxlabel("PSNR of the mean PET, dB", fontsize=10)
    figure.supylabel("PSNR of synthetic PET, dB", fontsize=10)
    return as_svg(figure)


def profile_plot(regions: Sequence[RegionRecord]) -> bytes:
    """SUVR of synthetic PET with the spread of its samples, and of measured PET, region by region.

    A panel for each side; one where the regions have none.
    """
    sides = list(dict.fromkeys(region.side for region in regions))
    names = list(dict.fromkeys(region.region for region in regions))
    figure = Figure((WIDTH, 1.3 + 0.24 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(sides), sharey=True, sharex=True, squeeze=False)[0]
    for axes, side in zip(panels, sides, strict=True):
        here = [region for region in regions if region.side == side and region.mean is not None]
        places = [names.index(region.region) for region in here]
        spread = [region.std or 0.0 for region in here]
        means = [region.mean for region in here]
        axes.errorbar(
            means,
            places,
            xerr=spread,
            fmt="o",
            color=COLOURS[0],
            markersize=5,
            capsize=2,
            label="synthetic ± std of samples",
        )
        seen = [(r.measured, names.index(r.region)) for r in here if r.measured is not None]
        if seen:
            axes.plot(
                *zip(*seen, strict=True), "D", color=COLOURS[1], markersize=5, label="measured"
            )
        axes.set(title=side, xlabel="SUVR")
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return as_svg(figure)


def _line(
    axes: Axes,
    rows: Sequence[Mapping[str, str]],
    column: str,
    label: str,
    number: int,
    style: str,
    marker: str = "",
) -> None:
    known = [row for row in rows if row.get(column, "n/a") != "n/a"]
    if known:
        axes.plot(
            [int(row["step"]) for row in known],
            [float(row[column]) for row in known],
            linestyle=style,
            marker=marker if len(known) < 50 else "",
            markersize=4,
            color=COLOURS[number % len(COLOURS)],
            label=label,
        )


def _finish(axes: Axes) -> None:
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
    else:
        axes.text(0.5, 0.5, "too short a training for any", ha="center", transform=axes.transAxes)


def as_svg(figure: Figure, dpi: float = 100) -> bytes:
    """A figure as SVG; what is drawn as pixels has `dpi` of them per inch."""
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "rela_bids", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", dpi=dpi, metadata={"Date": None})
    return buffer.getvalue()
