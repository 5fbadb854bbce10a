"""Regions of a person whose cortex is not where the atlas's is."""

import nibabel as nib
import numpy as np
import pytest

from rela_bids import regions, templates, transforms

VOXEL = 3.0


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A T1w of three tissues in template space, its mask, its grey matter, and an identity."""
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = (-84, -120, -70)
    grid = nib.Nifti1Image(np.zeros((57, 70, 54), np.float32), affine)

    def on_grid(path):
        image = transforms.isotropic(nib.load(path), VOXEL)
        return np.asarray(transforms.resample(image, grid, np.eye(4)).dataobj)

    grey, white = (on_grid(templates.tissue_probability(tissue)) for tissue in ("gm", "wm"))
    inside = on_grid(templates.brain_t1w()) > 10
    tissue = np.argmax([255 - grey - white, grey, white], axis=0)
    noise = np.random.default_rng(0).normal(0, 8, tissue.shape)
    t1w = np.where(inside, np.array([30, 75, 110])[tissue] + noise, 0).astype(np.float32)
    path = tmp_path_factory.mktemp("regions") / "template_to_t1w.h5"
    transforms.write_composite(path, [np.eye(4)])
    mask = nib.Nifti1Image(inside.astype(np.uint8), affine)
    return nib.Nifti1Image(t1w, affine), mask, inside & (tissue == 1), path


@pytest.fixture(scope="module")
def labels(person):
    t1w, mask, _, path = person
    return np.asarray(regions.person_regions(t1w, mask, path).dataobj)


def test_the_cortex_is_grey_matter_and_most_of_it(person, labels):
    *_, grey, _ = person
    cortex = labels >= 1000
    assert (cortex & grey).sum() > 0.9 * cortex.sum()
    cortical = grey & ~np.isin(labels, (0, 2, 41)) | cortex
    assert cortex.sum() > 0.6 * cortical.sum()


def test_left_and_right_keep_their_labels(person, labels):
    x = nib.affines.apply_affine(person[0].affine, np.argwhere(labels // 1000 == 1))[:, 0]
    assert (x < 6).mean() > 0.98


def test_nothing_is_labelled_outside_the_mask(person, labels):
    assert not labels[np.asarray(person[1].dataobj) == 0].any()


def test_the_cerebellum_stays_where_the_atlas_has_it(person, labels):
    atlas = transforms.resample(nib.load(templates.atlas()), person[0], np.eye(4), order=0)
    inside = np.asarray(person[1].dataobj) > 0
    there = np.isin(np.asarray(atlas.dataobj), templates.WHOLE_CEREBELLUM) & inside
    here = np.isin(labels, templates.WHOLE_CEREBELLUM)
    assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.98
