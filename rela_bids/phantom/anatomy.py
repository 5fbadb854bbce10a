"""A person's head: the template deformed, aged and wrapped in skull, scalp, face and neck."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rela_bids.phantom.base import (
    BRAIN_GRID,
    LATTICE,
    base,
    grid_points,
    lattice_noise,
    rigid_matrix,
    sample,
    smooth_on,
    spread_lattice,
)
from rela_bids.phantom.person import Person
from rela_bids.phantom.regions import DEEP
from rela_bids.phantom.shells import draw_thickness, shells
from rela_bids.volumes import Array, Grid

# Random deformation: full width of its correlation and standard deviation per axis, both mm.
COARSE_DEFORMATION = ((55.0, 2.2), (24.0, 1.5))
FINE_DEFORMATION = ((10.0, 1.1),)

MM_PER_VENTRICLE_UNIT = 1.6

# The ICBM brain is larger than most people's: logarithm of the ratio of lengths.
TEMPLATE_EXCESS = 0.07


@dataclass(frozen=True)
class Head:
    """A head on a grid; arrays (X, Y, Z).

    Attributes
    ----------
    grid : of every array; its RAS+ mm are the person's own (scanner's) space.
    to_template : (4, 4), from the person's RAS+ mm to template mm, the affine part.
    tissues : fraction of each voxel, by the names of `TISSUES`; the rest of a voxel is air.
    brain : within the brain's surface (the CSF of sulci and ventricles included).
    depth : signed distance to the brain's surface, mm, positive outside.
    labels : region of grey matter, deep structure or choroid plexus, FreeSurfer's numbers.
    atlas : the template's atlas, carried along: what reference regions are cut from.
    ventricle : signed distance to the ventricles, mm, positive outside.
    texture : T1w beyond the tissues, relative to white matter less CSF.
    template_z : template mm, inferior to superior, of each voxel.
    left : on the left of the template's midline.
    """

    grid: Grid
    to_template: NDArray[np.float64]
    tissues: Mapping[str, Array]
    brain: NDArray[np.bool_]
    depth: Array
    labels: NDArray[np.int16]
    atlas: NDArray[np.int16]
    ventricle: Array
    texture: Array
    template_z: Array
    left: NDArray[np.bool_]


TISSUES = ("white", "grey", "csf", "lesion", "bone", "marrow", "fat", "muscle", "eye")


def random_pose(rng: np.random.Generator, *, aligned: bool) -> NDArray[np.float64]:
    """A person's RAS+ mm to template mm, (4, 4): size, shape and position in the scanner.

    `aligned`: only what an affine registration to the template leaves.
    """
    shift, turn, scale = (1.0, 1.2, 0.015) if aligned else (8.0, 4.0, 0.05)
    pose = rigid_matrix(rng.normal(0, shift, 3), rng.normal(0, turn, 3))
    size = 1.0 if aligned else np.exp(rng.normal(TEMPLATE_EXCESS, 0.03))
    shear = np.eye(4)
    shear[:3, :3] += np.triu(rng.normal(0, scale / 2, (3, 3)), 1)
    return np.diag([*(size * np.exp(rng.normal(0, scale, 3))), 1.0]) @ shear @ pose


def build_head(
    rng: np.random.Generator,
    person: Person,
    grid: Grid,
    to_template: NDArray[np.float64],
    *,
    whole: bool,
) -> Head:
    """The head of `person` on `grid`.

    What is random is drawn on a lattice in template space, so that the same generator makes the
    same head at any voxel size (small lesions excepted). Without `whole`, face and neck are left
    out, as for a head that will be masked.
    """
    template = base()
    coarse = _deformation(rng, COARSE_DEFORMATION)
    # What goes on within the brain does not move the skull.
    fine = _deformation(rng, FINE_DEFORMATION) - _ventricle_growth(rng, person) * template.push
    prior = _tissue_prior(rng, person)
    thickness = draw_thickness(rng, person)
    sharpness = rng.uniform(2.0, 3.0)
    points = grid_points(grid, to_template)
    for axis in range(3):
        points[axis] += spread_lattice(coarse[axis], grid, to_template)
    hull = sample(template.hull, template.surface_grid, points)
    for axis in range(3):
        points[axis] += spread_lattice(fine[axis], grid, to_template)
    depth = sample(template.surface, template.surface_grid, points)
    # Most of a field of view is not brain: look the brain's maps up where they matter.
    near = depth < 2 * grid.voxel_size
    inner = points[:, near]

    def scattered(values: NDArray[np.generic]) -> NDArray:
        whole_grid = np.zeros(grid.shape, values.dtype)
        whole_grid[near] = values
        return whole_grid

    labels = sample(template.labels, BRAIN_GRID, inner, order=0)
    on_grid = {
        name: spread_lattice(field, grid, to_template)[near] for name, field in prior.items()
    }
    inside = _edge(-depth, grid.voxel_size)
    exponent = np.where(np.isin(labels, DEEP), 1.2, sharpness).astype(np.float32)
    tissues = {
        name: scattered(fraction) * inside
        for name, fraction in _brain_tissues(inner, on_grid, exponent).items()
    }
    labels = scattered(labels)
    ventricle = scattered(sample(template.ventricle, BRAIN_GRID, inner))
    _add_lesions(rng, person, tissues, labels, ventricle, grid.voxel_size)
    surroundings = {
        name: spread_lattice(field, grid, to_template) for name, field in thickness.items()
    }
    around = shells(points, depth, hull, surroundings, grid.voxel_size, whole=whole)
    for name, fraction in around.items():
        outside = fraction * (1 - inside)
        tissues[name] = tissues[name] + outside if name in tissues else outside
    return Head(
        grid=grid,
        to_template=to_template,
        tissues=tissues,
        brain=depth < 0,
        depth=depth,
        labels=labels,
        atlas=scattered(sample(template.atlas, BRAIN_GRID, inner, order=0, mode="constant")),
        ventricle=ventricle,
        texture=scattered(sample(template.texture, BRAIN_GRID, inner)),
        template_z=points[2],
        left=points[0] < 0,
    )


def _edge(distance: Array, voxel_size: float) -> Array:
    """Fraction of a voxel on the positive side of a surface at signed `distance`, mm."""
    return np.clip(distance / voxel_size + 0.5, 0, 1)


def _deformation(rng: np.random.Generator, scales: Sequence[tuple[float, float]]) -> Array:
    """Template point less template position, mm, (3, ...) on `LATTICE`."""
    field = np.zeros((3, *LATTICE.shape), dtype=np.float32)
    for scale, amplitude in scales:
        field += amplitude * np.stack([lattice_noise(rng, scale) for _ in range(3)])
    return field


def _ventricle_growth(rng: np.random.Generator, person: Person) -> float:
    """How far the ventricles' walls are from the template's, mm."""
    growth = MM_PER_VENTRICLE_UNIT * (person.atrophy + 0.5 * rng.standard_normal()) + 0.5
    return float(np.clip(growth, -1.0, 6.0))


def _tissue_prior(rng: np.random.Generator, person: Person) -> dict[str, Array]:
    """Factors on the tissue probabilities, on `LATTICE`: wider sulci, thinner or thicker cortex."""
    csf = 1.05 + 0.35 * person.atrophy + 0.45 * lattice_noise(rng, 16.0)
    grey = 0.05 - 0.06 * person.atrophy + 0.45 * lattice_noise(rng, 10.0)
    return {"csf": np.exp(csf), "grey": np.exp(grey)}


def _brain_tissues(points: Array, prior: Mapping[str, Array], exponent: Array) -> dict[str, Array]:
    """White, grey and CSF: the template's probabilities times `prior`, sharpened to a person's."""
    template = base()
    grey = sample(template.grey, BRAIN_GRID, points)
    white = sample(template.white, BRAIN_GRID, points)
    csf = np.clip(1 - grey - white, 0.02, 1) * prior["csf"]
    weights = {
        "white": white**exponent,
        "grey": (grey * prior["grey"]) ** exponent,
        "csf": csf**exponent,
    }
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _add_lesions(
    rng: np.random.Generator,
    person: Person,
    tissues: dict[str, Array],
    labels: NDArray[np.int16],
    ventricle: Array,
    voxel_size: float,
) -> None:
    """Turn white matter into lesions: bands and caps at the ventricles, and deep ones."""
    load = float(np.exp(0.8 * person.lesions))
    eligible = (tissues["white"] > 0.8) & (labels > 1000)
    if not eligible.any():
        tissues["lesion"] = np.zeros_like(tissues["white"])
        return
    ripple = smooth_on(rng, tissues["white"].shape, 7.0 / voxel_size)
    extent = 0.8 * load - 1.0 + 1.6 * ripple
    lesion = np.clip(extent - np.maximum(ventricle, 0) + 0.5, 0, 1) * (labels > 1000)
    lesion = np.maximum(lesion, _deep_lesions(rng, load, eligible, ventricle, voxel_size))
    tissues["lesion"] = tissues["white"] * lesion
    tissues["white"] = tissues["white"] - tissues["lesion"]


def _deep_lesions(
    rng: np.random.Generator,
    load: float,
    eligible: NDArray[np.bool_],
    ventricle: Array,
    voxel_size: float,
) -> Array:
    lesion = np.zeros(eligible.shape, dtype=np.float32)
    candidates = np.argwhere(eligible)
    # Twice as likely within 15 mm of the ventricles.
    weight = 1 + (ventricle[eligible] < 15.0)
    count = min(rng.poisson(7 * load), 60)
    centres = rng.choice(candidates, size=count, p=weight / weight.sum())
    for centre in centres:
        radii = np.clip(rng.lognormal(0.9, 0.45), 1.2, 8.0) * rng.uniform(0.7, 1.3, 3)
        reach = np.ceil(radii.max() * 1.5 / voxel_size).astype(int)
        low = np.maximum(centre - reach, 0)
        high = np.minimum(centre + reach + 1, eligible.shape)
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[window]
        squares = [
            ((axis - c) * voxel_size / r) ** 2
            for axis, c, r in zip(axes, centre, radii, strict=True)
        ]
        profile = np.clip(2.0 - 1.5 * np.sqrt(sum(squares)), 0, 1)
        lesion[window] = np.maximum(lesion[window], profile)
    return lesion
