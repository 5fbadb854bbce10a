"""Pictures for the report: volumes in, WebP out; pure functions.

Volumes here are (X, Y, Z) arrays of cubic voxels of 1 mm whose axes run to the person's right,
front and top. Pictures have the person's left on the left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import nibabel as nib
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from rela_bids.exceptions import BadDataError
from rela_bids.transforms import Matrix, isotropic, resample
from rela_bids.volumes import Array

Pixels = NDArray[np.uint8]
Box = tuple[slice, slice, slice]

VOXEL = 1.0
ENLARGED = 1.5
# axis, slices in the row, letters on the left and right of the row's first picture
ROWS = ((2, 7, "LR"), (1, 7, "LR"), (0, 6, "PA"))
GAP = 6
PET_COLOURS, STD_COLOURS = "inferno", "viridis"
OUTLINE, TISSUE = (255, 64, 64), (255, 210, 64)


@dataclass(frozen=True)
class Contour:
    """Edge of the part of `volume` above `level`, so many pixels wide."""

    volume: Array
    level: float
    colour: tuple[int, int, int]
    width: int = 1


@dataclass(frozen=True)
class Overlay:
    """`volume` in colours from 0 to `upper`, where `inside` is above a half."""

    volume: Array
    inside: Array
    upper: float
    colours: str
    unit: str = "SUVR"


def brain_box(mask: nib.Nifti1Image, margin: float) -> Box:
    """The voxels of `mask` within `margin` mm of the brain's bounding box.

    Raises
    ------
    BadDataError
        If the mask is empty.
    """
    found = ndimage.find_objects((np.asarray(mask.dataobj) > 0).astype(np.uint8))
    if not found or found[0] is None:
        raise BadDataError("the brain mask is empty: there is nothing to draw")
    more = np.ceil(margin / np.linalg.norm(mask.affine[:3, :3], axis=0)).astype(int)
    x, y, z = (
        slice(max(s.start - m, 0), min(s.stop + m, n))
        for s, m, n in zip(found[0], more, mask.shape, strict=True)
    )
    return x, y, z


def upright(image: nib.Nifti1Image, box: Box) -> Array:
    """The `box` of an image at 1 mm, its axes turned the nearest way to right, front and top.

    Images on one grid give volumes on one grid. Axes of an oblique scan stay oblique, so that
    thick slices are not interpolated across.
    """
    return np.asarray(_upright(image, box).dataobj)


def _upright(image: nib.Nifti1Image, box: Box) -> nib.Nifti1Image:
    start = np.eye(4)
    start[:3, 3] = [s.start for s in box]
    data = np.asarray(image.dataobj, dtype=np.float32)[box]
    cropped = nib.Nifti1Image(data, image.affine @ start)
    if not np.allclose(cropped.header.get_zooms(), VOXEL, atol=1e-3):
        cropped = isotropic(cropped, VOXEL)
    return nib.as_closest_canonical(cropped)


def mask_figure(t1w: Array, mask: Array) -> bytes:
    """Edge of the brain mask on the T1w."""
    return mosaic(grey(t1w, mask), mask, [Contour(mask, 0.5, OUTLINE, 2)])


def flair_figure(flair: Array, t1w: Array, mask: Array) -> bytes:
    """Edges of the brain and of white matter, both taken from the T1w, on the FLAIR."""
    return mosaic(grey(flair, mask), mask, _edges(t1w, mask))


def template_figure(t1w: nib.Nifti1Image, to_template: Matrix, template: nib.Nifti1Image) -> bytes:
    """Edges of the template's brain and white matter on the T1w in template space.

    `to_template` maps RAS+ mm of the template to RAS+ mm of the T1w; `template` is stripped.
    """
    brain = nib.Nifti1Image((np.asarray(template.dataobj) > 0).astype(np.uint8), template.affine)
    box = brain_box(brain, 8.0)
    there, inside = _upright(template, box), upright(brain, box)
    moved = np.asarray(resample(t1w, there, to_template).dataobj)
    return mosaic(grey(moved, inside), inside, _edges(np.asarray(there.dataobj), inside))


def pet_figure(pet: Array, shades: Array, mask: Array, upper: float, colours: str) -> bytes:
    """PET, or its standard deviation, SUVR from 0 to `upper`, over the T1w's `shades`."""
    return mosaic(shades, mask, overlay=Overlay(pet, mask, upper, colours))


def grey(volume: Array, mask: Array) -> Array:
    """An MRI in shades from 0 to 1: nearly the range of the brain, whatever skull and fat are."""
    low, high = np.percentile(volume[mask > 0.5][::3], [1, 99.5])
    black = 0.8 * low
    return np.clip((volume - black) / max(high - black, 1e-6), 0, 1)


def _edges(t1w: Array, mask: Array) -> list[Contour]:
    """Of white matter, by the T1w's intensities, and of the brain."""
    from skimage.filters import threshold_multiotsu

    inside = mask > 0.5
    smooth = ndimage.gaussian_filter(np.where(inside, t1w, 0), 0.7)
    level = float(threshold_multiotsu(smooth[inside][::7], classes=3, nbins=128)[-1])
    return [Contour(smooth, level, TISSUE), Contour(mask, 0.5, OUTLINE, 2)]


def mosaic(
    background: Array,
    mask: Array,
    contours: Sequence[Contour] = (),
    overlay: Overlay | None = None,
) -> bytes:
    """Axial, coronal and sagittal slices through the brain, a row each, as WebP.

    `background` is from 0 to 1; `mask` says where the brain is.
    """
    rows = [
        [
            cell_pixels(background, contours, overlay, axis, index)
            for index in _positions(mask, axis, count)
        ]
        for axis, count, _ in ROWS
    ]
    picture, corners = _put_together(rows)
    image = Image.fromarray(picture)
    for (left, top), row, (_, _, letters) in zip(corners, rows, ROWS, strict=True):
        write_sides(image, left, top, row[0].shape[1], letters)
    if overlay is not None:
        image = _with_colour_bar(image, overlay)
    return webp(image)


def _positions(mask: Array, axis: int, count: int) -> NDArray[np.int_]:
    """Slices spread over the middle nine tenths of the brain."""
    others = tuple(i for i in range(3) if i != axis)
    found = np.flatnonzero((mask > 0.5).any(axis=others))
    margin = 0.1 * (found[-1] - found[0])
    return np.linspace(found[0] + margin, found[-1] - margin, count).round().astype(int)


def _section(volume: Array, axis: int, index: int) -> Array:
    """One slice as rows of pixels from the top, enlarged."""
    pixels = np.flipud(np.take(volume, index, axis).T).astype(np.float32)
    height, width = (round(n * ENLARGED) for n in pixels.shape)
    enlarged = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(enlarged)


def cell_pixels(
    background: Array,
    contours: Sequence[Contour],
    overlay: Overlay | None,
    axis: int,
    index: int,
) -> Pixels:
    """One slice, enlarged, with what lies over it; rows of pixels from the top."""
    shades = np.repeat(_section(background, axis, index)[..., None] * 255, 3, axis=-1)
    if overlay is not None:
        values = _section(overlay.volume, axis, index) / overlay.upper
        inside = (_section(overlay.inside, axis, index) > 0.5)[..., None]
        coloured = colormaps[overlay.colours](values)[..., :3] * 255
        # Opaque: blended with the T1w, colours would leave the bar and show the T1w's gyri.
        shades = np.where(inside, coloured, shades)
    for contour in contours:
        inside = _section(contour.volume, axis, index) > contour.level
        inner = ndimage.binary_erosion(inside, iterations=contour.width)
        shades[inside & ~inner] = contour.colour
    return shades.clip(0, 255).astype(np.uint8)


def _put_together(rows: Sequence[Sequence[Pixels]]) -> tuple[Pixels, list[tuple[int, int]]]:
    """Rows one above the other on black, and the left upper corner of each."""
    widths = [sum(cell.shape[1] + GAP for cell in row) - GAP for row in rows]
    heights = [row[0].shape[0] + GAP for row in rows]
    picture = np.zeros((sum(heights) - GAP, max(widths), 3), np.uint8)
    corners, top = [], 0
    for row, width, height in zip(rows, widths, heights, strict=True):
        left = (picture.shape[1] - width) // 2
        corners.append((left, top))
        for cell in row:
            picture[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
            left += cell.shape[1] + GAP
        top += height
    return picture, corners


def write_sides(image: Image.Image, left: int, top: int, width: int, letters: str) -> None:
    """The two letters in the upper corners of a cell."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=20)
    for letter, x, anchor in ((letters[0], left + 4, "la"), (letters[1], left + width - 4, "ra")):
        draw.text((x, top + 4), letter, "white", font, anchor, stroke_width=2, stroke_fill="black")


def _with_colour_bar(image: Image.Image, overlay: Overlay) -> Image.Image:
    """The picture with the colours' scale on its right."""
    wide = Image.new("RGB", (image.width + 96, image.height))
    wide.paste(image)
    top, bottom, left = 60, image.height - 40, image.width + 16
    shades = colormaps[overlay.colours](np.linspace(1, 0, bottom - top))[:, None, :3] * 255
    wide.paste(Image.fromarray(np.repeat(shades, 22, axis=1).astype(np.uint8)), (left, top))
    draw, font = ImageDraw.Draw(wide), ImageFont.load_default(size=20)
    draw.text((left, 18), overlay.unit, "white", font)
    for part in (0, 0.5, 1):
        y = round(bottom - part * (bottom - top))
        draw.line((left + 22, y, left + 28, y), "white", 2)
        draw.text((left + 32, y), f"{part * overlay.upper:.3g}", "white", font, "lm")
    return wide


def webp(image: Image.Image, quality: int = 82) -> bytes:
    """A picture as WebP, which is a fifth of the same as PNG."""
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
