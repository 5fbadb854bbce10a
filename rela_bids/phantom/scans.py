"""The images of one session of a phantom, each on its own grid."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from rela_bids.phantom.anatomy import Head
from rela_bids.phantom.base import rigid_matrix
from rela_bids.phantom.mri import (
    acquire,
    contrast_image,
    draw_acquisition,
    draw_flair_contrast,
    draw_t1w_contrast,
)
from rela_bids.phantom.pet import noise
from rela_bids.phantom.sidecars import HALF_LIFE, Frames
from rela_bids.tracers import Tracer
from rela_bids.transforms import resample
from rela_bids.volumes import Array, Grid

# The field of view of whole heads, mm, and its centre in the scanner.
FIELD_OF_VIEW = (200.0, 248.0, 236.0)
FOV_CENTRE = (0.0, -6.0, -16.0)

# Standard deviations of the true positions, mm and degrees, and the most they may be.
FLAIR_SHIFT, FLAIR_TURN = 1.0, 1.0
PET_SHIFT, PET_TURN, PET_MOST = 3.5, 3.5, 8.0
FRAME_SHIFT, FRAME_TURN = 0.4, 0.3

PET_VOXEL = 2.2
REFERENCE_BQ_PER_ML = 5300.0
WASHOUT_SECONDS = 7200.0

# SUVR contrast of a frame before the window, relative to that within.
EARLY_CONTRAST = 0.6


def head_grid(voxel_size: float) -> Grid:
    """Grid of the T1w."""
    shape = tuple(round(length / voxel_size) for length in FIELD_OF_VIEW)
    return Grid.about(FOV_CENTRE, shape, voxel_size)


def t1w_scan(rng: np.random.Generator, head: Head) -> nib.Nifti1Image:
    """T1w on the head's own grid, int16."""
    return _scan(rng, contrast_image(head, draw_t1w_contrast(rng)), head.grid)


def flair_scan(rng: np.random.Generator, head: Head) -> tuple[nib.Nifti1Image, NDArray[np.float64]]:
    """FLAIR on its own grid, int16, and the matrix from its RAS+ mm to those of the T1w."""
    points_to_t1w = rigid_matrix(rng.normal(0, FLAIR_SHIFT, 3), rng.normal(0, FLAIR_TURN, 3))
    grid = head_grid(1.1 * head.grid.voxel_size)
    signal = head.grid.image(contrast_image(head, draw_flair_contrast(rng)))
    seen = resample(signal, grid.image(np.zeros(grid.shape, np.float32)), points_to_t1w)
    return _scan(rng, seen.get_fdata(dtype=np.float32), grid), points_to_t1w


def _scan(rng: np.random.Generator, signal: Array, grid: Grid) -> nib.Nifti1Image:
    acquisition = draw_acquisition(rng, bias=1.0, may_be_2d=False)
    data = acquire(rng, signal, grid.voxel_size, acquisition)
    return grid.image(np.clip(np.rint(data), 0, 32767).astype(np.int16))


@dataclass(frozen=True)
class PetScan:
    """A dynamic PET, (X, Y, Z, frames), Bq/mL, and where each frame truly lies.

    Attributes
    ----------
    points_to_t1w : from its RAS+ mm to the T1w's, (4, 4), the middle of the frames' positions.
    frame_points_to_t1w : the same for each frame.
    """

    image: nib.Nifti1Image
    points_to_t1w: NDArray[np.float64]
    frame_points_to_t1w: list[NDArray[np.float64]]


def pet_scan(
    rng: np.random.Generator, seen: Array, head: Head, tracer: Tracer, frames: Frames
) -> PetScan:
    """The dynamic PET of `seen`, SUVR at the scanner's resolution on the head's grid."""
    points_to_t1w = rigid_matrix(
        np.clip(rng.normal(0, PET_SHIFT, 3), -PET_MOST, PET_MOST),
        np.clip(rng.normal(0, PET_TURN, 3), -PET_MOST, PET_MOST),
    )
    grid = head_grid(max(PET_VOXEL, 1.2 * head.grid.voxel_size))
    reference = grid.image(np.zeros(grid.shape, np.float32))
    counts = [_counts(tracer, *frame) for frame in zip(frames.start, frames.duration, strict=True)]
    level = rng.uniform(0.02, 0.05)
    volumes, positions = [], []
    for index, inside in enumerate(frames.in_window(tracer)):
        motion = rigid_matrix(rng.normal(0, FRAME_SHIFT, 3), rng.normal(0, FRAME_TURN, 3))
        early = not inside and index == 0
        suvr = (1 - EARLY_CONTRAST) * (seen > 0.1) + EARLY_CONTRAST * seen if early else seen
        position = points_to_t1w @ motion
        volume = resample(head.grid.image(suvr), reference, position)
        noise_level = level * np.sqrt(len(counts) * max(counts) / counts[index]) / 2
        activity = noise(
            rng, volume.get_fdata(dtype=np.float32), noise_level, 1.7 / grid.voxel_size
        )
        decline = np.exp(-frames.start[index] / WASHOUT_SECONDS)
        volumes.append(activity * np.float32(REFERENCE_BQ_PER_ML * decline))
        positions.append(position)
    image = nib.Nifti1Image(np.stack(volumes, axis=-1), grid.affine)
    return PetScan(image, points_to_t1w, positions)


def _counts(tracer: Tracer, start: float, duration: float) -> float:
    """What noise goes by: the decays of a frame, up to a factor."""
    middle = start + duration / 2
    return duration * 0.5 ** (middle / HALF_LIFE[tracer.radionuclide])


def segmentations(head: Head) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Tissues (`sidecars.TISSUE_LABELS`) and regions (FreeSurfer's numbers) within the brain.

    White matter is the cerebrum's (2, 41), the cerebellum's (7, 46) or a lesion (77); CSF is in a
    lateral ventricle (4, 43) or elsewhere (24).
    """
    names = ("grey", "white", "csf", "lesion")
    largest = np.argmax(np.stack([head.tissues[name] for name in names]), axis=0)
    tissues = np.where(head.brain, largest + 1, 0).astype(np.uint8)
    right = np.where(head.left, 0, 1).astype(np.int16)
    cerebellar = np.isin(head.labels, (8, 47))
    white = np.where(cerebellar, np.array([7, 46])[right], np.array([2, 41])[right])
    deep = (head.labels < 1000) & ~cerebellar
    csf = np.where(head.ventricle < 0, np.array([4, 43])[right], 24)
    solid = np.where(deep, head.labels, white)
    regions = np.select(
        [tissues == 1, tissues == 2, tissues == 3, tissues == 4], [head.labels, solid, csf, 77], 0
    )
    return tissues, regions.astype(np.int16)
