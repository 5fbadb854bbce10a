"""Spatial transforms: ITK's files, and resampling by an affine in closed form.

A transform *from A to B* is the one that resamples images of A onto the grid of B. It maps points
the other way, from B to A, as ITK, ANTs and BIDS' ``from-A_to-B_mode-image_xfm`` have it. Matrices
here are (4, 4), RAS+ mm on both sides; ITK's files hold LPS+.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import io, ndimage

from rela_bids.exceptions import BadDataError
from rela_bids.volumes import Array, Grid

Matrix = NDArray[np.float64]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

# A Gaussian's full width at half its height, in standard deviations.
FWHM = 2.354820045


def read_affine(path: Path | str) -> Matrix:
    """The matrix of an ITK linear transform (``.mat``, as ANTs writes it), RAS+ mm.

    Raises
    ------
    BadDataError
        If the file holds anything but one linear transform in three dimensions.
    """
    content = {k: v for k, v in io.loadmat(str(path)).items() if not k.startswith("__")}
    centre = content.pop("fixed", np.zeros(0)).ravel()
    parameters = next(iter(content.values()), np.zeros(0)).ravel()
    if len(content) != 1 or parameters.size != 12 or centre.size != 3:
        raise BadDataError(f"{path} is not one linear transform in 3-D: write it with ANTs")
    return _from_itk(parameters, centre)


def _from_itk(parameters: NDArray[np.float64], centre: NDArray[np.float64]) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    # ITK: y = M (x - centre) + centre + translation
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS


def _itk_parameters(matrix: Matrix) -> NDArray[np.float64]:
    lps = LPS @ matrix @ LPS
    return np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])


def write_affine(path: Path | str, matrix: Matrix) -> None:
    """Write a RAS+ mm matrix as the linear transform that ITK and ANTs read (``.mat``)."""
    content = {
        "AffineTransform_double_3_3": _itk_parameters(matrix)[:, None],
        "fixed": np.zeros((3, 1)),
    }
    io.savemat(str(path), content, format="4")


def write_composite(path: Path | str, steps: list[Matrix | nib.Nifti1Image]) -> None:
    """Write transforms as one ITK composite (``.h5``) that ANTs and nitransforms read.

    Parameters
    ----------
    steps
        Matrices (RAS+ mm) and displacement fields (as ANTs writes them: (X, Y, Z, 1, 3), LPS+ mm),
        in the order in which a point passes through them.
    """
    with h5py.File(path, "w", libver="earliest") as file:
        _write_step(file, 0, "CompositeTransform_double_3_3", None, None)
        # ITK's composite is a stack: a point passes through the last one first.
        for number, step in enumerate(reversed(steps), start=1):
            if isinstance(step, nib.Nifti1Image):
                fixed, parameters = _field_parameters(step)
                name = "DisplacementFieldTransform_double_3_3"
            else:
                fixed, parameters = np.zeros(3), _itk_parameters(step)
                name = "AffineTransform_double_3_3"
            _write_step(file, number, name, fixed, parameters)


def affine_of_composite(path: Path | str) -> Matrix:
    """The matrix of the one affine in an ITK composite (``.h5``), RAS+ mm.

    Raises
    ------
    BadDataError
        If the file cannot be read or holds none or several.
    """
    try:
        with h5py.File(path) as file:
            found = [
                np.concatenate([step["TransformParameters"][:], step["TransformFixedParameters"]])
                for step in file["TransformGroup"].values()
                if step["TransformType"][0].startswith(b"AffineTransform")
            ]
    except (OSError, KeyError) as error:
        raise BadDataError(f"{path} is not an ITK composite ({error}): remove it") from error
    if len(found) != 1:
        raise BadDataError(f"{path} holds {len(found)} affines, not one: remove it")
    return _from_itk(found[0][:12], found[0][12:])


def _write_step(
    file: h5py.File,
    number: int,
    name: str,
    fixed: NDArray[np.float64] | None,
    parameters: NDArray[np.floating] | None,
) -> None:
    group = file.require_group("TransformGroup").create_group(str(number))
    group.create_dataset("TransformType", data=[name], dtype=h5py.string_dtype("ascii"))
    if fixed is not None and parameters is not None:
        group.create_dataset("TransformFixedParameters", data=fixed)
        packing = {"compression": "gzip", "shuffle": True} if parameters.size > 12 else {}
        group.create_dataset("TransformParameters", data=parameters, **packing)


def _field_parameters(field: nib.Nifti1Image) -> tuple[NDArray[np.float64], Array]:
    data = np.asarray(field.dataobj, dtype=np.float32).reshape(*field.shape[:3], 3)
    lps = LPS @ field.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    fixed = np.concatenate([field.shape[:3], lps[:3, 3], spacing, direction.ravel()])
    # x runs fastest among voxels, and the three components faster still.
    return fixed.astype(np.float64), np.moveaxis(data, -1, 0).ravel(order="F")


def _antialiased(data: Array, voxel_sizes: NDArray[np.float64], target: float) -> Array:
    """Blurred to the resolution of `target` mm along the axes that are finer than that."""
    wanted = np.sqrt(np.maximum(target**2 - voxel_sizes**2, 0.0)) / FWHM / voxel_sizes
    return ndimage.gaussian_filter(data, wanted, mode="nearest", truncate=3.0)


def to_model_grid(
    image: nib.Nifti1Image, to_template: Matrix, grid: Grid, *, order: int = 1
) -> Array:
    """An image of the T1w's space on the model grid, through the affine alone.

    Parameters
    ----------
    image : 3-D, any grid.
    to_template : the T1w-to-template affine as `read_affine` gives it: it maps RAS+ mm of the
        template to RAS+ mm of the T1w.
    order : of the spline, 0 for labels (then nothing is blurred).

    Returns
    -------
    float32, ``grid.shape``, in the image's units, 0 outside its field of view. Where the model's
    voxels are larger than the image's, it is blurred to the model's resolution first.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    voxel_sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
    if order > 0:
        scale = np.cbrt(abs(np.linalg.det(to_template[:3, :3])))
        data = _antialiased(data, voxel_sizes, grid.voxel_size * scale)
    to_voxels = np.linalg.inv(image.affine) @ to_template @ grid.affine
    return _pull(data, to_voxels, grid.shape, order)


def model_inputs(
    images: Mapping[str, nib.Nifti1Image], mask: nib.Nifti1Image, to_template: Matrix, grid: Grid
) -> tuple[dict[str, Array], NDArray[np.bool_]]:
    """`to_model_grid` of MRI, 0 outside the brain, and of the brain mask, all in the T1w's space.

    A voxel is brain where at least half of it is.
    """
    inside = to_model_grid(mask, to_template, grid) >= 0.5
    arrays = {
        name: np.where(inside, to_model_grid(image, to_template, grid), np.float32(0))
        for name, image in images.items()
    }
    return arrays, inside


def from_model_grid(
    volume: Array,
    to_template: Matrix,
    grid: Grid,
    reference: nib.Nifti1Image,
    *,
    order: int = 1,
    mask: NDArray[np.bool_] | None = None,
) -> Array:
    """A volume on the model grid back on the grid of the T1w: the inverse of `to_model_grid`.

    Parameters
    ----------
    volume : ``grid.shape``.
    to_template : the same matrix that `to_model_grid` was given.
    reference : an image on the T1w's grid; only its shape and affine are used.
    order : of the spline; 1 stays within the range of `volume`, 3 is sharper and may leave it.
    mask : voxels of `reference` that are wanted; the rest is 0, and time is spent on its box alone.

    Returns
    -------
    float32, the shape of `reference`, 0 outside the model grid's field of view.
    """
    shape = reference.shape[:3]
    box = ndimage.find_objects(mask.astype(np.uint8))[0] if mask is not None else None
    box = box or tuple(slice(0, n) for n in shape)
    start = np.eye(4)
    start[:3, 3] = [s.start for s in box]
    to_voxels = np.linalg.inv(to_template @ grid.affine) @ reference.affine @ start
    result = np.zeros(shape, np.float32)
    result[box] = _pull(volume, to_voxels, tuple(s.stop - s.start for s in box), order)
    return result if mask is None else np.where(mask, result, np.float32(0))


def _pull(data: Array, to_voxels: Matrix, shape: tuple[int, ...], order: int) -> Array:
    return ndimage.affine_transform(
        np.asarray(data, np.float32),
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        output_shape=tuple(shape),
        output=np.float32,
        order=order,
        mode="grid-constant",
    )


def resample(
    image: nib.Nifti1Image, reference: nib.Nifti1Image, transform: Matrix, *, order: int = 1
) -> nib.Nifti1Image:
    """`image` on the grid of `reference`; `transform` maps RAS+ mm of `reference` to `image`."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    to_voxels = np.linalg.inv(image.affine) @ transform @ reference.affine
    pulled = _pull(data, to_voxels, reference.shape[:3], order)
    return nib.Nifti1Image(pulled, reference.affine)


def isotropic(image: nib.Nifti1Image, voxel_size: float) -> nib.Nifti1Image:
    """`image` at cubic voxels of `voxel_size` mm along its own axes, same field of view."""
    data, affine = _binned(np.asarray(image.dataobj, dtype=np.float32), image.affine, voxel_size)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    shape = np.maximum(np.ceil(np.array(data.shape) * sizes / voxel_size - 0.01), 1)
    # The first voxel's outer corner stays where it was.
    to_voxels = _about_the_corner(voxel_size / sizes)
    pulled = ndimage.affine_transform(
        _antialiased(data, sizes, voxel_size),
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        output_shape=tuple(shape.astype(int)),
        output=np.float32,
        order=1,
        mode="nearest",
    )
    return nib.Nifti1Image(pulled, affine @ to_voxels)


def _about_the_corner(step: NDArray[np.floating]) -> Matrix:
    """Voxels that are `step` times as large to the voxels they replace, outer corners matched."""
    matrix = np.diag([*step, 1.0])
    matrix[:3, 3] = (np.asarray(step) - 1) / 2
    return matrix


def _binned(data: Array, affine: Matrix, target: float) -> tuple[Array, Matrix]:
    """Means of blocks of voxels well below `target` mm: blurring afterwards is cheap."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    step = np.maximum((target / sizes / 1.4).astype(int), 1)
    padded = np.pad(data, [(0, -n % s) for n, s in zip(data.shape, step, strict=True)], "edge")
    for axis, s in enumerate(step):
        whole = (*padded.shape[:axis], -1, s, *padded.shape[axis + 1 :])
        padded = padded.reshape(whole).mean(axis + 1)
    return padded, affine @ _about_the_corner(step)
