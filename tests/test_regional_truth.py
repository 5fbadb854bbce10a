"""Regional SUVR of frames in known positions against the truth: averaging, resampling, reference.

The whole path with its registrations is measured by benchmarks/regional_truth.py.
"""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from rela_bids import registration, templates
from rela_bids.atlases import packaged_atlas
from rela_bids.frames import PetPlan
from rela_bids.pet_target import ORDER, suvr
from rela_bids.quantification import region_means, region_volumes
from rela_bids.realignment import average
from rela_bids.tracers import TRACERS
from rela_bids.transforms import FWHM, resample
from rela_bids.volumes import TEMPLATE_BRAIN_CENTRE, Grid

TRACER = TRACERS["18FAV45"]
GRID = Grid.about(TEMPLATE_BRAIN_CENTRE, (88, 104, 88), 2.0)
SCANNER_FWHM, SCANNER_VOXEL, GAIN = 5.0, 2.4, 7000.0


@pytest.fixture(scope="module")
def truth():
    """The template as a person: labels, a T1w, and SUVR as a perfect scanner sees it."""
    labels = templates.atlas_on(GRID)
    rng = np.random.default_rng(0)
    uptake = np.append(rng.uniform(0.8, 2.2, 3000), 0.4).astype(np.float32)
    uptake[0] = 0.4
    seen = ndimage.gaussian_filter(uptake[labels], SCANNER_FWHM / FWHM / GRID.voxel_size)
    reference = templates.reference_region_on(TRACER.reference_region, GRID)
    seen /= seen[reference].mean()
    t1w = np.where(labels > 0, 100.0, 0.0).astype(np.float32)
    return labels, GRID.image(t1w), GRID.image(seen)


@pytest.fixture(scope="module")
def frames(truth):
    """Two frames of a scanner, each in its own position, and where these are."""
    _, _, seen = truth
    scanner = Grid.about((8.0, -6.0, 2.0), (84, 96, 84), SCANNER_VOXEL)
    empty = scanner.image(np.zeros(scanner.shape, np.uint8))
    taken, matrices = [], []
    for turn, shift in (((3, -5, 2), (4, 2, -3)), ((4, -4, 3), (5, 1, -2))):
        to_pet = registration.rotation(*turn)
        to_pet[:3, 3] = shift
        frame = resample(seen, empty, np.linalg.inv(to_pet), order=3)
        taken.append(nib.Nifti1Image(GAIN * np.asarray(frame.dataobj), scanner.affine))
        matrices.append(to_pet)
    return taken, matrices


def errors(truth, frames, order: int) -> np.ndarray:
    """Percent, of each region of at least 2 ml."""
    labels, t1w, seen = truth
    taken, (first, second) = frames
    mean = average(taken, [np.eye(4), second @ np.linalg.inv(first)], (1.0, 1.0), order=order)
    result = suvr(
        mean,
        first,
        plan=PetPlan(None, (0, 1), (10.0, 10.0), (50.0, 70.0)),
        tracer=TRACER,
        t1w=t1w,
        brain_mask=GRID.image((labels > 0).astype(np.uint8)),
        to_template=np.eye(4),
        grid=GRID,
    )
    indices = list(packaged_atlas().names)
    large = region_volumes(labels, indices, 0.008) >= 2
    wanted = region_means(np.asarray(seen.dataobj), labels, indices)[large]
    return 100 * (region_means(result.on_t1w, labels, indices)[large] / wanted - 1)


def test_every_region_of_two_millilitres_is_within_two_percent(truth, frames):
    found = errors(truth, frames, ORDER)
    assert len(found) > 80
    assert np.abs(found).max() < 2


def test_linear_interpolation_of_frames_costs_more(truth, frames):
    cubic, linear = (np.abs(errors(truth, frames, order)).mean() for order in (ORDER, 1))
    assert cubic < 0.8 * linear
