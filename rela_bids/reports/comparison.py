"""T1w, measured and synthetic PET of one person side by side."""

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from rela_bids.held_out import HeldOut
from rela_bids.reports.figures import (
    PET_COLOURS,
    STD_COLOURS,
    Overlay,
    Pixels,
    brain_box,
    cell_pixels,
    grey,
    upright,
    webp,
    write_sides,
)
from rela_bids.reports.session import STD_PART
from rela_bids.volumes import Array, Grid

DIFFERENCE_COLOURS = "RdBu_r"
# Of the tracer's SUVR range, for the ends of the difference's colours.
DIFFERENCE_PART = 0.3

# axis, where in the brain from its left, back or lower end, letters on the sides
SLICES = ((2, 0.36, "LR"), (2, 0.6, "LR"), (1, 0.45, "LR"), (0, 0.36, "PA"))
TITLES = ("T1w", "measured", "synthetic", "difference", "uncertainty")
HEADER, FOOTER = 34, 64
GAP = 16


def held_out_figure(case: HeldOut, grid: Grid, suvr_scale: float) -> bytes:
    """`comparison_figure` of a held-out pair on the model's grid."""
    box = brain_box(grid.image(case.mask.astype(np.uint8)), 4.0)

    def drawn(volume: Array) -> Array:
        return upright(grid.image(volume), box)

    return comparison_figure(
        drawn(case.t1w),
        drawn(case.mask.astype(np.float32)),
        measured=drawn(case.measured),
        synthetic=drawn(case.synthetic),
        std=drawn(case.std),
        suvr_scale=suvr_scale,
    )


def comparison_figure(
    t1w: Array,
    mask: Array,
    *,
    measured: Array,
    synthetic: Array,
    std: Array | None,
    suvr_scale: float,
) -> bytes:
    """T1w, measured PET, synthetic PET, synthetic minus measured, standard deviation, as WebP.

    Volumes as in `rela_bids.reports.figures`. Slices from the top: two axial, a coronal, a
    sagittal; the person's left is on the left. The colours of PET run from 0 to `suvr_scale`, in
    both images and in all people. Of one sample there is no standard deviation.
    """
    shades = grey(t1w, mask) * (mask > 0.5)
    limit = DIFFERENCE_PART * suvr_scale
    difference = synthetic - measured + np.float32(limit)
    columns: list[tuple[Overlay | None, float]] = [
        (None, 0.0),
        (Overlay(measured, mask, suvr_scale, PET_COLOURS), 0.0),
        (Overlay(synthetic, mask, suvr_scale, PET_COLOURS), 0.0),
        (Overlay(difference, mask, 2 * limit, DIFFERENCE_COLOURS), -limit),
    ]
    if std is not None:
        columns.append((Overlay(std, mask, STD_PART * suvr_scale, STD_COLOURS), 0.0))
    black = np.zeros_like(shades)
    rows = [
        [
            cell_pixels(black if overlay else shades, (), overlay, axis, _position(mask, axis, at))
            for overlay, _ in columns
        ]
        for axis, at, _ in SLICES
    ]
    image, width = _table_of(rows)
    for number, (title, (overlay, lowest)) in enumerate(zip(TITLES, columns, strict=False)):
        left = number * (width + GAP)
        font = ImageFont.load_default(size=22)
        middle = left + width // 2
        ImageDraw.Draw(image).text((middle, HEADER // 2), title, "white", font, "mm")
        if overlay is not None:
            _draw_bar(image, left, width, overlay, lowest)
    return webp(image)


def _position(mask: Array, axis: int, at: float) -> int:
    others = tuple(i for i in range(3) if i != axis)
    found = np.flatnonzero((mask > 0.5).any(axis=others))
    return round(found[0] + at * (found[-1] - found[0]))


def _table_of(rows: list[list[Pixels]]) -> tuple[Image.Image, int]:
    """Cells in columns of equal width with room above and below, and that width."""
    width = max(cell.shape[1] for row in rows for cell in row)
    heights = [row[0].shape[0] + GAP for row in rows]
    size = (len(rows[0]) * (width + GAP) - GAP, HEADER + sum(heights) + FOOTER)
    image, top = Image.new("RGB", size), HEADER
    for row, height, (_, _, letters) in zip(rows, heights, SLICES, strict=True):
        for number, cell in enumerate(row):
            left = number * (width + GAP) + (width - cell.shape[1]) // 2
            image.paste(Image.fromarray(cell), (left, top))
            write_sides(image, left, top, cell.shape[1], letters)
        top += height
    return image, width


def _draw_bar(image: Image.Image, left: int, width: int, overlay: Overlay, lowest: float) -> None:
    """The colours of a column below it, with the values of both ends and of the middle."""
    margin, height, top = 24, 16, image.height - FOOTER + 10
    length = width - 2 * margin
    shades = colormaps[overlay.colours](np.linspace(0, 1, length))[None, :, :3] * 255
    bar = np.repeat(shades, height, axis=0).astype(np.uint8)
    image.paste(Image.fromarray(bar), (left + margin, top))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=18)
    for part in (0, 0.5, 1):
        x, value = left + margin + part * length, lowest + part * overlay.upper
        shown = f"{value:+.3g}" if lowest and part != 0.5 else f"{abs(value):.3g}"
        unit = f" {overlay.unit}" if part == 0.5 else ""
        draw.text((x, top + height + 14), shown + unit, "white", font, "mm")
