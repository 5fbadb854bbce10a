"""From the frames of a PET to SUVR, on the T1w and on the model's grid.

Matrices map RAS+ mm of the fixed image to RAS+ mm of the moving one (see `rela_bids.transforms`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids import templates
from rela_bids.exceptions import BadDataError
from rela_bids.frames import PetPlan
from rela_bids.realignment import as_reference, displacement
from rela_bids.registration import (
    COARSE_VOXEL,
    RIGID_COARSE,
    RIGID_FINE,
    TURNS,
    WORKING_VOXEL,
    best_of,
    neighbourhood,
    rotation,
    run_stages,
    similarity,
    turned_about,
)
from rela_bids.tracers import Tracer
from rela_bids.transforms import Matrix, isotropic, resample, to_model_grid
from rela_bids.volumes import UNREADABLE, Array, Grid, valid_affine, without_shear

# Of the starts, so many are worth a registration.
STARTS = 4

# Of the spline by which PET is resampled. Each linear interpolation blurs it by about its voxel's
# size, which costs the cortex percents of its SUVR.
ORDER = 3

# In a reference region, voxels of less than this fraction of its median T1w are mostly CSF.
DARK = 0.5

# The least that has to be left of a reference region: millilitres, and a share of the atlas'.
LEAST_ML, LEAST_SHARE = 1.0, 0.3


def load_frames(plan: PetPlan) -> nib.Nifti1Image:
    """The frames of a plan alone, read one after the other.

    What is not finite becomes 0. Negative values stay: noise about 0 averages out. The grid's axes
    are at right angles (see `rela_bids.volumes.load_volume`).

    Returns
    -------
    (X, Y, Z, frames), float32, in the image's units.

    Raises
    ------
    BadDataError
        If the image cannot be read, or a frame is constant or negative on average.
    """
    frames, affine = [], np.eye(4)
    try:
        image = nib.load(plan.path, keep_file_open=True)
        for index in plan.frames:
            data, affine = without_shear(
                _read_frame(image, index), valid_affine(image.header, plan.path)[0]
            )
            _check_frame(data, plan, index)
            frames.append(data.astype(np.float32))
    except UNREADABLE as error:
        raise BadDataError(
            f"{plan.path} cannot be read as an image ({error}): convert it again"
        ) from error
    return nib.Nifti1Image(np.stack(frames, axis=-1), affine)


def _read_frame(image: nib.Nifti1Image, index: int) -> Array:
    part = image.dataobj[..., index] if len(image.shape) == 4 else image.dataobj
    data = np.asarray(part, dtype=np.float32)
    return np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)


def _check_frame(data: Array, plan: PetPlan, index: int) -> None:
    if data.max() == data.min():
        problem = "is constant"
    elif data.mean() <= 0:
        problem = "is negative on average"
    else:
        return
    raise BadDataError(
        f"{plan.path}: frame {index + 1} {problem}: convert or reconstruct it again, or leave the "
        "session out"
    )


def frames_of(series: nib.Nifti1Image) -> list[nib.Nifti1Image]:
    """Each volume of (X, Y, Z, frames) as an image that is read when it is needed."""
    return [series.slicer[..., index] for index in range(series.shape[3])]


def pet_to_t1w(pet: nib.Nifti1Image, t1w: nib.Nifti1Image, brain_mask: nib.Nifti1Image) -> Matrix:
    """Rigid, mutual information: several starts at 4 mm, then at 2 mm close to the brain.

    The whole head takes part, since scalp and skull show where the brain ends.

    Returns
    -------
    (4, 4), RAS+ mm of the T1w to RAS+ mm of the PET: resamples the PET onto the T1w grid.
    """
    coarse = isotropic(t1w, COARSE_VOXEL), isotropic(pet, COARSE_VOXEL)
    near = np.asarray(neighbourhood(brain_mask, coarse[0], 12.0).dataobj) > 0
    inside = np.asarray(resample(brain_mask, coarse[0], np.eye(4)).dataobj)
    centre = nib.affines.apply_affine(coarse[0].affine, ndimage.center_of_mass(inside))
    centres = centre, as_reference(coarse[1]).centre
    starts = [np.eye(4), *(turned_about(*centres, rotation(*turn)) for turn in TURNS)]
    starts.sort(key=lambda start: -similarity(*coarse, start, near))
    matrix = best_of(*coarse, [RIGID_COARSE], starts[:STARTS], near)
    fine = isotropic(t1w, WORKING_VOXEL), isotropic(pet, WORKING_VOXEL)
    mask = neighbourhood(brain_mask, fine[0], 6.0)
    return run_stages(*fine, [RIGID_FINE], matrix, fixed_mask=mask).matrix


def reference_mask(
    name: str, t1w: nib.Nifti1Image, brain_mask: nib.Nifti1Image, to_template: Matrix
) -> tuple[NDArray[np.bool_], float]:
    """A reference region on the T1w grid, and the volume, ml, that the atlas gives it there.

    An affine alone leaves part of the region in the CSF around it, where there is no uptake: what
    lies outside the brain mask, or is dark in the T1w, is taken out.

    Parameters
    ----------
    to_template : RAS+ mm of the template to RAS+ mm of the T1w.
    """
    region = templates.reference_region(name)
    sizes = np.linalg.norm(t1w.affine[:3, :3], axis=0)
    # As coarse as the T1w, so that half is the edge there too.
    small = isotropic(region, max(float(np.cbrt(sizes.prod())), 1.0))
    share = np.asarray(resample(small, t1w, np.linalg.inv(to_template)).dataobj)
    whole = share > 0.5
    kept = whole & (np.asarray(brain_mask.dataobj) > 0)
    data = np.asarray(t1w.dataobj, dtype=np.float32)
    if kept.any():
        kept &= data > DARK * np.median(data[kept])
    return kept, float(whole.sum() * sizes.prod() / 1000)


@dataclass(frozen=True)
class Suvr:
    """SUVR of one PET.

    Attributes
    ----------
    on_t1w : float32, on the T1w grid, 0 outside the PET's field of view.
    on_grid : float32, ``grid.shape``, the same.
    reference_mean : what the PET was divided by, in its own units; 1 if it was SUVR already.
    reference_ml : volume in which that was measured; 0 if it was SUVR already.
    """

    on_t1w: Array
    on_grid: Array
    reference_mean: float
    reference_ml: float


def suvr(
    pet: nib.Nifti1Image,
    matrix: Matrix,
    *,
    plan: PetPlan,
    tracer: Tracer,
    t1w: nib.Nifti1Image,
    brain_mask: nib.Nifti1Image,
    to_template: Matrix,
    grid: Grid,
) -> Suvr:
    """Divide by the mean of the reference region, and resample once onto each grid.

    Parameters
    ----------
    pet : average of the frames, on its own grid.
    matrix : RAS+ mm of the T1w to RAS+ mm of the PET.
    to_template : RAS+ mm of the template to RAS+ mm of the T1w.

    Raises
    ------
    BadDataError
        If there is too little of the reference region, or no uptake in it.
    """
    view = _field_of_view(pet, t1w, matrix)
    on_t1w = np.asarray(resample(pet, t1w, matrix, order=ORDER).dataobj)
    # A spline swings on beyond the edge.
    on_t1w = np.where(view > 0.5, on_t1w, np.float32(0))
    mean, volume = 1.0, 0.0
    if not plan.is_suvr:
        region, whole = reference_mask(tracer.reference_region, t1w, brain_mask, to_template)
        seen = (view > 0.99) & region
        volume = float(seen.sum() * abs(np.linalg.det(t1w.affine[:3, :3])) / 1000)
        _check_volume(volume, whole, plan, tracer)
        mean = float(on_t1w[seen].mean(dtype=np.float64))
        if not mean > 0:
            raise BadDataError(
                f"{plan.path}: its mean in the reference region, {tracer.reference_region}, is "
                f"{mean:g}, not above 0: look at the PET, or leave the session out"
            )
    on_grid = to_model_grid(pet, matrix @ to_template, grid, order=ORDER)
    return Suvr(_scaled(on_t1w, mean), _scaled(on_grid, mean), mean, volume)


def _scaled(data: Array, mean: float) -> Array:
    return np.maximum(data / np.float32(mean), 0)


def _field_of_view(pet: nib.Nifti1Image, t1w: nib.Nifti1Image, matrix: Matrix) -> Array:
    """How much of each voxel of the T1w the PET has seen, 0 to 1."""
    everywhere = nib.Nifti1Image(np.ones(pet.shape, np.float32), pet.affine)
    return np.asarray(resample(everywhere, t1w, matrix).dataobj)


def _check_volume(volume: float, whole: float, plan: PetPlan, tracer: Tracer) -> None:
    if volume < max(LEAST_ML, LEAST_SHARE * whole):
        raise BadDataError(
            f"{plan.path}: only {volume:.1f} of {whole:.1f} ml of the reference region, "
            f"{tracer.reference_region}, lie in its field of view and in the brain: look at the "
            "PET and the brain mask, or leave the session out"
        )


def report(
    plan: PetPlan, tracer: Tracer, motion: Sequence[float], offset: float, result: Suvr
) -> Mapping[str, Any]:
    """What was done with a PET, for JSON.

    Parameters
    ----------
    motion : of each frame, root mean square, mm, from the frames' mean.
    offset : of the PET from the T1w, the same over the brain.
    """
    return {
        "tracer": tracer.label,
        "source": str(plan.path),
        "frames": [index + 1 for index in plan.frames],
        "frame_minutes": [round(minutes, 3) for minutes in plan.durations],
        "minutes": [round(m, 3) for m in plan.minutes] if plan.minutes else None,
        "motion_mm": [round(mm, 3) for mm in motion],
        "offset_mm": round(offset, 3),
        "reference_region": None if plan.is_suvr else tracer.reference_region,
        "reference_mean": None if plan.is_suvr else result.reference_mean,
        "reference_ml": None if plan.is_suvr else round(result.reference_ml, 2),
        "notes": list(plan.notes),
    }


def offset_in_brain(matrix: Matrix, brain_mask: nib.Nifti1Image) -> float:
    """Root mean square displacement, mm, of a transform over the brain."""
    voxels = np.argwhere(np.asarray(brain_mask.dataobj) > 0)
    return displacement(
        matrix, np.eye(4), nib.affines.apply_affine(brain_mask.affine, voxels[::10])
    )
