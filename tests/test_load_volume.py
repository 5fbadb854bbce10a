"""Headers and numbers as scanners and converters write them."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from rela_bids.exceptions import BadDataError, MissingInputError
from rela_bids.registration import rotation
from rela_bids.volumes import load_volume

LEFT_VOXEL = (3, 10, 12)


def scan(shape=(20, 22, 24), dtype=np.int16):
    data = np.full(shape, 10, dtype)
    data[LEFT_VOXEL] = 100
    return data


def write(path, data, affine, **header):
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, header.get("sform_code", 1))
    image.set_qform(affine, header.get("qform_code", 1))
    nib.save(image, path)
    return path


def marker(image):
    """Where the brightest voxel is, RAS+ mm."""
    data = np.asarray(image.dataobj)
    return nib.affines.apply_affine(image.affine, np.unravel_index(data.argmax(), data.shape))


AFFINES = {
    "right-handed": np.diag([2.0, 2, 2, 1]),
    "left-handed": np.diag([-2.0, 2, 2, 1]),
    "sagittal": np.array([[0, 0, 2.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
    "oblique": rotation(12, -7, 20) @ np.diag([-0.9, 0.9, 3.0, 1]),
}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_marker_stays_where_it_was_and_the_grid_too(name, suffix, tmp_path):
    path = write(tmp_path / f"t1w{suffix}", scan(), AFFINES[name])
    image = load_volume(path)
    expected = nib.affines.apply_affine(AFFINES[name], LEFT_VOXEL)
    np.testing.assert_allclose(marker(image), expected, atol=1e-3)
    assert image.shape == (20, 22, 24)
    assert image.get_data_dtype() == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_every_number_type_becomes_float(dtype, tmp_path):
    image = load_volume(write(tmp_path / "t1w.nii", scan(dtype=dtype), np.eye(4)))
    assert np.asarray(image.dataobj).max() == 100


def test_scaled_integers_are_scaled(tmp_path):
    image = nib.Nifti1Image(scan().astype(np.float32) / 7, np.eye(4))
    image.set_data_dtype(np.uint16)
    nib.save(image, tmp_path / "t1w.nii")
    assert np.asarray(load_volume(tmp_path / "t1w.nii").dataobj).max() == pytest.approx(
        100 / 7, rel=1e-3
    )


def test_a_slope_that_is_not_a_number_means_no_scaling(tmp_path):
    path = write(tmp_path / "t1w.nii", scan(), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([np.nan, np.nan], "<f4").tobytes()
    path.write_bytes(raw)
    assert np.asarray(load_volume(path).dataobj).max() == 100


def test_one_volume_in_four_dimensions_is_one_volume(tmp_path):
    path = write(tmp_path / "t1w.nii", scan()[..., None], np.eye(4))
    assert load_volume(path).shape == (20, 22, 24)


def test_several_volumes_are_refused_by_name(tmp_path):
    path = write(tmp_path / "t1w.nii", np.stack([scan()] * 2, -1), np.eye(4))
    with pytest.raises(BadDataError, match=r"t1w\.nii is 20 x 22 x 24 x 2"):
        load_volume(path)


def test_nan_and_infinity_become_zero(tmp_path):
    data = scan(dtype=np.float32)
    data[0, 0, 0], data[0, 0, 1] = np.nan, np.inf
    result = np.asarray(load_volume(write(tmp_path / "t1w.nii", data, np.eye(4))).dataobj)
    assert np.isfinite(result).all()
    assert result[0, 0, 0] == result[0, 0, 1] == 0


def test_ringing_is_clipped_and_an_offset_is_undone(tmp_path):
    ringing = scan(dtype=np.float32)
    ringing[0, 0, 0] = -4
    result = np.asarray(load_volume(write(tmp_path / "a.nii", ringing, np.eye(4))).dataobj)
    assert (result[0, 0, 0], result.max()) == (0, 100)
    offset = np.asarray(load_volume(write(tmp_path / "b.nii", scan() - 1000, np.eye(4))).dataobj)
    assert offset.min() == 0
    assert offset[LEFT_VOXEL] - offset[0, 0, 0] == 90


def test_the_sform_wins_over_a_qform_that_disagrees(tmp_path):
    image = nib.Nifti1Image(scan(), AFFINES["left-handed"])
    image.set_qform(AFFINES["right-handed"], 1)
    image.set_sform(AFFINES["left-handed"], 1)
    nib.save(image, tmp_path / "t1w.nii")
    loaded = load_volume(tmp_path / "t1w.nii")
    np.testing.assert_allclose(loaded.affine, AFFINES["left-handed"])
    np.testing.assert_allclose(loaded.get_qform(), loaded.get_sform(), atol=1e-5)


def test_the_qform_serves_where_the_sform_is_void(tmp_path):
    path = write(tmp_path / "t1w.nii", scan(), AFFINES["left-handed"])
    raw = bytearray(path.read_bytes())
    raw[280:328] = bytes(48)
    path.write_bytes(raw)
    np.testing.assert_allclose(load_volume(path).affine, AFFINES["left-handed"], atol=1e-6)


def test_an_image_that_does_not_say_where_left_is_is_refused(tmp_path):
    path = write(tmp_path / "t1w.nii", scan(), np.eye(4), sform_code=0, qform_code=0)
    with pytest.raises(BadDataError, match="which way is left"):
        load_volume(path)


def test_shear_is_resampled_and_nothing_moves(tmp_path):
    sheared = np.diag([1.0, 1, 1, 1])
    sheared[0, 1] = 0.3
    data = np.zeros((30, 32, 34), np.float32)
    data[9:12, 24:27, 14:17] = 100
    data += 1
    image = nib.Nifti1Image(data, sheared)
    image.set_sform(sheared, 1)
    image.header["qform_code"] = 0
    nib.save(image, tmp_path / "t1w.nii")
    loaded = load_volume(tmp_path / "t1w.nii")
    axes = loaded.affine[:3, :3] / np.linalg.norm(loaded.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    bright = np.argwhere(np.asarray(loaded.dataobj) > 50).mean(0)
    expected = nib.affines.apply_affine(sheared, (10, 25, 15))
    np.testing.assert_allclose(nib.affines.apply_affine(loaded.affine, bright), expected, atol=0.3)


def test_rounding_of_an_affine_does_not_count_as_shear(tmp_path):
    nearly = AFFINES["oblique"].copy()
    nearly[0, 1] += 1e-4
    image = nib.Nifti1Image(scan(), nearly)
    image.set_sform(nearly, 1)
    nib.save(image, tmp_path / "t1w.nii")
    assert load_volume(tmp_path / "t1w.nii").shape == (20, 22, 24)


def test_a_constant_image_is_refused(tmp_path):
    path = write(tmp_path / "t1w.nii", np.zeros((8, 8, 8), np.int16), np.eye(4))
    with pytest.raises(BadDataError, match="constant"):
        load_volume(path)


def test_a_truncated_file_is_bad_data_and_a_missing_one_is_missing(tmp_path):
    whole = write(tmp_path / "whole.nii.gz", scan(), np.eye(4)).read_bytes()
    (tmp_path / "t1w.nii.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:2000]))
    with pytest.raises(BadDataError, match=r"t1w\.nii\.gz"):
        load_volume(tmp_path / "t1w.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadDataError, match=r"cut\.nii\.gz"):
        load_volume(tmp_path / "cut.nii.gz")
    with pytest.raises(MissingInputError, match=r"none\.nii"):
        load_volume(tmp_path / "none.nii")


def test_what_libraries_say_in_several_lines_becomes_one(tmp_path):
    path = write(tmp_path / "t1w.nii", scan(), np.eye(4))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadDataError) as raised:
        load_volume(path)
    assert len(str(raised.value).splitlines()) == 1
    assert str(raised.value).endswith("convert it again")


def test_a_garbled_archive_and_an_unknown_type_are_bad_data(tmp_path):
    whole = write(tmp_path / "whole.nii.gz", scan(), np.eye(4)).read_bytes()
    middle = len(whole) // 2
    other = bytes(byte ^ 255 for byte in whole[middle : middle + 8])
    (tmp_path / "t1w.nii.gz").write_bytes(whole[:middle] + other + whole[middle + 8 :])
    with pytest.raises(BadDataError, match=r"t1w\.nii\.gz"):
        load_volume(tmp_path / "t1w.nii.gz")
    raw = bytearray(gzip.decompress(whole))
    raw[70:72] = np.array(9999, "<i2").tobytes()
    (tmp_path / "t1w.nii").write_bytes(raw)
    with pytest.raises(BadDataError, match="9999"):
        load_volume(tmp_path / "t1w.nii")


def test_more_voxels_than_memory_and_a_scan_in_metres_are_refused_by_the_header(tmp_path):
    raw = bytearray(write(tmp_path / "t1w.nii", scan(), np.eye(4)).read_bytes())
    raw[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "t1w.nii").write_bytes(raw)
    with pytest.raises(BadDataError, match="30000 x 30000 x 30000"):
        load_volume(tmp_path / "t1w.nii")
    metres = write(tmp_path / "metres.nii", scan(), np.diag([0.001, 0.001, 0.001, 1]))
    with pytest.raises(BadDataError, match="in mm"):
        load_volume(metres)
