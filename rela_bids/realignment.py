"""Motion between the frames of a PET: rigid, least squares, to the frames' own mean.

Frames of one scan look alike, so Gauss-Newton on their differences finds in a tenth of a second
what mutual information needs seconds for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from rela_bids.registration import COARSE_VOXEL, above_neck
from rela_bids.transforms import Matrix, isotropic, resample
from rela_bids.volumes import Array

# Standard deviation, mm, of the blur under which frames are compared: motion is smooth, noise not.
BLUR = 6.0

# Where there is activity: this fraction of the 98th percentile, and so many voxels around it.
ACTIVE, AROUND = 0.3, 2

PASSES = 3
STEPS = 12

# Edge, voxels, of the blocks that make up two halves of the head, like the fields of a chessboard.
BLOCK = 12

# Motion counts if it is so many times what two halves of the head disagree by.
TIMES_NOISE = 2.0

# More than this, mm, between frames is a search gone astray.
MOST_MOTION = 30.0


@dataclass(frozen=True)
class Reference:
    """What frames are compared with: an image's values and how they change under rigid motion.

    Attributes
    ----------
    points : (N, 3), RAS+ mm.
    values : (N,).
    derivatives : (N, 7), of the values by three shifts, mm, three turns about `centre`, rad, and
        the scale.
    half : (N,), which half of the head a point belongs to.
    """

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    derivatives: NDArray[np.float64]
    half: NDArray[np.bool_]

    @property
    def centre(self) -> NDArray[np.float64]:
        """Of the points, RAS+ mm."""
        return self.points.mean(0)

    def part(self, kept: NDArray[np.bool_]) -> "Reference":
        """Some of the points."""
        return Reference(
            self.points[kept], self.values[kept], self.derivatives[kept], self.half[kept]
        )


def realign(
    frames: Sequence[nib.Nifti1Image], weights: Sequence[float]
) -> tuple[list[Matrix], list[float]]:
    """Where each frame lies, and how far it moved.

    A frame whose motion is not clearly more than its noise is taken to lie still.

    Parameters
    ----------
    frames : of one grid.
    weights : of each in the mean, such as durations.

    Returns
    -------
    For each frame (4, 4), RAS+ mm of the frames' mean to RAS+ mm of the frame; and the root mean
    square of that motion over the head, mm.
    """
    if len(frames) == 1:
        return [np.eye(4)], [0.0]
    small = [_blurred(isotropic(frame, COARSE_VOXEL)) for frame in frames]
    matrices = [np.eye(4) for _ in small]
    for _ in range(PASSES):
        reference = as_reference(average(small, matrices, weights))
        matrices = [align(reference, *pair) for pair in zip(small, matrices, strict=True)]
    matrices = [_believed(reference, *pair) for pair in zip(small, matrices, strict=True)]
    return matrices, [displacement(m, np.eye(4), reference.points) for m in matrices]


def average(
    frames: Sequence[nib.Nifti1Image],
    matrices: Sequence[Matrix],
    weights: Sequence[float],
    *,
    order: int = 1,
) -> nib.Nifti1Image:
    """Weighted mean of the frames, each moved to where it belongs; on the grid of the first.

    `order` is of the spline: 1 blurs, 3 hardly.
    """
    total = np.zeros(frames[0].shape, np.float32)
    for frame, matrix, weight in zip(frames, matrices, weights, strict=True):
        still = np.array_equal(matrix, np.eye(4))
        moved = frame if still else resample(frame, frames[0], matrix, order=order)
        total += np.float32(weight / sum(weights)) * np.asarray(moved.dataobj, dtype=np.float32)
    return nib.Nifti1Image(total, frames[0].affine)


def _blurred(image: nib.Nifti1Image) -> nib.Nifti1Image:
    data = ndimage.gaussian_filter(np.asarray(image.dataobj), BLUR / COARSE_VOXEL, mode="nearest")
    return nib.Nifti1Image(data, image.affine)


def as_reference(image: nib.Nifti1Image) -> Reference:
    """Of an image, cubic voxels, the points above the neck that have activity."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    # Noise about 0 has no logarithm, by which the head is found.
    kept = above_neck(nib.Nifti1Image(np.maximum(data, 0), image.affine))
    active = np.zeros(data.shape, bool)
    active[kept] = data[kept] > ACTIVE * np.percentile(data[kept], 98)
    voxels = np.argwhere(ndimage.binary_dilation(active, iterations=AROUND))
    points = nib.affines.apply_affine(image.affine, voxels)
    at = tuple(voxels.T)
    slopes = np.stack([axis[at] for axis in np.gradient(data)], axis=1)
    slopes = slopes @ np.linalg.inv(image.affine[:3, :3])
    values = data[at].astype(np.float64)
    turns = np.cross(points - points.mean(0), slopes)
    derivatives = np.concatenate([slopes, turns, values[:, None]], axis=1)
    half = (voxels // BLOCK).sum(1) % 2 == 1
    return Reference(points, values, derivatives, half)


def align(reference: Reference, image: nib.Nifti1Image, start: Matrix) -> Matrix:
    """Rigid motion from `reference` to `image`, RAS+ mm, that makes their squares least.

    Inverse compositional Gauss-Newton (Baker and Matthews, IJCV 2004, section 3.2).
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    # einsum, since sums of a BLAS change with its number of threads.
    normal = np.einsum("ni,nj->ij", reference.derivatives, reference.derivatives)
    matrix = start
    for _ in range(STEPS):
        to_voxels = np.linalg.inv(image.affine) @ matrix
        where = nib.affines.apply_affine(to_voxels, reference.points).T
        seen = ndimage.map_coordinates(data, where, order=1, mode="nearest").astype(np.float64)
        gain = np.sum(seen * reference.values) / max(np.sum(seen * seen), 1e-12)
        differences = gain * seen - reference.values
        step = np.linalg.solve(normal, np.einsum("ni,n->i", reference.derivatives, differences))
        matrix = matrix @ np.linalg.inv(_small_motion(step, reference.centre))
        if np.abs(step[:3]).max() < 0.005 and np.abs(step[3:6]).max() < 1e-4:
            break
    far = not displacement(matrix, np.eye(4), reference.points) < MOST_MOTION
    return np.eye(4) if far else matrix


def _small_motion(step: Array, centre: NDArray[np.float64]) -> Matrix:
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(step[3:6]).as_matrix()
    motion[:3, 3] = step[:3] + centre - motion[:3, :3] @ centre
    return motion


def _believed(reference: Reference, image: nib.Nifti1Image, matrix: Matrix) -> Matrix:
    """`matrix`, or none if two halves of the head disagree about it."""
    halves = [reference.part(reference.half == side) for side in (False, True)]
    first, second = (align(half, image, matrix) for half in halves)
    noise = displacement(first, second, reference.points) / 2
    found = displacement(matrix, np.eye(4), reference.points)
    return matrix if found > TIMES_NOISE * noise else np.eye(4)


def displacement(a: Matrix, b: Matrix, points: NDArray[np.float64]) -> float:
    """Root mean square distance, mm, between where two transforms take points (N, 3)."""
    apart = nib.affines.apply_affine(a, points) - nib.affines.apply_affine(b, points)
    return float(np.sqrt((apart**2).sum(1).mean()))
