"""A person's regions: the atlas carried to the T1w by SyN, its cortex fitted to the grey matter.

The atlas's cortex is the thin ribbon of one brain; a person's folds are elsewhere, by more than its
thickness, however well SyN does. So the cortex is what is grey matter in this T1w, each voxel with
the label that is nearest to it in the atlas. An atlas of the user's is carried, and left as it is.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from rela_bids import templates
from rela_bids.atlases import Atlas
from rela_bids.registration import deterministic_ants, to_ants
from rela_bids.transforms import Matrix
from rela_bids.volumes import Array, Grid

# Grey matter farther than this from any cortical label, mm, is not cortex.
CORTEX_REACH = 8.0

WHITE_MATTER = (2, 41, 77)

EM_STEPS = 8

# No tissue is impossible anywhere.
LEAST_PRIOR = 0.01

# Neighbours have a say in a voxel's tissue; voxels.
TISSUE_BLUR = 0.5


def person_regions(
    t1w: nib.Nifti1Image, mask: nib.Nifti1Image, template_to_t1w: Path, atlas: Atlas
) -> nib.Nifti1Image:
    """The atlas's labels on the grid of the T1w, int16 or int32, 0 outside the mask.

    Parameters
    ----------
    t1w : bias-corrected.
    mask : of the brain, on its grid.
    template_to_t1w : ITK composite that resamples the template onto the T1w.
    """
    inside = np.asarray(mask.dataobj) > 0
    image = nib.load(atlas.image)
    labels = _carried(image, t1w, template_to_t1w, "nearestNeighbor")
    if atlas.fitted:
        labels = _fit_cortex(labels, image, t1w, inside, template_to_t1w)
    kind = np.int16 if max(atlas.names) < 2**15 else np.int32
    return nib.Nifti1Image(np.where(inside, labels, 0).astype(kind), t1w.affine)


def _fit_cortex(
    labels: Array,
    atlas: nib.Nifti1Image,
    t1w: nib.Nifti1Image,
    inside: NDArray[np.bool_],
    template_to_t1w: Path,
) -> Array:
    """FreeSurfer's `labels` with their cortex where the person has grey matter."""
    spread = _carried(_spread_cortex(atlas), t1w, template_to_t1w, "nearestNeighbor")
    grey = grey_matter(t1w, inside, template_to_t1w)
    cortex = grey & (spread > 0)
    # Where the atlas has cortex and this person has none, its neighbour is white matter or CSF.
    rest = np.where(labels >= 1000, 0, labels)
    return np.where(cortex, spread, rest)


def _spread_cortex(atlas: nib.Nifti1Image) -> nib.Nifti1Image:
    """Each voxel's nearest cortical label; 0 far from any, and in other grey structures."""
    labels = np.asarray(atlas.dataobj).astype(np.int16)
    cortex = labels >= 1000
    distance, nearest = ndimage.distance_transform_edt(~cortex, return_indices=True)
    other = (labels > 0) & ~cortex & ~np.isin(labels, WHITE_MATTER)
    spread = np.where(other | (distance > CORTEX_REACH), 0, labels[tuple(nearest)])
    return nib.Nifti1Image(spread, atlas.affine)


def grey_matter(
    t1w: nib.Nifti1Image, inside: NDArray[np.bool_], template_to_t1w: Path
) -> NDArray[np.bool_]:
    """Where grey matter is likelier than white matter and CSF: normal intensities, by EM.

    The priors are the template's tissue probabilities, carried by the transform (unified
    segmentation's mixture without its deformation: Ashburner and Friston 2005, equation 6).
    """
    grey, white = (
        _carried(nib.load(templates.tissue_probability(tissue)), t1w, template_to_t1w, "linear")
        for tissue in ("gm", "wm")
    )
    prior = np.stack([255 - grey - white, grey, white]) / 255
    prior = np.clip(prior[:, inside], 0, 1) + LEAST_PRIOR
    prior /= prior.sum(0)
    data = np.asarray(t1w.dataobj, dtype=np.float32)[inside]
    posterior = prior
    for _ in range(EM_STEPS):
        logs = _log_likelihoods(data, posterior)
        posterior = prior * np.exp(logs - logs.max(0))
        posterior /= posterior.sum(0)
    likeliest = np.zeros((3, *inside.shape), np.float32)
    likeliest[:, inside] = posterior
    blurred = [ndimage.gaussian_filter(volume, TISSUE_BLUR) for volume in likeliest]
    return inside & (np.argmax(blurred, axis=0) == 1)


def _log_likelihoods(data: Array, posterior: Array) -> Array:
    """Of each voxel's intensity under each tissue's normal distribution, (tissues, voxels)."""
    weight = posterior.sum(1, keepdims=True)
    mean = (posterior * data).sum(1, keepdims=True) / weight
    variance = (posterior * (data - mean) ** 2).sum(1, keepdims=True) / weight
    return -0.5 * ((data - mean) ** 2 / variance + np.log(variance))


def _carried(
    image: nib.Nifti1Image, t1w: nib.Nifti1Image, transform: Path, interpolation: str
) -> Array:
    ants = deterministic_ants()
    return ants.apply_transforms(
        to_ants(t1w), to_ants(image), [str(transform)], interpolator=interpolation
    ).numpy()


def mean_weights(
    regions: nib.Nifti1Image,
    indices: list[int],
    to_template: Matrix,
    grid: Grid,
    mask: NDArray[np.bool_],
) -> sparse.csr_array:
    """What each voxel of the model grid adds to a region's mean on the T1w grid.

    `transforms.from_model_grid` is linear, and so is a mean: times a volume's voxels in `mask`,
    the weights give the regions' means of that volume on the T1w, without resampling it.

    Parameters
    ----------
    regions : labels on the T1w grid, 0 outside the brain.
    indices : of the regions wanted.
    to_template : RAS+ mm of the template to RAS+ mm of the T1w.
    mask : ``grid.shape``; volumes are 0 outside it.

    Returns
    -------
    (regions, voxels of the mask); the row of a region without voxels is 0.
    """
    labels = np.asarray(regions.dataobj)
    # Which row a label belongs to, and none for those not wanted.
    rows = np.full(int(max(labels.max(), *indices)) + 1, -1)
    rows[indices] = np.arange(len(indices))
    row = rows[labels]
    where = np.argwhere(row >= 0)
    row = row[tuple(where.T)]
    to_voxels = np.linalg.inv(to_template @ grid.affine) @ regions.affine
    points = nib.affines.apply_affine(to_voxels, where)
    column = np.full(grid.shape, -1)
    column[mask] = np.arange(mask.sum())
    shape = (len(indices), int(mask.sum()))
    weights = sparse.csr_array(shape)
    low = np.floor(points).astype(int)
    high_share = points - low
    for corner in np.ndindex(2, 2, 2):
        voxel = low + corner
        share = np.where(corner, high_share, 1 - high_share).prod(1)
        kept = ((voxel >= 0) & (voxel < grid.shape)).all(1)
        target = column[tuple(voxel[kept].T)]
        seen = target >= 0
        entries = share[kept][seen], (row[kept][seen], target[seen])
        weights = weights + sparse.csr_array(entries, shape=shape)
    counts = np.bincount(row, minlength=len(indices))
    return sparse.diags_array(1 / np.maximum(counts, 1)) @ weights
