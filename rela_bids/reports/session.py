"""All pictures of one session, each with the words that go with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from rela_bids.reports import figures, viewer
from rela_bids.reports.summary import (
    FigureRecord,
    LayerRecord,
    Results,
    TracerRecord,
    ViewerRecord,
)
from rela_bids.templates import TEMPLATE_SPACE
from rela_bids.tracers import Tracer
from rela_bids.transforms import Matrix
from rela_bids.volumes import Array

# Of the tracer's SUVR range, for the colours of the standard deviation.
STD_PART = 0.1
SIDES = "The person's left is on the left."


@dataclass(frozen=True)
class SessionImages:
    """Files of a session.

    Attributes
    ----------
    t1w, brain_mask, flair : on the T1w grid; `flair` is None where the session has none.
    to_template : maps RAS+ mm of the template to RAS+ mm of the T1w.
    template : stripped T1w.
    mean, std : SUVR on the T1w grid, per tracer in the order of `tracers`; `std` may be empty.
    """

    t1w: Path
    brain_mask: Path
    flair: Path | None
    to_template: Matrix
    template: Path
    tracers: Sequence[Tracer]
    mean: Sequence[Path]
    std: Sequence[Path]


def draw_session(
    images: SessionImages, mask_quality: Mapping[str, Any], prefix: str
) -> tuple[Results, dict[str, bytes]]:
    """The record of a session's pictures and their content by file name.

    `prefix` is what file names begin with, ``sub-01_ses-1``.
    """
    drawing = _Drawing(prefix)
    t1w_image, mask_image = load_image(images.t1w), load_image(images.brain_mask)
    _draw_anatomy(drawing, images, t1w_image, mask_image)
    inside = np.asarray(mask_image.dataobj) > 0
    box = figures.brain_box(mask_image, 4.0)
    t1w, mask = figures.upright(t1w_image, box), figures.upright(mask_image, box)
    shades = figures.grey(t1w, mask)
    sheet = drawing.keep("desc-t1w_sheet", viewer.t1w_sheet(shades))
    records, layers = [], []
    for number, tracer in enumerate(images.tracers):
        means: dict[str, float] = {}
        for kind, path in _kinds(images, number):
            pet = load_image(path)
            means[kind] = float(np.asarray(pet.dataobj)[inside].mean())
            layers.append(_draw_pet(drawing, tracer, kind, figures.upright(pet, box), shades, mask))
        records.append(
            TracerRecord(
                tracer.label,
                tracer.name,
                tracer.target,
                tracer.reference_region,
                round(means["mean"], 4),
                round(means["std"], 4) if "std" in means else None,
            )
        )
    slices, width, height = viewer.sheet_size(t1w)
    view = ViewerRecord(slices, viewer.COLUMNS, width, height, sheet, tuple(layers))
    results = Results(mask_quality, tuple(records), tuple(drawing.records), view)
    return results, drawing.content


def load_image(path: Path) -> nib.Nifti1Image:
    """An image in memory, read once."""
    image = nib.Nifti1Image.from_filename(path)
    return nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), image.affine)


class _Drawing:
    """Pictures as they are made."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.records: list[FigureRecord] = []
        self.content: dict[str, bytes] = {}

    def keep(self, name: str, content: bytes) -> str:
        file = f"{self.prefix}_{name}.webp"
        self.content[file] = content
        return file

    def add(
        self,
        section: str,
        name: str,
        content: bytes,
        *,
        title: str,
        caption: str,
        alt: str,
        tracer: str = "",
    ) -> None:
        file = self.keep(name, content)
        self.records.append(FigureRecord(section, title, caption, alt, file, tracer))


def _draw_anatomy(
    drawing: _Drawing,
    images: SessionImages,
    t1w_image: nib.Nifti1Image,
    mask_image: nib.Nifti1Image,
) -> None:
    box = figures.brain_box(mask_image, 14.0)
    t1w, mask = figures.upright(t1w_image, box), figures.upright(mask_image, box)
    drawing.add(
        "mask",
        "desc-brain_mask",
        figures.mask_figure(t1w, mask),
        title="Brain mask on T1w",
        caption="Red: edge of the brain mask. It should follow the surface of the brain, with "
        f"neither brain outside it nor skull, eyes or neck inside. {SIDES}",
        alt="Axial, coronal and sagittal slices of the T1w image with the edge of the brain mask "
        "drawn in red.",
    )
    if images.flair is not None:
        flair = figures.upright(load_image(images.flair), box)
        drawing.add(
            "registration",
            "desc-alignment_FLAIR",
            figures.flair_figure(flair, t1w, mask),
            title="FLAIR aligned with T1w",
            caption="The FLAIR image with edges taken from the T1w: red, the brain mask; yellow, "
            "white matter. They should fall on the same edges, ventricles above all.",
            alt="Slices of the FLAIR image with edges of brain and white matter from the T1w image "
            "drawn over it.",
        )
    drawing.add(
        "registration",
        "desc-template_T1w",
        figures.template_figure(t1w_image, images.to_template, load_image(images.template)),
        title="T1w aligned with the template",
        caption=f"The T1w image moved by the affine to the template's space ({TEMPLATE_SPACE}), "
        "with edges taken from the template: red, its brain; yellow, its white matter. Size, tilt "
        "and position should agree; single gyri need not.",
        alt="Slices of the T1w image in template space with edges of the template's brain and "
        "white matter drawn over it.",
    )


def _kinds(images: SessionImages, number: int) -> Iterator[tuple[str, Path]]:
    yield "mean", images.mean[number]
    if images.std:
        yield "std", images.std[number]


def _draw_pet(
    drawing: _Drawing, tracer: Tracer, kind: str, pet: Array, shades: Array, mask: Array
) -> LayerRecord:
    upper = tracer.suvr_scale * (1 if kind == "mean" else STD_PART)
    colours = figures.PET_COLOURS if kind == "mean" else figures.STD_COLOURS
    what = (
        f"Synthetic {tracer.name} PET ({tracer.target}), mean of the samples"
        if kind == "mean"
        else f"Standard deviation of the samples of synthetic {tracer.name} PET"
    )
    drawing.add(
        "pet",
        f"trc-{tracer.label}_desc-{'synth' if kind == 'mean' else 'synthstd'}_pet",
        figures.pet_figure(pet, shades, mask, upper, colours),
        title="Mean" if kind == "mean" else "Uncertainty",
        caption=f"{what}, over the T1w. Colours run from 0 to {upper:g} SUVR in every report of "
        f"this model. {SIDES}"
        + (
            ""
            if kind == "mean"
            else " It says how much samples differ, not how far they are from the truth."
        ),
        alt=f"{what}, in colour over axial, coronal and sagittal slices of the T1w image; 0 to "
        f"{upper:g} SUVR.",
        tracer=tracer.label,
    )
    sheet = viewer.pet_sheet(pet, mask, upper, colours)
    file = drawing.keep(f"trc-{tracer.label}_desc-{kind}_sheet", sheet)
    return LayerRecord(tracer.label, tracer.name, kind, upper, file)
