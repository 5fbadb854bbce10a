"""The template that every phantom is deformed from, and the smooth random fields that do it.

All maps are in RAS+ millimetres of the template space (`rela_bids.templates.TEMPLATE_SPACE`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from rela_bids import templates
from rela_bids.phantom.regions import CORTEX, DEEP, GROUPS
from rela_bids.transforms import FWHM
from rela_bids.volumes import Array, Grid

# The brain with a margin, and a coarse lattice about the whole head with its neck.
BRAIN_GRID = Grid.about((0.0, -18.0, 5.0), (160, 200, 176), 1.0)
LATTICE = Grid.about((0.0, -10.0, -15.0), (58, 70, 70), 4.0)

VENTRICLES = (4, 5, 14, 43, 44)

# mm at which smooth fields are evaluated before they are spread over a fine grid.
COARSE_STEP = 3.0

# Furrows of the brain's outline up to twice as wide, mm, are bridged by the skull.
FURROW = 9.0

# How far into the tissue, mm, a growing ventricle pushes.
PUSH_REACH = 14.0


@dataclass(frozen=True)
class Base:
    """Maps of the template, on `BRAIN_GRID` unless said.

    Attributes
    ----------
    grey, white : probabilities; what is left of 1 is CSF.
    texture : T1w of the template less what its tissues explain, relative to white matter less CSF.
    labels : nearest grey region, FreeSurfer's number, defined everywhere; deep structures and the
        choroid plexus are where the atlas has them.
    atlas : the atlas as it is, for reference regions.
    surface : signed distance to the brain's surface, mm, positive outside; on `LATTICE`'s field
        of view at 2 mm (`surface_grid`).
    hull : the same to the brain with its furrows filled: where the skull runs.
    ventricle : signed distance to the lateral and third ventricles, mm, positive outside.
    push : (3, ...) on `LATTICE`, away from the ventricles, fading with distance; longest 1.
    """

    grey: Array
    white: Array
    texture: Array
    labels: NDArray[np.int16]
    atlas: NDArray[np.int16]
    surface: Array
    hull: Array
    surface_grid: Grid
    ventricle: Array
    push: Array


@cache
def base() -> Base:
    """The maps, read and derived once in a process (a few seconds)."""
    t1w = _on_brain_grid(templates.brain_t1w())
    grey = _on_brain_grid(templates.tissue_probability("gm")) / 255
    white = _on_brain_grid(templates.tissue_probability("wm")) / 255
    atlas = _on_brain_grid(templates.atlas(), order=0).astype(np.int16)
    surface_grid = Grid(tuple(2 * n for n in LATTICE.shape), 2.0, LATTICE.origin)
    on_surface_grid = resample_from_to(
        BRAIN_GRID.image((t1w > 5).astype(np.float32)), (surface_grid.shape, surface_grid.affine)
    )
    brain = on_surface_grid.get_fdata(dtype=np.float32) > 0.5
    surface = _signed_distance(brain, surface_grid.voxel_size)
    # Dilation and erosion by the same distance, which fills what is narrower than twice of it.
    dilated = _signed_distance(surface < FURROW, surface_grid.voxel_size) + FURROW
    ventricle = _signed_distance(np.isin(atlas[::2, ::2, ::2], VENTRICLES), 2.0)
    ventricle = ndimage.gaussian_filter(ventricle, 0.7)
    ventricle_grid = Grid(ventricle.shape, 2.0, BRAIN_GRID.origin)
    return Base(
        grey=_unblurred(grey),
        white=_unblurred(white),
        texture=_texture(t1w, grey, white),
        labels=_grey_labels(atlas),
        atlas=atlas,
        surface=surface,
        hull=ndimage.gaussian_filter(np.minimum(surface, dilated), 1.5),
        surface_grid=surface_grid,
        ventricle=sample(ventricle, ventricle_grid, grid_points(BRAIN_GRID)),
        push=_push(ventricle, ventricle_grid),
    )


def rigid_matrix(shift: ArrayLike, turn: ArrayLike) -> NDArray[np.float64]:
    """Turn about x, y, z through the origin by `turn` degrees, then `shift` mm; (4, 4), RAS+ mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def grid_points(grid: Grid, affine: NDArray[np.float64] | None = None) -> Array:
    """RAS+ mm of each voxel of a grid, then mapped by `affine`; (3, X, Y, Z)."""
    matrix = (np.eye(4) if affine is None else affine) @ grid.affine
    axes = [np.arange(n, dtype=np.float32) for n in grid.shape]
    i, j, k = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.stack([r[0] * i + r[1] * j + r[2] * k + r[3] for r in matrix[:3].astype(np.float32)])


def sample(
    data: NDArray[np.generic], grid: Grid, points: Array, *, order: int = 1, mode: str = "nearest"
) -> Array:
    """`data` on `grid` at RAS+ mm `points` (3, ...), interpolated with splines of `order`."""
    origin = np.reshape(grid.origin, (3, *[1] * (points.ndim - 1)))
    index = (points - origin) / grid.voxel_size
    return ndimage.map_coordinates(data, index, order=order, mode=mode)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]
) -> Array:
    """Gaussian noise smoothed by `sigma` voxels, of mean 0 and standard deviation 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, sigma, mode="wrap", truncate=3)
    return (smooth - smooth.mean()) / smooth.std()


def smooth_on(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Array:
    """About what `smooth_noise` gives, for large grids: bell-shaped bumps on a coarse lattice."""
    if sigma < 1.0:
        return smooth_noise(rng, shape, sigma)
    bases = [_bumps(n, sigma) for n in shape]
    noise = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    field = _expand(noise, bases)
    return (field - field.mean()) / field.std()


def _bumps(n: int, sigma: float) -> Array:
    """Gaussians of `sigma` voxels, one each 1.2 sigma, at n voxels; (n, bumps)."""
    centres = np.arange(-2 * sigma, n + 2 * sigma, 1.2 * sigma, dtype=np.float32)
    distance = np.arange(n, dtype=np.float32)[:, None] - centres
    return np.exp(-0.5 * (distance / np.float32(sigma)) ** 2)


def _expand(coefficients: Array, bases: Sequence[Array]) -> Array:
    """The sum of separable basis functions; each basis (voxels, coefficients) of one axis."""
    field = coefficients
    for basis in bases:
        # Each turn consumes the first axis and appends the grid's as the last.
        field = np.tensordot(field, basis, axes=(0, 1))
    return field


def spread_lattice(field: Array, grid: Grid, to_template: NDArray[np.float64]) -> Array:
    """A smooth field on `LATTICE` at the voxels of `grid`, which `to_template` maps; linear.

    By way of a coarse grid with the axes of `grid`, which is much faster on a fine one.
    """
    step = max(COARSE_STEP / grid.voxel_size, 1.0)
    shape = tuple(int(np.ceil((n - 1) / step)) + 1 for n in grid.shape)
    to_voxels = (
        np.linalg.inv(LATTICE.affine) @ to_template @ grid.affine @ np.diag([step] * 3 + [1])
    )
    coarse = ndimage.affine_transform(
        field.astype(np.float32),
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        output_shape=shape,
        order=1,
        mode="nearest",
    )
    return _expand(coarse, [_hats(n, m, step) for n, m in zip(grid.shape, shape, strict=True)])


def _hats(n: int, m: int, step: float) -> Array:
    """Linear interpolation of m coefficients, `step` voxels apart, at n voxels; (n, m)."""
    distance = np.arange(n)[:, None] / step - np.arange(m)
    return np.maximum(1 - np.abs(distance), 0).astype(np.float32)


def lattice_noise(rng: np.random.Generator, scale: float) -> Array:
    """Unit noise on `LATTICE` whose correlation has a full width of about `scale` mm."""
    # Noise smoothed with sigma s has a Gaussian correlation of sigma s * sqrt(2).
    sigma = scale / (FWHM * 2**0.5) / LATTICE.voxel_size
    return smooth_noise(rng, LATTICE.shape, sigma)


def _on_brain_grid(path, order: int = 1) -> Array:
    image = nib.load(path)
    to = (BRAIN_GRID.shape, BRAIN_GRID.affine)
    return resample_from_to(image, to, order=order).get_fdata(dtype=np.float32)


def _signed_distance(mask: NDArray[np.bool_], voxel_size: float) -> Array:
    outside = ndimage.distance_transform_edt(~mask, sampling=voxel_size)
    inside = ndimage.distance_transform_edt(mask, sampling=voxel_size)
    # Half a voxel less on each side: the surface runs between voxel centres.
    signed = np.where(mask, voxel_size / 2 - inside, outside - voxel_size / 2)
    return signed.astype(np.float32)


def _unblurred(probability: Array) -> Array:
    """Narrow sulci and gyri, which averaging people has blurred, brought out again."""
    detail = probability - ndimage.gaussian_filter(probability, 2.5)
    return np.clip(probability + 0.8 * detail, 0, 1)


def _texture(t1w: Array, grey: Array, white: Array) -> Array:
    brain = t1w > 5
    tissues = np.stack([grey[brain], white[brain], 1 - grey[brain] - white[brain]], axis=1)
    weights = np.linalg.lstsq(tissues, t1w[brain], rcond=None)[0]
    residual = np.zeros_like(t1w)
    residual[brain] = (t1w[brain] - tissues @ weights) / (weights[1] - weights[2])
    # Near the surface the residual is the mask's edge and CSF, not tissue.
    core = ndimage.gaussian_filter((grey + white > 0.7).astype(np.float32), 1.0)
    return np.clip(ndimage.gaussian_filter(residual, 0.8), -0.25, 0.25) * core


def _grey_labels(atlas: NDArray[np.int16]) -> NDArray[np.int16]:
    """The nearest cortical label wherever the atlas has no deep structure (found at 2 mm)."""
    coarse = atlas[::2, ::2, ::2]
    surface = CORTEX + GROUPS["cerebellum"]
    seeds = np.isin(coarse, surface)
    nearest = ndimage.distance_transform_edt(~seeds, return_distances=False, return_indices=True)
    filled = coarse[tuple(nearest)].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    kept = np.isin(atlas, surface + DEEP + GROUPS["choroid plexus"])
    return np.where(kept, atlas, filled).astype(np.int16)


def _push(ventricle: Array, grid: Grid) -> Array:
    smooth = ndimage.gaussian_filter(ventricle, 2.0)
    outward = np.stack(np.gradient(smooth, grid.voxel_size))
    outward *= np.exp(-np.maximum(smooth, 0) / PUSH_REACH)
    points = grid_points(LATTICE)
    field = [sample(component, grid, points, mode="constant") for component in outward]
    smooth_field = ndimage.gaussian_filter(np.stack(field), (0, 0.7, 0.7, 0.7))
    return (smooth_field / np.linalg.norm(smooth_field, axis=0).max()).astype(np.float32)
