"""A measured PET beside the synthetic one: pictures and the numbers that go with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rela_bids.regional_table import RegionalRow
from rela_bids.reports import figures, viewer
from rela_bids.reports.comparison import DIFFERENCE_COLOURS, DIFFERENCE_PART, comparison_figure
from rela_bids.reports.plots import profile_plot
from rela_bids.reports.regional import main_regions
from rela_bids.reports.session import SIDES, load_image
from rela_bids.reports.summary import FigureRecord, LayerRecord, MeasuredRecord
from rela_bids.tracers import Tracer


@dataclass(frozen=True)
class MeasuredImages:
    """Files of one tracer in one session, on the T1w grid; PET in SUVR."""

    t1w: Path
    brain_mask: Path
    measured: Path
    synthetic: Path
    tracer: Tracer


def draw_measured(
    images: MeasuredImages,
    *,
    synthetic: Sequence[RegionalRow],
    measured: Sequence[RegionalRow],
    agreement: Mapping[str, float],
    pet: Mapping[str, Any],
    prefix: str,
) -> tuple[MeasuredRecord, dict[str, bytes]]:
    """The record of a comparison, and its pictures by file name.

    Parameters
    ----------
    synthetic, measured : tables of regional SUVR; empty where no regions are wanted.
    agreement : as `rela_bids.quantification.Agreement`.
    pet : as `rela_bids.pet_target.report` has it.
    prefix : what file names begin with, ``sub-01_ses-1``.
    """
    tracer, content = images.tracer, {}
    start = f"{prefix}_trc-{tracer.label}"
    mask_image = load_image(images.brain_mask)
    box = figures.brain_box(mask_image, 4.0)
    mask = figures.upright(mask_image, box)
    t1w, real, made = (
        figures.upright(load_image(path), box)
        for path in (images.t1w, images.measured, images.synthetic)
    )
    drawn = [_comparison(tracer, f"{start}_desc-comparison_pet.webp")]
    content[drawn[0].file] = comparison_figure(
        t1w, mask, measured=real, synthetic=made, std=None, suvr_scale=tracer.suvr_scale
    )
    if measured:
        drawn.append(_profile(tracer, f"{start}_desc-profile_suvr.svg"))
        content[drawn[1].file] = profile_plot(main_regions(synthetic, measured))
    layers = []
    limit = DIFFERENCE_PART * tracer.suvr_scale
    for kind, volume, lower, upper, colours in (
        ("measured", real, 0.0, tracer.suvr_scale, figures.PET_COLOURS),
        ("difference", made - real + np.float32(limit), -limit, limit, DIFFERENCE_COLOURS),
    ):
        file = f"{start}_desc-{kind}_sheet.webp"
        content[file] = viewer.pet_sheet(volume, mask, upper - lower, colours)
        layers.append(LayerRecord(tracer.label, tracer.name, kind, upper, file, lower))
    record = MeasuredRecord(tracer.label, dict(agreement), dict(pet), tuple(drawn), tuple(layers))
    return record, content


def _comparison(tracer: Tracer, file: str) -> FigureRecord:
    return FigureRecord(
        "comparison",
        "Measured and synthetic PET",
        f"From the left: T1w, measured {tracer.name} PET, synthetic PET (mean of the samples), and "
        "synthetic minus measured (red: too high, blue: too low). Both PET have one scale. "
        f"{SIDES}",
        f"Slices of the T1w image, of measured and of synthetic {tracer.name} PET, and of their "
        "difference, side by side.",
        file,
        tracer.label,
    )


def _profile(tracer: Tracer, file: str) -> FigureRecord:
    return FigureRecord(
        "profile",
        "Regional profile",
        f"SUVR of {tracer.name} in main regions. Blue: synthetic, the bar is the standard "
        "deviation over samples, how much they differ and not how far they are from the truth. "
        "Orange: measured.",
        f"Plot of the SUVR of synthetic and of measured {tracer.name} PET in each main region, "
        "left and right; the same numbers are in the table of regions.",
        file,
        tracer.label,
    )
