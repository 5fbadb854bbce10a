"""Regions of a person whose cortex is not where the atlas's is."""

import nibabel as nib
import numpy as np
import pytest

from rela_bids import quantification, regions, registration, templates, transforms
from rela_bids.atlases import packaged_atlas, read_atlas
from rela_bids.volumes import Grid

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
    return np.asarray(regions.person_regions(t1w, mask, path, packaged_atlas()).dataobj)


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


def test_an_atlas_of_the_users_is_carried_and_left_as_it_is(person, tmp_path):
    t1w, mask, _, path = person
    left_and_right = np.where(np.arange(60)[:, None, None] < 30, 7, 70_000)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-118, -126, -72)
    image = nib.Nifti1Image(np.broadcast_to(left_and_right, (60, 60, 60)).astype(np.int32), affine)
    nib.save(image, tmp_path / "halves.nii.gz")
    (tmp_path / "halves.tsv").write_text("index\tname\n7\tleft\n70000\tright\n")
    atlas = read_atlas(tmp_path / "halves.nii.gz", tmp_path / "halves.tsv")
    carried = regions.person_regions(t1w, mask, path, atlas)
    labels, inside = np.asarray(carried.dataobj), np.asarray(mask.dataobj) > 0
    x = nib.affines.apply_affine(t1w.affine, np.argwhere(inside))[:, 0]
    np.testing.assert_array_equal(labels[inside], np.where(x < 0, 7, 70_000))
    assert not labels[~inside].any()


def test_weights_give_the_mean_on_the_t1w_of_what_lies_on_the_model_grid():
    """An oblique T1w, part of it beyond the grid, against resampling the volume."""
    rng = np.random.default_rng(1)
    grid = Grid.about((3.0, -2.0, 4.0), (16, 18, 14), 4.0)
    turn = registration.rotation(10, -15, 20) @ np.diag([2.3, 1.7, 2.0, 1.0])
    turn[:3, 3] = (-40, -42, -20)
    labels = rng.integers(0, 6, (34, 40, 31)).astype(np.int16)
    to_template = registration.rotation(-5, 8, 3)
    mask, volume = rng.random(grid.shape) < 0.8, rng.random(grid.shape).astype(np.float32)
    volume[~mask] = 0
    image = nib.Nifti1Image(labels, turn)
    indices = [5, 2, 9]
    weights = regions.mean_weights(image, indices, to_template, grid, mask)
    there = transforms.from_model_grid(volume, to_template, grid, image)
    wanted = quantification.region_means(there, labels, indices)
    np.testing.assert_allclose((weights @ volume[mask])[:2], wanted[:2], rtol=1e-5)
    assert (weights @ volume[mask])[2] == 0
