"""Volumes as arrays: grids, scaling, and what scanners' headers need before anything else.

Affines map voxel indices to RAS+ millimetres. A grid is a shape and such an affine.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids.exceptions import BadDataError, MissingInputError

Array = NDArray[np.float32]
Scan = Path | str | nib.Nifti1Image


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

    def with_voxel_size(self, voxel_size: float, *, multiple_of: int = 1) -> "Grid":
        """The grid of other voxels whose field of view has the same centre and is no smaller.

        >>> Grid.about((0, -18, 5), (80, 96, 80), 2.0).with_voxel_size(4.0, multiple_of=8).shape
        (40, 48, 40)
        """
        counts = [
            multiple_of * -int(-n * self.voxel_size // (voxel_size * multiple_of))
            for n in self.shape
        ]
        centre = tuple(
            o + self.voxel_size * (n - 1) / 2 for o, n in zip(self.origin, self.shape, strict=True)
        )
        return Grid.about(centre, tuple(counts), voxel_size)  # type: ignore[arg-type]

    def image(self, data: NDArray[np.generic]) -> nib.Nifti1Image:
        """`data`, (X, Y, Z), as an image on this grid."""
        return nib.Nifti1Image(data, self.affine)


# The middle of the ICBM 2009c brain's bounding box, RAS+ mm.
TEMPLATE_BRAIN_CENTRE = (0.0, -18.0, 5.0)


def read_array(path: Path | str) -> Array:
    """The voxels of an image that rela_bids itself has written."""
    image: Any = nib.load(path)
    return np.asarray(image.dataobj, dtype=np.float32)


def suvr_to_unit(suvr: Array, scale: float) -> Array:
    """SUVR to the network's range: 0 to -1, `scale` to 1.

    >>> suvr_to_unit(np.float32([0, 1.5, 3]), 3)
    array([-1.,  0.,  1.], dtype=float32)
    """
    return (suvr * (2.0 / scale) - 1.0).astype(np.float32)


def unit_to_suvr(unit: Array, scale: float) -> Array:
    """The inverse of `suvr_to_unit`; negative SUVR, which has no meaning, becomes 0."""
    suvr: Array = np.maximum((unit + 1.0) * (scale / 2.0), 0.0).astype(np.float32)
    return suvr


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


# What nibabel, gzip and zlib raise on files that they cannot read.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
)

# No scan of a head has more voxels, and none is thinner or longer than this, mm.
MOST_VOXELS = 2**29
FIELD_OF_VIEW = (10.0, 1000.0)

# A corner of the field of view may move by this fraction of a voxel before a sheared affine is
# resampled rather than rounded to the nearest one without shear.
SHEAR_TOLERANCE = 0.25


def load_volume(scan: Scan) -> nib.Nifti1Image:
    """A scan, a file or in memory, as one 3-D float32 volume, whatever its header and numbers.

    One-volume 4-D becomes 3-D; scaling is applied; NaN and infinity become 0; negative values are
    clipped, or shifted away where they are many. The sform is used if it is valid, else the qform.
    The voxel grid stays as it is, unless its axes are not at right angles: then the image is
    resampled to the nearest grid of the same voxel sizes whose axes are. Sform and qform of the
    result agree, and are what a file of it will hold.

    Raises
    ------
    BadDataError
        If the scan cannot be read as NIfTI, has several volumes or fewer than three dimensions, is
        not numeric, is constant, or has a size that no head has.
    """
    path = scan_name(scan)
    try:
        with _without_log():
            image: Any = scan if isinstance(scan, nib.Nifti1Image) else nib.load(scan)
        # Before any voxel is read: a damaged header may ask for more than there is memory.
        _check_size(image.shape, path)
        data = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        if isinstance(error, FileNotFoundError):
            raise MissingInputError(
                f"{path} is not there: check the path or get the file"
            ) from error
        raise BadDataError(
            f"{path} cannot be read as an image ({error}): convert it again"
        ) from error
    if data.dtype.kind not in "iufb":
        raise BadDataError(f"{path} holds {data.dtype}, not one number a voxel: convert it again")
    data = _three_dimensional(data, path)
    affine, code = valid_affine(image.header, path)
    _check_extent(data.shape, affine, path)
    with np.errstate(over="ignore"):  # such voxels are infinite, and are dealt with as those
        volume = _finite_and_positive(data.astype(np.float32))
    if volume.max() == volume.min():
        raise BadDataError(f"{path} is constant: is it the right file?")
    volume, affine = without_shear(volume, affine)
    # As float32, so that it makes no difference whether the volume went through a file.
    clean = nib.Nifti1Image(volume, affine.astype(np.float32).astype(np.float64))
    clean.set_sform(clean.affine, code)
    clean.set_qform(clean.affine, code)
    clean.header.set_xyzt_units("mm", "sec")
    return clean


def scan_name(scan: Scan) -> str:
    """What a message calls a scan."""
    if isinstance(scan, nib.Nifti1Image):
        return scan.get_filename() or "an image given in memory"
    return str(scan)


@contextmanager
def _without_log() -> Iterator[None]:
    """What nibabel would print of a header that it cannot read comes as an error, too."""
    logger = nib.imageglobals.logger
    logger.disabled, before = True, logger.disabled
    try:
        yield
    finally:
        logger.disabled = before


def _check_size(shape: tuple[int, ...], path: Path | str) -> None:
    if math.prod(map(int, shape)) > MOST_VOXELS or min(shape, default=0) < 1:
        raise BadDataError(
            f"{path} is {_by(shape)} by its header, which no scan of a head is: convert it again"
        )


def _check_extent(shape: tuple[int, ...], affine: NDArray[np.float64], path: Path | str) -> None:
    extent = np.linalg.norm(affine[:3, :3], axis=0) * shape
    if extent.min() < FIELD_OF_VIEW[0] or extent.max() > FIELD_OF_VIEW[1]:
        raise BadDataError(
            f"{path} is {_by(shape)} voxels and {_by(np.round(extent, 1))} mm, which no scan of a "
            "head is: mend its voxel size, in mm, or crop it"
        )


def _by(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:g}" for size in sizes)


def _three_dimensional(data: NDArray[np.generic], path: Path | str) -> NDArray[np.generic]:
    if data.ndim > 3 and set(data.shape[3:]) == {1}:
        data = data.reshape(data.shape[:3])
    if data.ndim != 3 or min(data.shape) < 2:
        raise BadDataError(
            f"{path} is {_by(data.shape)}, not one 3-D volume: split or average it first"
        )
    return data


def valid_affine(header: nib.Nifti1Header, path: Path | str) -> tuple[NDArray[np.float64], int]:
    """The sform if it is usable, else the qform, with its code."""
    readers: tuple[Callable[..., Any], ...] = (header.get_sform, header.get_qform)
    for read in readers:
        try:
            affine, code = read(coded=True)
        except (ValueError, nib.spatialimages.HeaderDataError):
            continue
        if affine is not None and np.isfinite(affine).all() and _is_invertible(affine):
            return affine, int(code)
    raise BadDataError(
        f"{path} does not say which way is left (neither sform nor qform is set): convert it "
        "again from DICOM"
    )


def _is_invertible(affine: NDArray[np.float64]) -> bool:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return bool((sizes > 0).all() and abs(np.linalg.det(affine[:3, :3] / sizes)) > 0.1)


def _finite_and_positive(data: Array) -> Array:
    data = np.nan_to_num(data, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    # A few negative voxels are ringing; many are an offset.
    offset = min(float(np.percentile(data[::2, ::2, ::2], 1)), 0.0)
    positive: Array = np.maximum(data - np.float32(offset), 0)
    return positive


def without_shear(data: Array, affine: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """Axes at right angles: rounded where that moves nothing to speak of, else resampled."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(affine[:3, :3] / sizes)
    straight = affine.copy()
    straight[:3, :3] = (u @ vt) * sizes
    middle = (np.array(data.shape) - 1) / 2
    straight[:3, 3] = affine[:3, :3] @ middle + affine[:3, 3] - straight[:3, :3] @ middle
    moved = np.abs(np.linalg.solve(affine[:3, :3], straight[:3, :3]) - np.eye(3)) @ middle
    if moved.max() <= SHEAR_TOLERANCE:
        return data, straight
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in data.shape], indexing="ij"), -1)
    to_straight = np.linalg.solve(straight, affine)
    reach = corners.reshape(-1, 3) @ to_straight[:3, :3].T + to_straight[:3, 3]
    low, high = np.floor(reach.min(0)), np.ceil(reach.max(0))
    straight[:3, 3] += straight[:3, :3] @ low
    to_voxels = np.linalg.solve(affine, straight)
    shape = tuple((high - low + 1).astype(int))
    return (
        ndimage.affine_transform(
            data, to_voxels[:3, :3], to_voxels[:3, 3], output_shape=shape, order=1
        ),
        straight,
    )


def scale_mri(data: Array, mask: NDArray[np.bool_], intensity: str) -> Array:
    """A bias-corrected MRI in the network's range, by the model's ``intensity`` setting."""
    if intensity == "minmax":
        return minmax_to_unit(data * mask)
    return standardise_mri(data, mask)
