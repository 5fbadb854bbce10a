"""Volumes as arrays: grids, scaling, and what scanners' headers need before anything else.

Affines map voxel indices to RAS+ millimetres. A grid is a shape and such an affine.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """An axis-aligned grid of cubic voxels in template space.

    Attributes
    ----------
    shape : voxels along x, y, z.
    voxel_size : edge of a voxel, mm.
    origin : centre of voxel (0, 0, 0), RAS+ mm.
    """

    shape: tuple[int, int, int]
    voxel_size: float
    origin: tuple[float, float, float]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel indices to RAS+ mm, (4, 4)."""
        affine = np.diag([self.voxel_size] * 3 + [1.0])
        affine[:3, 3] = self.origin
        return affine

    @classmethod
    def about(
        cls, centre: tuple[float, float, float], shape: tuple[int, int, int], voxel_size: float
    ) -> "Grid":
        """The grid of `shape` whose field of view is centred on `centre`, RAS+ mm.

        >>> Grid.about((0, -18, 5), (80, 96, 80), 2.0).origin
        (-79.0, -113.0, -74.0)
        """
        origin = tuple(c - voxel_size * (n - 1) / 2 for c, n in zip(centre, shape, strict=True))
        return cls(shape, voxel_size, origin)  # type: ignore[arg-type]

    def image(self, data: NDArray[np.generic]) -> nib.Nifti1Image:
        """`data`, (X, Y, Z), as an image on this grid."""
        return nib.Nifti1Image(data, self.affine)


# The middle of the ICBM 2009c brain's bounding box, RAS+ mm.
TEMPLATE_BRAIN_CENTRE = (0.0, -18.0, 5.0)


def suvr_to_unit(suvr: Array, scale: float) -> Array:
    """SUVR to the network's range: 0 to -1, `scale` to 1.

    >>> suvr_to_unit(np.float32([0, 1.5, 3]), 3)
    array([-1.,  0.,  1.], dtype=float32)
    """
    return (suvr * (2.0 / scale) - 1.0).astype(np.float32)


def unit_to_suvr(unit: Array, scale: float) -> Array:
    """The inverse of `suvr_to_unit`; negative SUVR, which has no meaning, becomes 0."""
    return np.maximum((unit + 1.0) * (scale / 2.0), 0.0).astype(np.float32)


def minmax_to_unit(data: Array) -> Array:
    """An image's own range to [-1, 1], as the published method scales every image."""
    low, high = float(data.min()), float(data.max())
    return ((data - low) * (2.0 / max(high - low, 1e-6)) - 1.0).astype(np.float32)


def standardise_mri(data: Array, mask: NDArray[np.bool_]) -> Array:
    """An MRI without units, made comparable: median 0 and interquartile range 1 in the mask.

    Clipped to [-4, 4] so that vessels and fat cannot drive the network; zero outside the mask.
    The network reads a volume that is zero everywhere as a missing modality.
    """
    inside = data[mask]
    low, middle, high = np.percentile(inside, [25, 50, 75])
    scaled = np.clip((data - middle) / max(high - low, 1e-6), -4.0, 4.0)
    return np.where(mask, scaled, 0.0).astype(np.float32)
