"""Bias correction and registration with ANTs, made deterministic; images are nibabel's.

Every transform here maps RAS+ mm of the fixed image to RAS+ mm of the moving one, which is what
resamples the moving image onto the fixed grid (see `rela_bids.transforms`).
"""

import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids.transforms import LPS, Matrix, isotropic, read_affine, resample, write_affine
from rela_bids.volumes import Array

SEED = 20260123

# From the top of the head down, mm: heads longer than this end in a neck.
HEAD_HEIGHT = 180.0

# Voxel sizes, mm, at which bias fields, masks and alignments are found.
BIAS_VOXEL = 6.0
COARSE_VOXEL = 4.0
WORKING_VOXEL = 2.0


def deterministic_ants() -> ModuleType:
    """The ``ants`` module, seeded and on one thread: the same input gives the same bytes.

    ITK sums over voxels in as many parts as it has threads, so a second thread changes the last
    digits. numpy's and Python's own generators, which antspyx seeds as well, are put back.
    """
    # ITK looks at it once, perhaps as early as in the import.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    import ants

    states = random.getstate(), np.random.get_state()
    ants.config.set_ants_deterministic(True, seed_value=SEED)
    random.setstate(states[0])
    np.random.set_state(states[1])
    return ants


def to_ants(image: nib.Nifti1Image) -> Any:
    """A nibabel image as an ANTsImage of floats, its geometry from the affine, not the header."""
    ants = deterministic_ants()
    lps = LPS @ image.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return ants.from_numpy(
        np.asarray(image.dataobj, dtype=np.float32),
        origin=lps[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=lps[:3, :3] / spacing,
    )


def bias_field(image: nib.Nifti1Image, mask: NDArray[np.bool_]) -> nib.Nifti1Image:
    """N4's multiplicative bias field on the grid of `image`, its geometric mean in `mask` 1."""
    ants = deterministic_ants()
    scan = to_ants(image)
    inside = to_ants(nib.Nifti1Image(mask.astype(np.float32), image.affine))
    field = ants.n4_bias_field_correction(
        scan,
        mask=inside,
        shrink_factor=1,
        convergence={"iters": [40, 40, 40, 40], "tol": 1e-5},
        spline_param=[1, 1, 1],
        return_bias_field=True,
    ).numpy()
    field = np.where(np.isfinite(field) & (field > 0), field, 1.0)
    field /= np.exp(np.log(field[mask]).mean())
    return nib.Nifti1Image(field.astype(np.float32), image.affine)


def head_mask(image: nib.Nifti1Image) -> NDArray[np.bool_]:
    """Head against air: Otsu's threshold of the log intensities, closed and filled, (X, Y, Z)."""
    from skimage.filters import threshold_otsu

    data = np.asarray(image.dataobj, dtype=np.float32)
    logs = np.log1p(data / max(float(np.percentile(data, 99)), 1e-6) * 100)
    above = ndimage.binary_opening(logs > threshold_otsu(logs), iterations=1)
    closed = ndimage.binary_closing(np.pad(above, 8), iterations=5)[8:-8, 8:-8, 8:-8]
    return ndimage.binary_fill_holes(closed)


def above_neck(head: nib.Nifti1Image) -> tuple[slice, slice, slice]:
    """The part of a head, cubic voxels, within 180 mm of its top."""
    codes = nib.aff2axcodes(head.affine)
    axis = next(i for i, code in enumerate(codes) if code in "SI")
    size = float(np.linalg.norm(head.affine[:3, axis]))
    area = head_mask(head).sum(axis=tuple(i for i in range(3) if i != axis)) * size**2
    # 20 square centimetres: more than noise, less than a vertex.
    occupied = np.flatnonzero(area > 2000)
    kept = [slice(None)] * 3
    if occupied.size:
        height = round(HEAD_HEIGHT / size)
        top = occupied[-1] if codes[axis] == "S" else occupied[0]
        kept[axis] = (
            slice(max(top - height, 0), None) if codes[axis] == "S" else slice(0, top + height)
        )
    return kept[0], kept[1], kept[2]


def correct_bias(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """`image` divided by its bias field, which is found at 6 mm in the head without its neck."""
    coarse = isotropic(image, BIAS_VOXEL)
    where = np.zeros(coarse.shape, bool)
    kept = above_neck(coarse)
    where[kept] = head_mask(coarse)[kept]
    field = resample(bias_field(coarse, where), image, np.eye(4)).get_fdata(dtype=np.float32)
    data = np.asarray(image.dataobj, dtype=np.float32) / np.where(field > 0.05, field, 1.0)
    return nib.Nifti1Image(data.astype(np.float32), image.affine, image.header)


@dataclass(frozen=True)
class Stage:
    """One stage of antsRegistration: from coarse to fine.

    Attributes
    ----------
    transform : as antsRegistration spells it, such as ``Rigid[0.1]``.
    shrink, blur, iterations : per level; blur in voxels.
    metric : its name and the parameters after the weight.
    """

    transform: str
    shrink: tuple[int, ...]
    blur: tuple[float, ...]
    iterations: tuple[int, ...]
    metric: tuple[str, str] = ("mattes", "32,regular,0.25")


# Sampling a tenth to a quarter of the voxels near the brain is as good as half of all, and a
# tenth of the time.
RIGID_COARSE = Stage("Rigid[0.2]", (3, 2), (2, 1), (100, 50))
RIGID_FINE = Stage("Rigid[0.1]", (2, 1), (1, 0.5), (50, 30))
AFFINE_COARSE = Stage("Affine[0.2]", (3, 2), (2, 1), (100, 50))
AFFINE_FINE = Stage("Affine[0.1]", (2, 1), (1, 0.5), (50, 30), ("mattes", "32,regular,0.15"))
SYN = Stage("SyN[0.2,3,0]", (4, 2, 1), (2, 1, 0), (60, 40, 15), ("mattes", "32"))


def _join(values: Sequence[float]) -> str:
    return "x".join(f"{v:g}" for v in values)


@dataclass(frozen=True)
class Registered:
    """What `run_stages` found: the matrix, and the two displacement fields if a stage bends."""

    matrix: Matrix
    field: nib.Nifti1Image | None = None
    inverse_field: nib.Nifti1Image | None = None


def run_stages(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    stages: Sequence[Stage],
    start: Matrix,
    *,
    fixed_mask: nib.Nifti1Image | None = None,
) -> Registered:
    """antsRegistration from `start`, in memory but for its small output files.

    Returns
    -------
    Registered
        A point of the fixed image passes through `field` first, then through `matrix`.
    """
    ants = deterministic_ants()
    images = [to_ants(fixed), to_ants(moving)]
    pointers = [ants.internal.get_pointer_string(i) for i in images]
    mask = "NA"
    if fixed_mask is not None:
        images.append(to_ants(fixed_mask).clone("unsigned char"))
        mask = ants.internal.get_pointer_string(images[-1])
    with tempfile.TemporaryDirectory(prefix="rela_bids_ants_") as folder:
        first = Path(folder, "start.mat")
        write_affine(first, start)
        command = ["--dimensionality", "3", "--float", "1", "--random-seed", str(SEED)]
        command += ["-r", str(first), "--output", f"{folder}/found", "-x", f"[{mask},NA]"]
        for stage in stages:
            name, parameters = stage.metric
            command += ["--transform", stage.transform]
            command += ["--metric", f"{name}[{','.join(pointers)},1,{parameters}]"]
            command += ["--convergence", f"[{_join(stage.iterations)},1e-6,10]"]
            command += ["--shrink-factors", _join(stage.shrink)]
            command += ["--smoothing-sigmas", f"{_join(stage.blur)}vox"]
        ants.registration(command, None)
        return Registered(
            read_affine(Path(folder, "found0GenericAffine.mat")),
            _field(Path(folder, "found1Warp.nii.gz")),
            _field(Path(folder, "found1InverseWarp.nii.gz")),
        )


def _field(path: Path) -> nib.Nifti1Image | None:
    if not path.exists():
        return None
    image = nib.load(path)
    return nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), image.affine)


def rotation(x: float, y: float, z: float) -> Matrix:
    """Rotation about the axes through the origin, degrees, x first; (4, 4)."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix()
    return matrix


def turned_about(fixed_point: Array, moving_point: Array, turn: Matrix) -> Matrix:
    """The rotation `turn` about `fixed_point`, which ends up on `moving_point`; RAS+ mm."""
    matrix = turn.copy()
    matrix[:3, 3] = moving_point - turn[:3, :3] @ fixed_point
    return matrix


def centre_of_mass(image: nib.Nifti1Image) -> Array:
    """Of the intensities, RAS+ mm."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    return nib.affines.apply_affine(image.affine, ndimage.center_of_mass(data))


def mutual_information(a: Array, b: Array, bins: int = 32) -> float:
    """Of two lists of intensities, normalised as (H(a) + H(b)) / H(a, b): 1 to 2.

    >>> mutual_information(np.arange(64.0), np.arange(64.0))
    2.0
    """
    joint, _, _ = np.histogram2d(a, b, bins=bins)

    def entropy(counts: NDArray[np.float64]) -> float:
        p = counts[counts > 0] / counts.sum()
        return float(-(p * np.log(p)).sum())

    marginals = entropy(joint.sum(0)) + entropy(joint.sum(1))
    return round(marginals / max(entropy(joint), 1e-12), 12)


def similarity(
    fixed: nib.Nifti1Image, moving: nib.Nifti1Image, matrix: Matrix, where: NDArray[np.bool_]
) -> float:
    """Normalised mutual information of `fixed` and the resampled `moving` in `where`."""
    moved = np.asarray(resample(moving, fixed, matrix).dataobj)
    return mutual_information(np.asarray(fixed.dataobj)[where], moved[where])


def best_of(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    stages: Sequence[Stage],
    starts: Sequence[Matrix],
    where: NDArray[np.bool_],
) -> Matrix:
    """`stages` from each of `starts`; the matrix under which the images agree best in `where`."""
    found = [run_stages(fixed, moving, stages, start).matrix for start in starts]
    return max(found, key=lambda matrix: similarity(fixed, moving, matrix, where))


# Heads are turned in the scanner, mostly by nodding.
TURNS = ((0, 0, 0), (20, 0, 0), (-20, 0, 0), (0, 20, 0), (0, -20, 0), (0, 0, 20), (0, 0, -20))


def flair_to_t1w(
    flair: nib.Nifti1Image, t1w: nib.Nifti1Image, brain_mask: nib.Nifti1Image
) -> Matrix:
    """Rigid, several starts at 4 mm, then at 2 mm in the neighbourhood of the brain.

    Returns
    -------
    (4, 4), RAS+ mm of the T1w to RAS+ mm of the FLAIR: resamples the FLAIR onto the T1w grid.
    """
    coarse = isotropic(t1w, COARSE_VOXEL), isotropic(flair, COARSE_VOXEL)
    centres = [centre_of_mass(nib.Nifti1Image(head_mask(i).astype("u1"), i.affine)) for i in coarse]
    starts = [np.eye(4), *(turned_about(*centres, rotation(*turn)) for turn in TURNS)]
    near = neighbourhood(brain_mask, coarse[0], 12.0)
    matrix = best_of(*coarse, [RIGID_COARSE], starts, np.asarray(near.dataobj) > 0)
    fine = isotropic(t1w, WORKING_VOXEL), isotropic(flair, WORKING_VOXEL)
    near = neighbourhood(brain_mask, fine[0], 6.0)
    return run_stages(*fine, [RIGID_FINE], matrix, fixed_mask=near).matrix


def neighbourhood(mask: nib.Nifti1Image, grid: nib.Nifti1Image, margin: float) -> nib.Nifti1Image:
    """`mask` widened by `margin` mm, on the grid of an image with cubic voxels."""
    inside = np.asarray(resample(mask, grid, np.eye(4)).dataobj) > 0.5
    distance = ndimage.distance_transform_edt(~inside)
    size = np.linalg.norm(grid.affine[:3, 0])
    return nib.Nifti1Image((distance * size <= margin).astype(np.float32), grid.affine)


def brain_to_template(
    brain: nib.Nifti1Image, template: nib.Nifti1Image, starts: Sequence[Matrix]
) -> Matrix:
    """Affine of a stripped brain to a stripped template, both on cubic voxels of about 2 mm.

    Returns
    -------
    (4, 4), RAS+ mm of the template to RAS+ mm of the brain.
    """
    coarse = isotropic(template, COARSE_VOXEL), isotropic(brain, COARSE_VOXEL)
    where = np.asarray(coarse[0].dataobj) > 0
    matrix = best_of(*coarse, [RIGID_COARSE, AFFINE_COARSE], starts, where)
    near = neighbourhood(support(template), template, 3.0)
    return run_stages(template, brain, [AFFINE_FINE], matrix, fixed_mask=near).matrix


def support(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Where a stripped image is not 0, as 0 and 1 on its own grid."""
    return nib.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.float32), image.affine)


def template_starts(brain: nib.Nifti1Image, template: nib.Nifti1Image) -> list[Matrix]:
    """Centres of mass on each other, nodding by -20, 0 and 20 degrees."""
    centres = centre_of_mass(template), centre_of_mass(brain)
    return [turned_about(*centres, rotation(nod, 0, 0)) for nod in (0, -20, 20)]


def align_brain(brain: nib.Nifti1Image, template: nib.Nifti1Image) -> Matrix:
    """Affine of a stripped T1w, any grid, to a stripped template, from scratch (`Matrix` as above).

    The registration works at 2 mm: half a voxel there is less than what the model's grid resolves.
    """
    small = isotropic(brain, WORKING_VOXEL), isotropic(template, WORKING_VOXEL)
    return brain_to_template(*small, template_starts(*small))


def bend_to_template(
    brain: nib.Nifti1Image, template: nib.Nifti1Image, affine: Matrix
) -> Registered:
    """SyN at 2 mm from the affine on; both images stripped and bias-corrected."""
    small = isotropic(template, WORKING_VOXEL), isotropic(brain, WORKING_VOXEL)
    near = neighbourhood(support(small[0]), small[0], 6.0)
    return run_stages(*small, [SYN], affine, fixed_mask=near)
