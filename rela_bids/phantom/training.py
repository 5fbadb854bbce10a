"""What preprocessing leaves of a phantom, straight onto the model grid: examples to train on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rela_bids.model.dataset import Example, write_example
from rela_bids.phantom.anatomy import Head, build_head, random_pose
from rela_bids.phantom.base import rigid_matrix, smooth_on
from rela_bids.phantom.mri import (
    Contrast,
    acquire,
    contrast_image,
    draw_acquisition,
    draw_flair_contrast,
    draw_t1w_contrast,
)
from rela_bids.phantom.person import draw_person
from rela_bids.phantom.pet import noise, seen_by_scanner, tracer_generator, true_suvr
from rela_bids.tracers import Tracer
from rela_bids.transforms import to_model_grid
from rela_bids.volumes import TEMPLATE_BRAIN_CENTRE, Array, Grid

# Heads are made finer than the model grid, and a little larger so that blur sees the skull; mm.
FINER, FINEST = 0.8, 1.0
MARGIN = 3.0

WITHOUT_FLAIR = 0.15
RESIDUAL_BIAS = 0.4

# Scans whose field of view ends within the cerebellum.
CUT_FIELD_OF_VIEW = 0.08


def write_training_examples(
    folder: Path, *, n: int, seed: int, tracers: Sequence[Tracer], grid: Grid, first: int = 0
) -> list[Path]:
    """Write the examples of phantoms `first` to `first + n` into `folder`; returns theirs.

    Phantom i of a seed is the same whatever `n`, `first` and `tracers` are.
    """
    return [
        write_example(folder, training_example(seed, index, tracers, grid))
        for index in range(first, first + n)
    ]


def training_example(seed: int, index: int, tracers: Sequence[Tracer], grid: Grid) -> Example:
    """One phantom on the model grid: MRI bias-corrected up to a rest and masked, PET in SUVR."""
    key = (seed, index)
    rng = np.random.default_rng(key)
    person = draw_person(rng)
    head = build_head(rng, person, _render_grid(grid), random_pose(rng, aligned=True), whole=False)
    mask = _imperfect_mask(rng, head)
    on_grid = _to_grid(mask.astype(np.float32), head, grid, np.eye(4)) > 0.5
    images = [
        _mri(rng, head, contrast, grid, shift) * on_grid
        for contrast, shift in (
            (draw_t1w_contrast(rng), np.eye(4)),
            (draw_flair_contrast(rng), _misregistration(rng)),
        )
    ]
    has_flair = rng.random() >= WITHOUT_FLAIR
    pets = {}
    for tracer in tracers:
        own = tracer_generator((*key, 1), tracer)
        truth = true_suvr(key, head, person, tracer)
        seen = seen_by_scanner(truth, head, tracer, own.uniform(4.0, 6.0))
        seen = noise(own, seen, own.uniform(0.01, 0.04), 1.7 / head.grid.voxel_size)
        pets[tracer.label] = _to_grid(seen, head, grid, _misregistration(own)) * on_grid
    return Example(
        subject=f"phantom{index:05d}",
        session=None,
        t1w=images[0],
        flair=images[1] if has_flair else None,
        mask=on_grid,
        pets=pets,
    )


def _render_grid(grid: Grid) -> Grid:
    voxel_size = max(FINER * grid.voxel_size, FINEST)
    shape = tuple(int(np.ceil((n * grid.voxel_size + 2 * MARGIN) / voxel_size)) for n in grid.shape)
    return Grid.about(TEMPLATE_BRAIN_CENTRE, shape, voxel_size)


def _to_grid(data: Array, head: Head, grid: Grid, misregistration: NDArray[np.float64]) -> Array:
    """As in a real session; the affine misfit is already in the head, which lies on template mm."""
    return to_model_grid(head.grid.image(data), misregistration, grid)


def _misregistration(rng: np.random.Generator) -> NDArray[np.float64]:
    return rigid_matrix(rng.normal(0, 0.3, 3), rng.normal(0, 0.3, 3))


def _mri(
    rng: np.random.Generator,
    head: Head,
    contrast: Contrast,
    grid: Grid,
    misregistration: NDArray[np.float64],
) -> Array:
    acquisition = draw_acquisition(rng, bias=RESIDUAL_BIAS, may_be_2d=True)
    signal = contrast_image(head, contrast)
    image = acquire(rng, signal, head.grid.voxel_size, acquisition)
    return _to_grid(image, head, grid, misregistration)


def _imperfect_mask(rng: np.random.Generator, head: Head) -> NDArray[np.bool_]:
    """The brain with the errors of an extraction: rims, a wavy edge, sometimes lumps of skull."""
    sigma = 8.0 / head.grid.voxel_size
    edge = rng.normal(0.3, 0.8) + 0.7 * smooth_on(rng, head.depth.shape, sigma)
    if rng.random() < 0.3:
        lumps = smooth_on(rng, head.depth.shape, 1.5 * sigma)
        edge = edge + 4.0 * np.clip(lumps - 1.8, 0, 1)
    mask = head.depth < edge
    if rng.random() < CUT_FIELD_OF_VIEW:
        mask &= head.template_z > rng.uniform(-75, -50)
    return mask
