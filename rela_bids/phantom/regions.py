"""Groups of FreeSurfer's labels that the phantoms treat alike, in MRI and in PET."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rela_bids.volumes import Array


def _both_hemispheres(*labels: int) -> tuple[int, ...]:
    return tuple(label + side for side in (1000, 2000) for label in labels)


CORTICAL_GROUPS: dict[str, tuple[int, ...]] = {
    "prefrontal": _both_hemispheres(3, 12, 14, 18, 19, 20, 27, 28, 32),
    "sensorimotor": _both_hemispheres(17, 22, 24),
    "anterior cingulate": _both_hemispheres(2, 26),
    "posterior cingulate": _both_hemispheres(10, 23),
    "precuneus": _both_hemispheres(25),
    "parietal": _both_hemispheres(8, 29, 31),
    "lateral temporal": _both_hemispheres(1, 15, 30, 34),
    "inferior temporal": _both_hemispheres(7, 9, 33),
    "entorhinal": _both_hemispheres(6, 16),
    "lateral occipital": _both_hemispheres(11),
    "medial occipital": _both_hemispheres(5, 13, 21),
    "insula": _both_hemispheres(35),
}

SUBCORTICAL_GROUPS: dict[str, tuple[int, ...]] = {
    "thalamus": (10, 49),
    "caudate": (11, 50, 26, 58),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "ventral diencephalon": (28, 60),
    "brain stem": (16,),
}

GROUPS: dict[str, tuple[int, ...]] = {
    **CORTICAL_GROUPS,
    **SUBCORTICAL_GROUPS,
    "cerebellum": (8, 47),
    "choroid plexus": (31, 63),
}

CORTEX = tuple(label for labels in CORTICAL_GROUPS.values() for label in labels)
DEEP = tuple(label for labels in SUBCORTICAL_GROUPS.values() for label in labels)

_TABLE_SIZE = 2100


def lookup(labels: NDArray[np.integer], values: Mapping[str, float], default: float) -> Array:
    """The value of each voxel's group, `default` where `values` has none for it.

    >>> lookup(np.array([10, 49, 8]), {"thalamus": 1.5}, 1.0)
    array([1.5, 1.5, 1. ], dtype=float32)
    """
    table = np.full(_TABLE_SIZE, default, dtype=np.float32)
    for group, value in values.items():
        table[list(GROUPS[group])] = value
    return table[labels]
