"""Where the edge of the brain lies, according to templates: signed distances, mm, negative inside.

Beyond `REACH` any place is just inside or outside, so that a gross error of one outline does not
outvote the others when their mean is taken.
"""

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids.registration import (
    WORKING_VOXEL,
    Registered,
    Stage,
    align_brain,
    neighbourhood,
    run_stages,
    support,
)
from rela_bids.transforms import Matrix, isotropic, resample
from rela_bids.volumes import Array

REACH = 10.0

# Furrows of the template's outline up to twice as wide, mm, belong to the brain: CSF up to the
# inner skull counts. The outline so filled lies a little outside most people's, mm.
FURROW = 8.0
INWARD = 0.8

# At 8 and 4 mm: the edge of the brain is smooth, and finer levels follow noise.
BEND_HEAD = Stage("SyN[0.2,3,0]", (4, 2), (2, 1), (60, 40), ("mattes", "32"))

# How far around the brain a whole-head template is looked at, mm: skull and scalp.
AROUND = 10.0

# Larger than any distance that matters: what lies outside a field of view is that far away.
FAR = 50.0


def signed_distance(mask: NDArray[np.bool_]) -> Array:
    """To the edge of `mask`, voxels, negative inside."""
    outside = ndimage.distance_transform_edt(~mask) - 0.5
    return np.where(mask, 0.5 - ndimage.distance_transform_edt(mask), outside).astype(np.float32)


def within_reach(distance: Array) -> Array:
    """Clipped to `REACH`."""
    return np.clip(distance, -REACH, REACH)


def brain_outline(template: nib.Nifti1Image, head: nib.Nifti1Image, to_template: Matrix) -> Array:
    """The edge of a stripped template, aligned by an affine, on the grid of `head`."""
    small = isotropic(support(template), WORKING_VOXEL)
    distance = signed_distance(_without_furrows(np.asarray(small.dataobj) > 0.5)) * WORKING_VOXEL
    far = nib.Nifti1Image(distance - FAR, small.affine)
    moved = np.asarray(resample(far, head, np.linalg.inv(to_template)).dataobj) + FAR
    return within_reach(moved * _enlargement(to_template) + INWARD)


def _without_furrows(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    steps = FURROW / WORKING_VOXEL
    margin = round(2 * steps)
    padded = np.pad(inside, margin)
    near = ndimage.distance_transform_edt(~padded) <= steps
    closed = ndimage.binary_fill_holes(ndimage.distance_transform_edt(near) > steps)
    return closed[(slice(margin, -margin),) * 3]


def _enlargement(matrix: Matrix) -> float:
    return float(np.cbrt(np.linalg.det(matrix[:3, :3])))


def head_outline(
    marked: tuple[nib.Nifti1Image, nib.Nifti1Image],
    template: nib.Nifti1Image,
    head: nib.Nifti1Image,
    to_template: Matrix,
) -> Array:
    """The edge of the brain in a whole-head template that is bent to `head`, on its grid.

    Brain to brain the two templates align without doubt, and the affine of `template` to this head
    is known: their product is a better start for SyN than another affine, which may follow fat.

    Parameters
    ----------
    marked : T1w of a whole head, and the mask of its brain.
    template : a stripped T1w.
    head : whole head, bias-corrected, cubic voxels of 2 mm.
    to_template : RAS+ mm of `template` to RAS+ mm of `head`.
    """
    t1w, mask = (isotropic(image, WORKING_VOXEL) for image in (marked[0], support(marked[1])))
    inside = np.asarray(mask.dataobj) > 0.5
    brain = nib.Nifti1Image(np.where(inside, np.asarray(t1w.dataobj), 0), t1w.affine)
    start = to_template @ np.linalg.inv(align_brain(brain, template))
    near = neighbourhood(mask, t1w, AROUND)
    found = run_stages(t1w, head, [BEND_HEAD], start, fixed_mask=near)
    distance = _pulled_back(signed_distance(inside) * WORKING_VOXEL, mask.affine, head, found)
    return within_reach(distance * _enlargement(found.matrix))


def _pulled_back(
    distance: Array, affine: Matrix, head: nib.Nifti1Image, found: Registered
) -> Array:
    """`distance`, on the fixed image's grid, where the points of `head` were before bending."""
    index = np.indices(head.shape).reshape(3, -1).T
    points = nib.affines.apply_affine(np.linalg.inv(found.matrix) @ head.affine, index)
    field = found.inverse_field
    at = nib.affines.apply_affine(np.linalg.inv(field.affine), points).T
    # Components in a row; LPS+ mm in ANTs' files.
    components = np.moveaxis(np.asarray(field.dataobj).reshape(*field.shape[:3], 3), -1, 0)
    for axis, (sign, part) in enumerate(zip((-1, -1, 1), components, strict=True)):
        points[:, axis] += sign * ndimage.map_coordinates(part, at, order=1, mode="nearest")
    at = nib.affines.apply_affine(np.linalg.inv(affine), points).T
    return ndimage.map_coordinates(distance, at, order=1, cval=FAR).reshape(head.shape)
