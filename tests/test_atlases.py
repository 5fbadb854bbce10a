"""Atlases of users: what is taken, and what is refused by name."""

import nibabel as nib
import numpy as np
import pytest

from rela_bids.atlases import labels_table, packaged_atlas, read_atlas
from rela_bids.exceptions import BadDataError, MissingInputError, UsageError

TABLE = "index\tname\tcolor\n0\tUnknown\t#000000\n1\tone\t#ffffff\n4\tfour\t#ffff00\n"


@pytest.fixture
def write(tmp_path):
    """Write an image and a table; returns their paths."""

    def written(data=None, table=TABLE, name="tpl-MNI152NLin2009cAsym_atlas-Mine_dseg.nii.gz"):
        data = np.array([0, 1, 4, 4, 1, 0, 0, 0]).reshape(2, 2, 2) if data is None else data
        nib.save(nib.Nifti1Image(np.asarray(data, np.float32), np.eye(4)), tmp_path / name)
        (tmp_path / "labels.tsv").write_text(table, encoding="utf-8-sig")
        return tmp_path / name, tmp_path / "labels.tsv"

    return written


def test_an_atlas_is_named_by_its_file_and_regions_by_the_table(write):
    atlas = read_atlas(*write())
    assert atlas.label == "Mine"
    assert atlas.names == {1: "one", 4: "four"}
    assert not atlas.fitted
    assert labels_table(atlas) == "index\tname\n1\tone\n4\tfour\n"


def test_another_content_is_another_atlas(write):
    one, two = read_atlas(*write()), read_atlas(*write(table=TABLE.replace("four", "vier")))
    assert one.sha256 != two.sha256


def test_the_packaged_atlas_has_both_sides_and_nothing_unknown():
    names = packaged_atlas().names.values()
    assert {"ctx-lh-precuneus", "ctx-rh-precuneus", "Left-Hippocampus"} <= set(names)
    assert not [name for name in names if "unknown" in name.lower()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"name": "tpl-MNI152NLin6Asym_dseg.nii.gz"}, UsageError, "MNI152NLin6Asym"),
        ({"name": "a_space-T1w_dseg.nii.gz"}, UsageError, "T1w"),
        ({"data": np.full((2, 2, 2), 0.5)}, BadDataError, "probabilities"),
        ({"data": np.ones((2, 2, 2, 3))}, BadDataError, "3-D"),
        ({"data": np.full((2, 2, 2), 9)}, BadDataError, "belong together"),
        ({"table": "label\tname\n1\tone\n"}, BadDataError, "index"),
        ({"table": "index,name\n1,one\n"}, BadDataError, "tabs"),
        ({"table": "index\tname\n1\tone\n4\tone\n"}, BadDataError, "twice"),
    ],
)
def test_what_is_no_atlas_is_refused(write, changes, error, says):
    with pytest.raises(error, match=says):
        read_atlas(*write(**changes))


def test_a_file_that_is_not_there_is_named(write, tmp_path):
    image, table = write()
    with pytest.raises(MissingInputError, match=r"none\.nii"):
        read_atlas(tmp_path / "none.nii", table)
    with pytest.raises(MissingInputError, match=r"none\.tsv"):
        read_atlas(image, tmp_path / "none.tsv")
