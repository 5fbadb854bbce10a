import h5py
import nibabel as nib
import numpy as np
import pytest
from nitransforms.manip import TransformChain
from scipy import ndimage

from rela_bids import registration, transforms
from rela_bids.exceptions import BadDataError
from rela_bids.volumes import Grid

GRID = Grid.about((0.0, -18.0, 5.0), (40, 48, 40), 4.0)


@pytest.fixture
def oblique():
    """An affine with rotation, scale and shear, that maps template points to T1w points."""
    matrix = registration.rotation(8, -5, 12) @ np.diag([0.9, 0.95, 1.05, 1.0])
    matrix[0, 1] += 0.05
    matrix[:3, 3] = (4, -20, 9)
    return matrix


def smooth_image(affine, shape, seed=0):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return nib.Nifti1Image(ndimage.gaussian_filter(noise, 5).astype(np.float32), affine)


def blob(point, affine, shape, sigma=3.0):
    """A bright spot at a point, RAS+ mm."""
    index = np.indices(shape).reshape(3, -1).T
    away = nib.affines.apply_affine(affine, index) - np.asarray(point)
    data = np.exp(-(away**2).sum(1) / (2 * sigma**2)).reshape(shape)
    return nib.Nifti1Image(data.astype(np.float32), affine)


def centre(image):
    return registration.centre_of_mass(image)


def test_an_affine_survives_its_file(oblique, tmp_path):
    transforms.write_affine(tmp_path / "x.mat", oblique)
    np.testing.assert_allclose(transforms.read_affine(tmp_path / "x.mat"), oblique, atol=1e-9)


def test_ants_reads_our_affine_as_we_mean_it(oblique, tmp_path):
    ants = registration.deterministic_ants()
    transforms.write_affine(tmp_path / "x.mat", oblique)
    point = np.array([10.0, -30.0, 20.0])
    lps = point * [-1, -1, 1]
    moved = ants.apply_ants_transform_to_point(
        ants.read_transform(str(tmp_path / "x.mat")), tuple(lps)
    )
    np.testing.assert_allclose(
        np.array(moved) * [-1, -1, 1], nib.affines.apply_affine(oblique, point), atol=1e-4
    )


def test_a_file_that_is_not_one_linear_transform_is_bad_data(tmp_path):
    from scipy.io import savemat

    savemat(str(tmp_path / "x.mat"), {"Euler2DTransform_double_2_2": np.zeros((3, 1))}, format="4")
    with pytest.raises(BadDataError, match=r"x\.mat"):
        transforms.read_affine(tmp_path / "x.mat")


def bending_field():
    """A smooth displacement of some mm on a coarse template grid, as ANTs would write it."""
    shape = (30, 34, 30)
    affine = LPS_GRID.affine
    field = np.stack([smooth_image(affine, shape, seed).get_fdata() for seed in range(3)], -1)
    field = 6.0 * field / np.abs(field).max()
    return nib.Nifti1Image(field[:, :, :, None].astype(np.float32), affine)


LPS_GRID = Grid.about((0.0, -18.0, 5.0), (30, 34, 30), 6.0)


def field_at(field, point):
    """Displacement, RAS+ mm, at a point of the fixed image."""
    voxel = nib.affines.apply_affine(np.linalg.inv(field.affine), point)[:, None]
    data = np.asarray(field.dataobj)[:, :, :, 0]
    lps = [ndimage.map_coordinates(data[..., i], voxel, order=1)[0] for i in range(3)]
    return np.array(lps) * [-1, -1, 1]


@pytest.mark.parametrize("bend", [False, True], ids=["affine", "affine and field"])
@pytest.mark.parametrize("reader", ["ants", "nitransforms"])
def test_a_composite_moves_a_point_from_the_template_to_the_t1w(oblique, tmp_path, bend, reader):
    field = bending_field()
    steps = [field, oblique] if bend else [oblique]
    path = tmp_path / "from-T1w_to-MNI_xfm.h5"
    transforms.write_composite(path, steps)
    point = np.array([22.0, -40.0, 14.0])
    expected = nib.affines.apply_affine(oblique, point + bend * field_at(field, point))
    if reader == "nitransforms":
        chain = TransformChain.from_filename(str(path), fmt="itk")
        moved = np.asarray(chain.map(point[None]))[0]
        np.testing.assert_allclose(moved, expected, atol=0.1)
        return
    ants = registration.deterministic_ants()
    # A spot at the point in the T1w comes out at the template point that the transform maps there.
    t1w = blob(expected, np.diag([2.0, 2, 2, 1]) + translation(-120, -150, -100), (120, 130, 110))
    moved = ants.apply_transforms(
        registration.to_ants(GRID.image(np.zeros(GRID.shape, np.float32))),
        registration.to_ants(t1w),
        [str(path)],
    ).numpy()
    np.testing.assert_allclose(centre(GRID.image(moved)), point, atol=0.5)


def translation(x, y, z):
    matrix = np.zeros((4, 4))
    matrix[:3, 3] = (x, y, z)
    return matrix


def test_a_composite_has_the_same_bytes_each_time(oblique, tmp_path):
    for name in ("a.h5", "b.h5"):
        transforms.write_composite(tmp_path / name, [bending_field(), oblique])
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["TransformGroup"]) == ["0", "1", "2"]


def t1w_grid(voxel=(1.2, 1.0, 1.4)):
    affine = registration.rotation(5, 3, -7) @ np.diag([-voxel[0], *voxel[1:], 1.0])
    shape = (140, 180, 120)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) / 2) + (4, -30, 15)
    return affine, shape


def test_a_smooth_volume_comes_back_from_the_t1w_grid_to_within_two_percent(oblique):
    """Cubic splines lose nothing to speak of; what is left is the blur against aliasing."""
    volume = smooth_image(GRID.affine, GRID.shape).get_fdata(dtype=np.float32)
    affine, shape = t1w_grid()
    reference = nib.Nifti1Image(np.zeros(shape, np.uint8), affine)
    there = transforms.from_model_grid(volume, oblique, GRID, reference, order=3)
    back = transforms.to_model_grid(nib.Nifti1Image(there, affine), oblique, GRID, order=3)
    inner = (slice(10, -10),) * 3
    error = np.abs(back - volume)[inner].max() / np.ptp(volume)
    assert error < 0.02


def test_left_stays_left_through_the_model_grid(oblique):
    affine, shape = t1w_grid()
    left = nib.affines.apply_affine(oblique, (-40.0, -18.0, 5.0))
    image = blob(left, affine, shape)
    on_grid = transforms.to_model_grid(image, oblique, GRID)
    np.testing.assert_allclose(centre(GRID.image(on_grid)), (-40, -18, 5), atol=0.3)
    back = transforms.from_model_grid(on_grid, oblique, GRID, image)
    np.testing.assert_allclose(centre(nib.Nifti1Image(back, affine)), left, atol=0.3)


def test_a_mask_saves_work_but_changes_nothing_inside_it(oblique):
    volume = smooth_image(GRID.affine, GRID.shape).get_fdata(dtype=np.float32)
    affine, shape = t1w_grid()
    mask = np.zeros(shape, bool)
    mask[30:90, 40:130, 25:80] = True
    reference = nib.Nifti1Image(mask.astype(np.uint8), affine)
    whole = transforms.from_model_grid(volume, oblique, GRID, reference)
    masked = transforms.from_model_grid(volume, oblique, GRID, reference, mask=mask)
    np.testing.assert_allclose(masked[mask], whole[mask], atol=1e-6)
    assert not masked[~mask].any()


def test_coarser_voxels_keep_means_and_do_not_alias():
    """Stripes one voxel wide become grey, not coarser stripes."""
    data = np.zeros((80, 60, 60), np.float32)
    data[::2] = 100
    coarse = transforms.isotropic(nib.Nifti1Image(data, np.diag([1.0, 1, 1, 1])), 4.0)
    assert coarse.shape == (20, 15, 15)
    np.testing.assert_allclose(np.asarray(coarse.dataobj)[2:-2], 50, atol=3)


def test_coarser_voxels_stay_in_place():
    affine, shape = t1w_grid((0.7, 0.7, 3.0))
    image = blob((10, -35, 20), affine, shape, sigma=8)
    for size in (2.0, 4.0):
        np.testing.assert_allclose(
            centre(transforms.isotropic(image, size)), centre(image), atol=0.05
        )
