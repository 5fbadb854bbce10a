"""PET from its sidecar to SUVR, on a small brain made of the packaged template."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from rela_bids import pet_target, realignment, registration, templates, transforms
from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.frames import PetPlan, plan_pet
from rela_bids.tracers import TRACERS
from rela_bids.volumes import Grid

FLORBETAPIR = TRACERS["18FAV45"]
FLORTAUCIPIR = TRACERS["18FAV1451"]
GRID = Grid.about((0.0, -18.0, 5.0), (40, 48, 40), 4.0)


def write_pet(folder, volumes, name="sub-1_trc-18FAV45_pet.nii.gz"):
    """A file of so many volumes; 0 for a 3-D one."""
    shape = (4, 4, 4, volumes) if volumes else (4, 4, 4)
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    nib.save(nib.Nifti1Image(data, np.eye(4)), folder / name)
    return folder / name


def times(start, duration, injection=0, **more):
    return {
        "FrameTimesStart": start,
        "FrameDuration": duration,
        "InjectionStart": injection,
        **more,
    }


class TestPlan:
    def test_the_frames_of_the_window_are_used(self, tmp_path):
        starts = [60 * minute for minute in (0, 30, 45, 50, 55, 60, 65, 70)]
        durations = [60 * minute for minute in (30, 15, 5, 5, 5, 5, 5, 20)]
        plan = plan_pet(write_pet(tmp_path, 8), FLORBETAPIR, times(starts, durations))
        assert plan.frames == (3, 4, 5, 6)
        assert plan.durations == pytest.approx((5, 5, 5, 5))
        assert plan.minutes == pytest.approx((50, 70))
        assert plan.notes == ()

    def test_another_window_takes_other_frames(self, tmp_path):
        early = dataclasses.replace(FLORBETAPIR, frame_window=(0, 20))
        sidecar = times([0, 600, 1200, 3000], [600, 600, 1800, 1200])
        assert plan_pet(write_pet(tmp_path, 4), early, sidecar).frames == (0, 1)

    @pytest.mark.parametrize(
        ("start", "end", "used"),
        [
            (40, 60, True),  # half of it within
            (38, 58, False),
            (40, 100, True),  # long, around the window
            (0, 90, False),  # too long: most of it is early
        ],
    )
    def test_a_frame_across_the_windows_edge(self, tmp_path, start, end, used):
        image = write_pet(tmp_path, 0)
        sidecar = times([60 * start], [60 * (end - start)])
        if used:
            notes = plan_pet(image, FLORBETAPIR, sidecar).notes
            assert f"{start} to {end} min" in notes[0]
        else:
            with pytest.raises(BadDataError, match="too little of the 50 to 70 min"):
                plan_pet(image, FLORBETAPIR, sidecar)

    def test_a_scan_that_ends_early_is_used_with_a_note(self, tmp_path):
        plan = plan_pet(
            write_pet(tmp_path, 2), FLORBETAPIR, times([0, 300], [300, 300], injection=-3000)
        )
        assert plan.frames == (0, 1)
        assert "50 to 60 min" in plan.notes[0]

    def test_milliseconds_are_recognised(self, tmp_path):
        sidecar = times([0, 300000], [300000, 300000], injection=-3.0e6, ScanStart=0)
        plan = plan_pet(write_pet(tmp_path, 2), FLORBETAPIR, sidecar)
        assert plan.minutes == pytest.approx((50, 60))
        assert "milliseconds" in plan.notes[0]

    def test_the_sidecars_of_a_real_study_are_understood(self, wave_skeleton, tmp_path):
        found = sorted(wave_skeleton.rglob("*_pet.json"))
        for path in found:
            sidecar = json.loads(path.read_text())
            tracer = FLORTAUCIPIR if "18FAV1451" in path.name else FLORBETAPIR
            volumes = sum(duration > 0 for duration in sidecar["FrameDuration"])
            plan = plan_pet(write_pet(tmp_path, volumes), tracer, sidecar)
            assert len(plan.frames) == volumes
            assert plan.minutes[0] == pytest.approx(tracer.frame_window[0])
            assert any("milliseconds" in note for note in plan.notes)

    def test_starts_that_count_from_the_scan_are_moved(self, tmp_path):
        sidecar = times([0, 600], [600, 600], ScanStart=3000)
        plan = plan_pet(write_pet(tmp_path, 2), FLORBETAPIR, sidecar)
        assert plan.minutes == pytest.approx((50, 70))
        assert "ScanStart" in plan.notes[0]

    def test_one_volume_without_times_is_taken_for_the_late_image(self, tmp_path):
        plan = plan_pet(write_pet(tmp_path, 0), FLORBETAPIR, {})
        assert (plan.frames, plan.durations, plan.minutes) == ((0,), (), None)
        assert "late image" in plan.notes[0]

    @pytest.mark.parametrize(
        ("sidecar", "says"),
        [
            ({}, "has no FrameTimesStart"),
            ({"FrameTimesStart": [3000, 3600]}, "has no FrameDuration"),
            (times([3000], [600]), "2 volumes, but FrameTimesStart .* 1 numbers"),
            (times([3000, 3600], [600]), "2 volumes, but FrameDuration"),
            (times([3000, "3600"], [600, 600]), "FrameTimesStart .* not numbers"),
            (times([3000, 3600], [600, float("nan")]), "FrameDuration .* not numbers"),
            (times([3000, 3600], [600, 600], injection="10:00"), "InjectionStart .* not numbers"),
            (times([3000, 3600], [600, 0]), "not above 0"),
            (times([3600, 3000], [600, 600]), "does not increase"),
            (times([3000, 3300], [600, 600]), "frames 1 and 2 overlap"),
            (times([0, 600], [600, 600]), "0 to 20 min after injection, too little of the 50"),
            (times([0, 600], [600, 600], injection=3e9), "hours after injection"),
            (times([0, 600], [600, 600], injection=-3e9), "hours after injection"),
        ],
    )
    def test_times_that_cannot_be_used_are_refused_in_one_line(self, tmp_path, sidecar, says):
        image = write_pet(tmp_path, 2)
        with pytest.raises(BadDataError, match=says) as caught:
            plan_pet(image, FLORBETAPIR, sidecar)
        assert str(image) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_what_is_no_pet_is_refused_by_its_header(self, tmp_path):
        with pytest.raises(MissingInputError, match="not there"):
            plan_pet(tmp_path / "none.nii.gz", FLORBETAPIR, {})
        flat = tmp_path / "flat.nii.gz"
        nib.save(nib.Nifti1Image(np.ones((4, 4), np.float32), np.eye(4)), flat)
        with pytest.raises(BadDataError, match="4 x 4 of float32"):
            plan_pet(flat, FLORBETAPIR, {})
        text = tmp_path / "text.nii.gz"
        text.write_text("no image")
        with pytest.raises(BadDataError, match="cannot be read"):
            plan_pet(text, FLORBETAPIR, {})

    def test_an_unknown_reference_region_names_the_choices(self, tmp_path):
        tracer = dataclasses.replace(FLORBETAPIR, reference_region="the moon")
        with pytest.raises(UsageError, match=r"the moon.*whole cerebellum, .*pons"):
            plan_pet(write_pet(tmp_path, 0), tracer, {})

    def test_prepared_pet_on_the_t1w_needs_no_registration(self, tmp_path):
        sidecar = {"FrameTimesStart": [3000, 3600], "FrameDuration": [600, 600], "Units": "BQML"}
        image = write_pet(tmp_path, 2, "sub-1_trc-18FAV45_space-T1w_desc-preproc_pet.nii.gz")
        plan = plan_pet(image, FLORBETAPIR, sidecar, prepared=True)
        assert (plan.prepared, plan.in_t1w_space, plan.is_suvr) == (True, True, False)
        assert "InjectionStart" in plan.notes[0]
        suvr = plan_pet(image, FLORBETAPIR, sidecar | {"Units": "SUVR"}, prepared=True)
        assert suvr.is_suvr
        assert not plan_pet(image, FLORBETAPIR, sidecar | {"Units": "SUVR"}).is_suvr

    def test_prepared_pet_in_its_own_space_is_registered(self, tmp_path):
        image = write_pet(tmp_path, 0, "sub-1_trc-18FAV45_desc-preproc_pet.nii.gz")
        assert not plan_pet(image, FLORBETAPIR, {}, prepared=True).in_t1w_space

    def test_prepared_pet_in_template_space_is_refused(self, tmp_path):
        image = write_pet(tmp_path, 0, "sub-1_space-MNI152NLin2009cAsym_desc-preproc_pet.nii.gz")
        with pytest.raises(BadDataError, match="space-T1w"):
            plan_pet(image, FLORBETAPIR, {}, prepared=True)


def plan_of(path, *frames, **more):
    return PetPlan(path, frames, tuple(5.0 for _ in frames), (50, 70), **more)


class TestFrames:
    def test_only_the_frames_of_the_plan_are_read(self, tmp_path):
        path = write_pet(tmp_path, 5)
        series = pet_target.load_frames(plan_of(path, 1, 3))
        np.testing.assert_array_equal(series.dataobj, nib.load(path).get_fdata()[..., [1, 3]])

    def test_what_is_not_finite_becomes_0_and_noise_below_0_stays(self, tmp_path):
        data = np.full((6, 6, 6), 4.0, np.float32)
        data[0, 0, :3] = (np.nan, np.inf, -1)
        path = tmp_path / "pet.nii"
        nib.save(nib.Nifti1Image(data, np.eye(4)), path)
        loaded = np.asarray(pet_target.load_frames(plan_of(path, 0)).dataobj)[..., 0]
        np.testing.assert_array_equal(loaded[0, 0, :4], (0, 0, -1, 4))

    @pytest.mark.parametrize(
        ("value", "says"), [(0, "constant"), (np.nan, "constant"), (-3, "constant|negative")]
    )
    def test_a_frame_without_uptake_is_refused(self, tmp_path, value, says):
        data = np.ones((4, 4, 4, 2), np.float32)
        data[1:3, ..., 0] = 2
        data[..., 1] = value
        path = tmp_path / "pet.nii.gz"
        nib.save(nib.Nifti1Image(data, np.eye(4)), path)
        with pytest.raises(BadDataError, match=f"frame 2 is ({says})"):
            pet_target.load_frames(plan_of(path, 0, 1))

    def test_negative_uptake_is_refused(self, tmp_path):
        data = np.random.default_rng(0).normal(-5, 1, (4, 4, 4)).astype(np.float32)
        path = tmp_path / "pet.nii.gz"
        nib.save(nib.Nifti1Image(data, np.eye(4)), path)
        with pytest.raises(BadDataError, match="negative on average"):
            pet_target.load_frames(plan_of(path, 0))

    def test_a_truncated_file_is_named(self, tmp_path):
        path = tmp_path / "pet.nii.gz"
        noise = np.random.default_rng(0).random((20, 20, 20, 3), np.float32)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
        path.write_bytes(path.read_bytes()[:40_000])
        with pytest.raises(BadDataError, match=r"pet\.nii\.gz cannot be read"):
            pet_target.load_frames(plan_of(path, 0, 2))

    def test_the_average_is_weighted_by_duration(self):
        frames = [nib.Nifti1Image(np.full((3, 3, 3), v, np.float32), np.eye(4)) for v in (1, 4)]
        mean = realignment.average(frames, [np.eye(4)] * 2, [10, 5])
        np.testing.assert_allclose(mean.dataobj, 2)


@pytest.fixture(scope="module")
def t1w():
    """The template's brain at 3 mm with a scalp around it, turned a little in the scanner."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-96, -132, -84)
    grid = nib.Nifti1Image(np.zeros((65, 80, 68), np.float32), affine)
    brain = np.asarray(
        transforms.resample(nib.load(templates.brain_t1w()), grid, np.eye(4)).dataobj
    )
    inside = ndimage.binary_fill_holes(brain > 8)
    distance = ndimage.distance_transform_edt(~inside) * 3
    scalp = 70 * ((distance > 6) & (distance < 14))
    turn = registration.rotation(5, 0, -4)
    turn[:3, 3] = (3, 4, -5)
    image = nib.Nifti1Image((brain + scalp).astype(np.float32), turn @ affine)
    return image, nib.Nifti1Image(inside.astype(np.uint8), image.affine), turn


@pytest.fixture(scope="module")
def uptake(t1w):
    """Amyloid-like: white matter hot, CSF cold; on the T1w's grid, Bq/mL."""
    image, mask, _ = t1w
    data, inside = np.asarray(image.dataobj), np.asarray(mask.dataobj) > 0
    suvr = np.where(inside, 0.4 + np.clip(data / data[inside].max(), 0, 1), 0.3 * (data > 0))
    return nib.Nifti1Image((8000 * ndimage.gaussian_filter(suvr, 0.8)).astype("f4"), image.affine)


def seen_from(uptake, motion, noise=0.0, seed=0):
    """PET at 3 mm after a motion (RAS+ mm of the T1w to those of the PET)."""
    moved = transforms.resample(uptake, uptake, np.linalg.inv(motion))
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(moved.shape), 0.8)
    data = np.asarray(moved.dataobj) + noise * 8000 * field / field.std()
    return nib.Nifti1Image(data.astype(np.float32), uptake.affine)


def motion_of(turns, shift):
    motion = registration.rotation(*turns)
    motion[:3, 3] = shift
    return motion


def farthest(found, expected, mask):
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)[::50]
    points = nib.affines.apply_affine(mask.affine, voxels)
    apart = nib.affines.apply_affine(found, points) - nib.affines.apply_affine(expected, points)
    return np.linalg.norm(apart, axis=1).max()


class TestRealignment:
    def test_motion_between_frames_is_found(self, t1w, uptake):
        motions = [motion_of((0, 0, 0), (0, 0, 0)), motion_of((3, -1, 2), (2, -3, 4))]
        frames = [seen_from(uptake, m, 0.02, seed) for seed, m in enumerate(motions)]
        found, moved = realignment.realign(frames, [5, 5])
        between = found[1] @ np.linalg.inv(found[0])
        assert farthest(between, motions[1], t1w[1]) < 0.5
        assert min(moved) > 1

    def test_frames_that_lie_still_stay_where_they_are(self, uptake):
        frames = [seen_from(uptake, np.eye(4), 0.05, seed) for seed in range(3)]
        found, moved = realignment.realign(frames, [5, 5, 5])
        assert max(moved) < 0.5
        np.testing.assert_allclose(found, [np.eye(4)] * 3, atol=0.3)

    def test_a_frame_of_another_scale_does_not_seem_to_move(self, t1w, uptake):
        frames = [seen_from(uptake, np.eye(4), 0.02, seed) for seed in range(2)]
        frames[1] = nib.Nifti1Image(0.5 * np.asarray(frames[1].dataobj), frames[1].affine)
        found, _ = realignment.realign(frames, [5, 5])
        assert farthest(found[1], found[0], t1w[1]) < 0.5

    def test_one_frame_is_left_alone(self, uptake):
        matrices, moved = realignment.realign([uptake], [5])
        np.testing.assert_array_equal(matrices, [np.eye(4)])
        assert moved == [0.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turns", "shift"), [((0, 0, 0), (0, 0, 0)), ((18, -10, 12), (15, -12, 14))]
)
def test_pet_is_aligned_with_the_t1w_from_near_and_far(t1w, uptake, turns, shift):
    image, mask, _ = t1w
    motion = motion_of(turns, shift)
    found = pet_target.pet_to_t1w(seen_from(uptake, motion, 0.03), image, mask)
    assert farthest(found, motion, mask) < 2
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-6)


class TestSuvr:
    def make(self, t1w, pet, matrix=None, tracer=FLORBETAPIR, **more):
        image, mask, turn = t1w
        return pet_target.suvr(
            pet,
            np.eye(4) if matrix is None else matrix,
            plan=plan_of("sub-1_pet.nii.gz", 0, **more),
            tracer=tracer,
            t1w=image,
            brain_mask=mask,
            to_template=turn,
            grid=GRID,
        )

    def test_the_region_keeps_clear_of_csf_and_of_what_is_outside_the_brain(self, t1w):
        image, mask, turn = t1w
        data, inside = np.asarray(image.dataobj), np.asarray(mask.dataobj) > 0
        region, whole = pet_target.reference_mask("whole cerebellum", image, mask, turn)
        assert 90 < region.sum() * 0.027 <= whole < 200
        assert not region[~inside].any()
        assert data[region].min() > 0.4 * np.median(data[region])
        x, y, z = nib.affines.apply_affine(
            np.linalg.inv(turn) @ image.affine, np.argwhere(region)
        ).T
        assert abs(x.mean()) < 4
        assert y.max() < -25
        assert z.max() < 5

    def test_the_mean_of_the_reference_region_is_1_whatever_the_unit(self, t1w, uptake):
        first = self.make(t1w, uptake)
        region, _ = pet_target.reference_mask("whole cerebellum", t1w[0], t1w[1], t1w[2])
        assert first.on_t1w[region].mean() == pytest.approx(1, abs=1e-3)
        thousandth = nib.Nifti1Image(np.asarray(uptake.dataobj) / 1000, uptake.affine)
        second = self.make(t1w, thousandth)
        np.testing.assert_allclose(second.on_grid, first.on_grid, atol=1e-4)
        assert first.reference_mean == pytest.approx(1000 * second.reference_mean, rel=1e-4)

    def test_tracers_have_reference_regions_of_their_own(self, t1w, uptake):
        pons = self.make(t1w, uptake, tracer=TRACERS["18FFDG"])
        assert 2 < pons.reference_ml < self.make(t1w, uptake).reference_ml / 3

    def test_a_hot_spot_on_the_left_is_on_the_left_of_the_model_grid(self, t1w, uptake):
        image, _, turn = t1w
        motion = motion_of((10, 0, 5), (6, -8, 4))
        at = nib.affines.apply_affine(turn, (-35, -20, 25))
        voxel = nib.affines.apply_affine(np.linalg.inv(image.affine), at)
        distance = np.linalg.norm(np.moveaxis(np.indices(image.shape), 0, -1) - voxel, axis=-1)
        data = np.asarray(uptake.dataobj) + 40_000 * (distance < 3)
        pet = seen_from(nib.Nifti1Image(data.astype("f4"), image.affine), motion)
        made = self.make(t1w, pet, motion)
        for found, affine, expected in (
            (made.on_grid, GRID.affine, (-35, -20, 25)),
            (made.on_t1w, image.affine, at),
        ):
            hot = np.argwhere(found > 0.7 * found.max()).mean(0)
            np.testing.assert_allclose(nib.affines.apply_affine(affine, hot), expected, atol=2.5)
        assert made.on_grid.shape == GRID.shape
        assert made.on_grid.dtype == made.on_t1w.dtype == np.float32

    def test_outside_the_field_of_view_there_is_0(self, t1w, uptake):
        # Without the top of the head.
        made = self.make(t1w, uptake.slicer[:, :, :45])
        whole = self.make(t1w, uptake)
        assert not made.on_t1w[:, :, 50:].any()
        assert made.reference_mean == pytest.approx(whole.reference_mean, rel=1e-3)

    def test_pet_without_the_cerebellum_is_refused(self, t1w, uptake):
        with pytest.raises(BadDataError, match=r"sub-1_pet.*ml of the reference region.*field of"):
            self.make(t1w, uptake.slicer[:, :, 30:])

    def test_a_reference_region_without_uptake_is_refused(self, t1w, uptake):
        empty = nib.Nifti1Image(np.zeros(uptake.shape, np.float32), uptake.affine)
        with pytest.raises(BadDataError, match=r"sub-1_pet.*whole cerebellum, is 0, not above 0"):
            self.make(t1w, empty)

    def test_prepared_suvr_keeps_its_scale(self, t1w, uptake):
        suvr = nib.Nifti1Image(np.asarray(uptake.dataobj) / 5000, uptake.affine)
        made = self.make(t1w, suvr, is_suvr=True)
        np.testing.assert_allclose(made.on_t1w, np.maximum(suvr.dataobj, 0), atol=1e-5)
        assert (made.reference_mean, made.reference_ml) == (1.0, 0.0)
