"""What holds for any input, where there is algebra: tried on many made-up ones."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rela_bids.bids.derivatives import SYNTH, Derivatives
from rela_bids.bids.given import entity
from rela_bids.bids.query import Session
from rela_bids.exceptions import BadDataError
from rela_bids.model.diffusion import Schedule
from rela_bids.model.presets import PRESETS
from rela_bids.model.sampling import noise_generator, sample, sample_noise
from rela_bids.registration import rotation
from rela_bids.splits import SPLITS, settle_split
from rela_bids.transforms import from_model_grid, to_model_grid
from rela_bids.volumes import (
    Grid,
    minmax_to_unit,
    standardise_mri,
    suvr_to_unit,
    unit_to_suvr,
    valid_affine,
    without_shear,
)

few = settings(max_examples=25)

shapes = st.tuples(*[st.integers(2, 200)] * 3)
sizes = st.floats(0.3, 8)
points = st.tuples(*[st.floats(-150, 150)] * 3)
labels = st.text("abcXYZ0189", min_size=1, max_size=12)
angles = st.floats(-40, 40)
scales = st.floats(0.5, 20)


@given(points, shapes, sizes)
def test_the_middle_of_a_grid_is_where_it_was_asked_for(centre, shape, size):
    grid = Grid.about(centre, shape, size)
    middle = (np.array(shape) - 1) / 2
    np.testing.assert_allclose(nib.affines.apply_affine(grid.affine, middle), centre, atol=1e-6)


@given(points, shapes, sizes, sizes, st.sampled_from([1, 2, 8]))
def test_a_grid_of_other_voxels_sees_as_much_about_the_same_middle(
    centre, shape, size, other, multiple
):
    changed = Grid.about(centre, shape, size).with_voxel_size(other, multiple_of=multiple)
    assert all(n % multiple == 0 for n in changed.shape)
    seen, sees = np.array(shape) * size, np.array(changed.shape) * other
    assert (sees >= seen - 1e-6).all()
    assert (sees < seen + multiple * other + 1e-6).all()
    middle = (np.array(changed.shape) - 1) / 2
    np.testing.assert_allclose(nib.affines.apply_affine(changed.affine, middle), centre, atol=1e-6)


@given(
    angles, angles, angles, st.tuples(sizes, sizes, sizes), points, st.tuples(*[st.booleans()] * 3)
)
def test_an_orientation_survives_a_header(x, y, z, voxel, origin, flips):
    affine = rotation(x, y, z) @ np.diag(
        [*(s * (1 - 2 * f) for s, f in zip(voxel, flips, strict=True)), 1]
    )
    affine[:3, 3] = origin
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), affine)
    for code in ((1, 0), (0, 1), (1, 1)):
        image.header.set_sform(affine, code[0])
        image.header.set_qform(affine, code[1])
        found, _ = valid_affine(image.header, "x")
        # A quaternion's fourth number is not stored: near half a turn it is the root of what single
        # precision leaves of 0, about 1e-3.
        precision = 2e-4 if code[0] else 2e-3 * max(voxel)
        np.testing.assert_allclose(found, affine, atol=precision)
        assert np.sign(np.linalg.det(found[:3, :3])) == np.sign(np.linalg.det(affine[:3, :3]))


@few
@given(angles, angles, angles, st.floats(0, 0.4), points)
def test_what_had_shear_has_none_and_its_middle_stays(x, y, z, shear, origin):
    affine = rotation(x, y, z) @ np.array(
        [[1, shear, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    affine[:3, 3] = origin
    data = np.zeros((12, 14, 16), np.float32)
    data[5:7, 6:8, 7:9] = 1
    straight, found = without_shear(data, affine)
    axes = found[:3, :3] / np.linalg.norm(found[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    centre = np.argwhere(straight > 0.3).mean(0)
    expected = nib.affines.apply_affine(affine, (5.5, 6.5, 7.5))
    np.testing.assert_allclose(nib.affines.apply_affine(found, centre), expected, atol=0.5)


suvr = arrays.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 20, width=32))


@given(suvr, scales)
def test_suvr_comes_back_from_the_networks_range(data, scale):
    unit = suvr_to_unit(data, scale)
    np.testing.assert_allclose(unit_to_suvr(unit, scale), data, atol=1e-5 * scale)


@given(arrays.arrays(np.float32, (3, 4, 5), elements=st.floats(-1, 1, width=32)), scales)
def test_the_networks_range_comes_back_from_suvr(unit, scale):
    np.testing.assert_allclose(suvr_to_unit(unit_to_suvr(unit, scale), scale), unit, atol=1e-5)


@given(suvr)
def test_an_images_own_range_becomes_the_networks(data):
    unit = minmax_to_unit(data)
    assert unit.min() == -1
    assert unit.max() <= 1 + 1e-6
    order = np.argsort(data, axis=None, kind="stable")
    assert (np.diff(unit.ravel()[order]) >= 0).all()


mri = arrays.arrays(np.float32, (6, 6, 6), elements=st.floats(1, 4000, width=32))


@given(mri, st.floats(0.01, 100), st.floats(-500, 500))
def test_mri_is_the_same_whatever_its_gain_and_offset(data, gain, offset):
    mask = np.ones(data.shape, bool)
    mask[0] = False
    quartiles = np.percentile(data[mask], [25, 75])
    if quartiles[1] - quartiles[0] < 1:
        return
    standard = standardise_mri(data, mask)
    assert np.abs(standard).max() <= 4
    assert not standard[0].any()
    other = standardise_mri((data * gain + offset).astype(np.float32), mask)
    tolerance = 1e-3 + 1e-5 * (abs(offset) + 4000 * gain) / gain
    np.testing.assert_allclose(other, standard, atol=tolerance)


@given(labels, st.none() | labels, labels, st.sampled_from(["T1w", "MNI152NLin2009cAsym"]))
def test_entities_come_back_from_a_path(subject, session, tracer, space):
    path = Derivatives(Path("/out")).path(
        Session(subject, session), SYNTH, tracer=tracer, space=space
    )
    found = [entity(path, key) for key in ("sub", "ses", "trc", "space", "desc")]
    assert found == [subject, session, tracer, space, "synth"]
    assert path.is_relative_to(Path("/out", f"sub-{subject}"))


people = st.dictionaries(
    labels, st.sets(st.sampled_from(["11CPIB", "18FAV45", "18FFDG"]), min_size=1), max_size=30
)


@given(people, st.integers(0, 2**32 - 1))
def test_a_split_parts_all_people_and_every_tracer(people, seed):
    tracers = sorted(set().union(*people.values()) if people else set())
    try:
        split = settle_split(people, tracers, None, seed)
    except BadDataError:
        counts = [sum(label in found for found in people.values()) for label in tracers]
        assert not counts or min(counts) < 2 or len(people) < 3
        return
    assert set(split) == set(people)
    assert set(split.values()) <= set(SPLITS)
    assert split == settle_split(dict(reversed(people.items())), tracers, None, seed)
    for label in tracers:
        parts = {split[subject] for subject, found in people.items() if label in found}
        assert "train" in parts
    assert "test" in split.values()


class Anything(torch.nn.Module):
    """A denoiser of no meaning, whose output depends on all that it is given."""

    def encode(self, mri):
        return [mri.mean(1, keepdim=True)]

    def denoise(self, noisy, features, timesteps, class_labels):
        return torch.tanh(noisy + features[0] + timesteps.float() / 1000 + class_labels)


@few
@given(
    st.sampled_from(["fast", "paper"]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.integers(0, 2**63),
)
def test_a_sample_has_the_shape_of_its_mri_and_the_bytes_of_its_seed(preset, steps, n, shape, seed):
    schedule = Schedule(PRESETS[preset].diffusion)
    taken = len(schedule.config.trained_timesteps) or steps
    given_mri = torch.zeros(1, 2, *shape)

    def draw(count: int) -> torch.Tensor:
        noises = [sample_noise(schedule, number, seed, "01") for number in range(count)]
        classes = torch.zeros(count, dtype=torch.int64)
        return sample(Anything(), given_mri, classes, schedule, min(steps, taken), noises)

    made = draw(n)
    assert made.shape == (n, 1, *shape)
    assert torch.isfinite(made).all()
    assert made.abs().max() <= 1 + 1e-6
    assert torch.equal(made[:1], draw(1))


@given(st.lists(st.text() | st.integers() | st.none(), max_size=4), st.integers())
def test_names_that_differ_draw_different_noise(names, seed):
    def drawn(*of: object) -> torch.Tensor:
        return torch.randn(4, generator=noise_generator(seed, *of))

    assert torch.equal(drawn(*names), drawn(*names))
    assert not torch.equal(drawn(*names), drawn(*names, "more"))


@pytest.fixture(scope="module")
def smooth() -> nib.Nifti1Image:
    """A bump in the middle of an image of 3 mm voxels."""
    indices = np.indices((40, 44, 40)) - np.array([19.5, 21.5, 19.5])[:, None, None, None]
    data = np.exp(-(indices**2).sum(0) / 120).astype(np.float32)
    return nib.Nifti1Image(data, nib.affines.from_matvec(np.eye(3) * 3, (-58.5, -64.5, -58.5)))


@few
@given(angles, angles, angles, st.tuples(*[st.floats(-15, 15)] * 3), st.floats(0.85, 1.15))
def test_a_volume_comes_back_from_the_model_grid(smooth, x, y, z, shift, scale):
    to_template = rotation(x, y, z) @ np.diag([scale, scale, scale, 1])
    to_template[:3, 3] = shift
    grid = Grid.about((0, 0, 0), (72, 72, 72), 3.0)
    there = to_model_grid(smooth, to_template, grid)
    back = from_model_grid(there, to_template, grid, smooth, mask=np.ones(smooth.shape, bool))
    # What the model grid does not see cannot come back.
    middle = np.s_[12:28, 14:30, 12:28]
    np.testing.assert_allclose(back[middle], np.asarray(smooth.dataobj)[middle], atol=0.05)
