"""Bias correction, brain masks and registration, on heads built around the packaged template."""

import os
import subprocess
import sys
import tempfile

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from rela_bids import brain_mask, deformable, outlines, registration, templates, transforms
from rela_bids.exceptions import BadDataError, UsageError

VOXEL = 2.5


@pytest.fixture(scope="module")
def template():
    return nib.load(templates.brain_t1w())


@pytest.fixture(scope="module")
def head():
    """T1w with skull, scalp and a long neck, its FLAIR, and its brain; template space, 2.5 mm."""
    field = np.ones((90, 100, 130), np.float32)
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = (-111, -143, -220)
    template = nib.load(templates.brain_t1w())
    grid = nib.Nifti1Image(field, affine)
    brain = np.asarray(transforms.resample(template, grid, np.eye(4)).dataobj)
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(brain > 10, iterations=3))
    distance = ndimage.distance_transform_edt(~inside) * VOXEL
    x, y, z = nib.affines.apply_affine(affine, np.indices(field.shape).T).T
    neck = (np.hypot(x, y + 35) < 55) & (z < -60)
    scalp = ((distance > 7) & (distance < 14)) | neck & (distance > 7)
    noise = np.random.default_rng(0).normal(0, 1.5, field.shape)
    t1w = np.where(inside, np.maximum(brain, 15), 4) + 95 * scalp
    flair = np.where(inside, np.where(brain > 25, 130 - brain, 8), 4) + 60 * scalp
    mri = [
        nib.Nifti1Image(np.maximum(data + noise, 0).astype(np.float32), affine)
        for data in (t1w, flair)
    ]
    return *mri, nib.Nifti1Image(inside.astype(np.uint8), affine)


def moved(image, motion):
    """The same head after a motion, RAS+ mm, on its own grid: only the header turns."""
    return nib.Nifti1Image(np.asarray(image.dataobj), motion @ image.affine)


def dice(a, b):
    a, b = (np.asarray(i.dataobj) > 0 for i in (a, b))
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def farthest_in_brain(found, expected, mask):
    """The largest distance between two transforms over the brain, mm."""
    points = nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)[::50])
    apart = nib.affines.apply_affine(found, points) - nib.affines.apply_affine(expected, points)
    return np.linalg.norm(apart, axis=1).max()


def strong_motion():
    motion = registration.rotation(14, -10, 12)
    motion[:3, 3] = (12, -10, 13)
    return motion


def test_an_icosphere_is_closed_and_its_normals_point_outward():
    mesh = deformable.icosphere(3)
    assert len(mesh.vertices) - 1.5 * len(mesh.faces) + len(mesh.faces) == 2
    normals = deformable.vertex_normals(mesh.vertices, mesh.faces)
    assert (np.einsum("vi,vi->v", normals, mesh.vertices) > 0.9).all()
    for vertex in (0, 100, 400):
        away = np.linalg.norm(
            mesh.vertices[mesh.neighbours[vertex]] - mesh.vertices[vertex], axis=1
        )
        assert (away > 0).all()
        assert away.max() < 0.4


def test_a_filled_sphere_has_the_volume_of_a_sphere():
    mesh = deformable.icosphere(4)
    inside = deformable.filled(mesh.vertices * 20 + 25, mesh.faces, (50, 50, 50))
    assert inside.sum() == pytest.approx(4 / 3 * np.pi * 20.5**3, rel=0.03)


def test_the_neck_is_cut_off_whichever_way_the_head_lies(head):
    t1w = head[0]
    for flip in (slice(None), slice(None, None, -1)):
        image = t1w.slicer[:, :, ::-1] if flip.step else t1w
        kept = registration.above_neck(image)
        height = len(range(*kept[2].indices(image.shape[2]))) * VOXEL
        assert 170 <= height <= 260
        brain = np.asarray((head[2].slicer[:, :, ::-1] if flip.step else head[2]).dataobj) > 0
        assert brain[kept].sum() == brain.sum()


@pytest.mark.slow
def test_n4_evens_out_a_bias_field(head):
    t1w, _, mask = head
    ramp = np.linspace(0.6, 1.4, t1w.shape[0], dtype=np.float32)[:, None, None]
    biased = nib.Nifti1Image(np.asarray(t1w.dataobj) * ramp, t1w.affine)
    corrected = np.asarray(registration.correct_bias(biased).dataobj)
    inside = np.asarray(mask.dataobj) > 0
    ratio = np.log(corrected[inside] / np.asarray(t1w.dataobj)[inside].clip(1e-3))
    before = np.log(np.broadcast_to(ramp, inside.shape)[inside])
    assert ratio.std() < 0.5 * before.std()


@pytest.mark.slow
def test_the_mask_and_the_affine_of_a_nodding_head_with_a_neck_are_right(head, template):
    motion = registration.rotation(25, 0, 0)
    motion[:3, 3] = (5, 10, -8)
    found = brain_mask.extract_brain(moved(head[0], motion), template)
    assert dice(found.mask, head[2]) > 0.95
    assert farthest_in_brain(found.to_template, motion, head[2]) < 5


@pytest.mark.slow
def test_a_whole_head_template_in_a_space_of_its_own_finds_the_brain(head, template):
    grid = transforms.isotropic(head[0], registration.WORKING_VOXEL)
    elsewhere = registration.rotation(3, 10, -8)
    elsewhere[:3, 3] = (15, 20, 30)
    marked = moved(head[0], elsewhere), moved(head[2], elsewhere)
    stretch = np.diag([1.04, 0.97, 1.02, 1.0])
    person = nib.Nifti1Image(np.asarray(grid.dataobj), stretch @ grid.affine)
    edge = outlines.head_outline(marked, template, person, stretch)
    truth = np.asarray(transforms.resample(head[2], grid, np.eye(4)).dataobj) > 0.5
    found = nib.Nifti1Image((edge < 0).astype(np.uint8), person.affine)
    assert dice(found, nib.Nifti1Image(truth.astype(np.uint8), person.affine)) > 0.97


@pytest.mark.slow
def test_a_strong_motion_of_the_flair_is_undone(head):
    t1w, flair, mask = head
    found = registration.flair_to_t1w(moved(flair, strong_motion()), t1w, mask)
    assert farthest_in_brain(found, strong_motion(), mask) < 1.0


@pytest.mark.very_slow
def test_a_strong_motion_of_a_real_flair_is_undone(real_mri):
    from rela_bids.volumes import load_volume

    folder = real_mri / "sub-ms04" / "ses-1" / "anat"
    t1w = load_volume(folder / "sub-ms04_ses-1_T1w.nii.gz")
    flair = load_volume(folder / "sub-ms04_ses-1_FLAIR.nii.gz")
    mask = nib.load(
        real_mri / "derivatives/deepbet/sub-ms04/ses-1/anat/sub-ms04_ses-1_desc-brain_mask.nii.gz"
    )
    at_rest = registration.flair_to_t1w(flair, t1w, mask)
    found = registration.flair_to_t1w(moved(flair, strong_motion()), t1w, mask)
    assert farthest_in_brain(found, strong_motion() @ at_rest, mask) < 1.0


BENDING_SCRIPT = """
import sys, nibabel as nib, numpy as np
from rela_bids import registration, templates, transforms
template = transforms.isotropic(nib.load(templates.brain_t1w()), 4.0)
stretched = np.diag([1.05, 0.96, 1, 1]) @ template.affine
person = nib.Nifti1Image(np.asarray(template.dataobj) ** 0.8, stretched)
start = registration.rotation(4, 3, 2)
stages = [registration.AFFINE_COARSE, registration.Stage("SyN[0.2,3,0]", (2, 1), (1, 0), (20, 10))]
found = registration.run_stages(template, person, stages, start)
transforms.write_composite(sys.argv[1], [found.field, found.matrix])
"""


@pytest.mark.slow
def test_the_same_bytes_come_out_of_another_process_that_asks_for_two_threads(tmp_path):
    for name, threads in (("a.h5", "1"), ("b.h5", "2")):
        environment = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": threads}
        subprocess.run(
            [sys.executable, "-c", BENDING_SCRIPT, tmp_path / name], check=True, env=environment
        )
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_registration_leaves_no_file_and_no_random_state_behind(template, tmp_path, monkeypatch):
    # Of its own: other processes may be registering too.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    small = transforms.isotropic(template, 6.0)
    registration.run_stages(small, small, [registration.RIGID_COARSE], np.eye(4))
    assert np.random.rand() == expected
    assert not list(tmp_path.iterdir())


def test_the_mask_of_a_stripped_image_is_what_is_not_zero_without_holes(head):
    t1w, _, mask = head
    inside = np.asarray(mask.dataobj) > 0
    data = np.asarray(t1w.dataobj) * inside
    data[45, 50, 80] = 0
    found = brain_mask.stripped_mask(nib.Nifti1Image(data, t1w.affine))
    assert dice(found, mask) > 0.999
    assert np.asarray(found.dataobj)[45, 50, 80] == inside[45, 50, 80]


class TestAMaskOfOthers:
    def written(self, tmp_path, mask):
        path = tmp_path / "sub-01_desc-brain_mask.nii.gz"
        nib.save(mask, path)
        return path

    def test_on_the_same_grid_nothing_changes(self, head, tmp_path):
        found = brain_mask.adopt_mask(self.written(tmp_path, head[2]), head[0])
        np.testing.assert_array_equal(found.dataobj, head[2].dataobj)
        assert found.get_data_dtype() == np.uint8

    def test_another_grid_is_matched_through_the_headers(self, head, tmp_path):
        other = head[2].slicer[:, 5:, :]
        other = other.as_reoriented(np.array([[2, 1], [0, 1], [1, -1]]))
        found = brain_mask.adopt_mask(self.written(tmp_path, other), head[0])
        assert dice(found, head[2]) > 0.999

    def test_of_another_place_is_refused_by_name(self, head, tmp_path):
        away = registration.rotation(0, 0, 0)
        away[:3, 3] = (0, 70, 40)
        path = self.written(tmp_path, moved(head[2], away))
        with pytest.raises(BadDataError, match=r"sub-01_desc-brain_mask\.nii\.gz does not lie in"):
            brain_mask.adopt_mask(path, head[0])

    def test_of_no_size_of_a_brain_is_refused_by_name(self, head, tmp_path):
        small = np.zeros(head[0].shape, np.uint8)
        small[40:50, 40:50, 70:80] = 1
        path = self.written(tmp_path, nib.Nifti1Image(small, head[0].affine))
        with pytest.raises(BadDataError, match=r"sub-01_desc-brain_mask\.nii\.gz marks 16 ml"):
            brain_mask.adopt_mask(path, head[0])

    def test_that_is_empty_is_refused_by_name(self, head, tmp_path):
        path = self.written(tmp_path, nib.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4)))
        with pytest.raises(BadDataError, match=r"sub-01_desc-brain_mask\.nii\.gz"):
            brain_mask.adopt_mask(path, head[0])


def test_a_whole_head_is_not_taken_for_a_stripped_one(head):
    with pytest.raises(BadDataError, match="--skull-strip ants"):
        brain_mask.stripped_mask(head[0])


def test_deepbet_where_it_is_not_installed_says_how_to_install_it(head, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepbet", None)
    with pytest.raises(UsageError, match=r"rela_bids\[deepbet\]"):
        brain_mask.deepbet_mask(head[0])


class TestQuality:
    def judged(self, head, template, mask):
        image = nib.Nifti1Image(mask.astype(np.uint8), head[0].affine)
        return brain_mask.mask_quality(head[0], image, np.eye(4), template)

    def test_a_good_mask_passes(self, head, template):
        quality = self.judged(head, template, np.asarray(head[2].dataobj) > 0)
        assert (quality.verdict, quality.reason) == ("ok", "")
        assert quality.template_overlap > 0.95
        brain_mask.require_usable(quality, "sub-01_T1w.nii.gz")

    def test_a_mask_that_lost_its_lower_half_fails_by_name(self, head, template):
        mask = np.asarray(head[2].dataobj) > 0
        mask[:, :, : mask.shape[2] * 2 // 3] = False
        quality = self.judged(head, template, mask)
        assert quality.verdict == "fail"
        with pytest.raises(BadDataError, match=r"sub-01_T1w\.nii\.gz.*overlap"):
            brain_mask.require_usable(quality, "sub-01_T1w.nii.gz")

    def test_the_whole_head_as_a_mask_fails(self, head, template):
        quality = self.judged(head, template, registration.head_mask(head[0]))
        assert quality.verdict == "fail"

    def test_an_empty_mask_fails_rather_than_crashes(self, head, template):
        quality = self.judged(head, template, np.zeros(head[0].shape, bool))
        assert quality.verdict == "fail"

    def test_a_mask_that_is_somewhat_small_warns(self, head, template):
        mask = ndimage.binary_erosion(np.asarray(head[2].dataobj) > 0, iterations=3)
        assert self.judged(head, template, mask).verdict == "warn"
