"""Which template is found where, with files of the right names in a folder of their own."""

import nibabel as nib
import numpy as np
import pytest

from rela_bids import head_templates
from rela_bids.exceptions import MissingInputError
from rela_bids.head_templates import find_space, find_template, load_marked


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path, monkeypatch):
    """Neither TemplateFlow nor Colin 27."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.setattr(head_templates, "COLIN27", tmp_path / "mricron" / "ch2.nii.gz")


def fetched(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    data = np.pad(np.full((4, 4, 4), 0.7, np.float32), 2)
    for name in names:
        nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), folder / name)


def templateflow(tmp_path, name, *endings):
    fetched(tmp_path / "templateflow" / f"tpl-{name}", *(f"tpl-{name}_{e}" for e in endings))


WITH_MASK = ("res-01_T1w.nii.gz", "res-01_desc-brain_mask.nii.gz")


def test_with_nothing_installed_the_packaged_brain_is_taken():
    found = find_template()
    assert not found.whole_head
    assert found.t1w.exists()


def test_colin_27_is_taken_before_the_packaged_brain(tmp_path):
    fetched(tmp_path / "mricron", "ch2.nii.gz")
    assert (find_template().name, find_template().whole_head) == ("Colin 27", True)
    assert find_template("Colin27") == find_template()
    assert not find_template("packaged").whole_head


def test_templateflow_is_taken_before_colin_27_and_in_its_own_order(tmp_path):
    fetched(tmp_path / "mricron", "ch2.nii.gz")
    templateflow(tmp_path, "MNI152NLin2009cAsym", *WITH_MASK)
    assert find_template().name == "MNI152NLin2009cAsym"
    templateflow(tmp_path, "OASIS30ANTs", *WITH_MASK)
    assert find_template().name == "OASIS30ANTs"
    assert (
        find_template("MNI152NLin2009cAsym").t1w.name == "tpl-MNI152NLin2009cAsym_" + WITH_MASK[0]
    )


def test_without_a_variable_templateflow_is_looked_for_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("TEMPLATEFLOW_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    templateflow(tmp_path, "NKI", *WITH_MASK)
    assert find_template().name == "NKI"


def test_a_placeholder_that_was_never_fetched_does_not_count(tmp_path):
    folder = tmp_path / "templateflow" / "tpl-OASIS30ANTs"
    folder.mkdir(parents=True)
    (folder / "tpl-OASIS30ANTs_res-01_T1w.nii.gz").touch()
    (folder / "tpl-OASIS30ANTs_res-01_desc-brain_mask.nii.gz").symlink_to(tmp_path / "annex")
    assert not find_template().whole_head
    with pytest.raises(MissingInputError, match="templateflow get OASIS30ANTs"):
        find_template("OASIS30ANTs")


def test_a_stripped_t1w_of_templateflow_is_not_a_whole_head(tmp_path):
    templateflow(tmp_path, "NKI", "res-01_desc-brain_T1w.nii.gz", "res-01_desc-brain_mask.nii.gz")
    assert not find_template().whole_head


def test_the_finer_of_two_resolutions_is_taken_unless_the_other_is_asked_for(tmp_path):
    both = [name.replace("res-01", res) for res in ("res-01", "res-02") for name in WITH_MASK]
    templateflow(tmp_path, "NKI", *both)
    assert "res-01" in find_template("NKI").t1w.name
    assert "res-02" in find_template("NKI:res-02").mask.name


def test_a_cohort_is_found_in_its_folder(tmp_path):
    name = "MNIPediatricAsym"
    for cohort in ("cohort-1", "cohort-3"):
        names = (f"tpl-{name}_{cohort}_{ending}" for ending in WITH_MASK)
        fetched(tmp_path / "templateflow" / f"tpl-{name}" / cohort, *names)
    assert "cohort-3" in find_template(f"{name}:cohort-3").t1w.name


def test_a_name_that_is_not_on_disk_says_how_to_get_it(tmp_path):
    with pytest.raises(MissingInputError) as error:
        find_template("MNI152NLin6Asym")
    assert "templateflow get MNI152NLin6Asym" in str(error.value)
    assert str(tmp_path / "templateflow") in str(error.value)
    with pytest.raises(MissingInputError, match="mricron-data"):
        find_template("Colin27")


@pytest.mark.parametrize(
    ("t1w", "mask"),
    [("a_T1w.nii.gz", "a_desc-brain_mask.nii.gz"), ("head.nii", "head_mask.nii.gz")],
)
def test_a_path_is_taken_with_the_mask_beside_it(tmp_path, t1w, mask):
    fetched(tmp_path / "mine", t1w, mask)
    found = find_template(str(tmp_path / "mine" / t1w))
    assert (found.t1w.name, found.mask.name, found.whole_head) == (t1w, mask, True)


def test_a_path_without_a_mask_or_without_a_file_is_named(tmp_path):
    fetched(tmp_path, "a_T1w.nii.gz")
    with pytest.raises(MissingInputError, match=r"a_T1w\.nii\.gz.*a_desc-brain_mask\.nii\.gz"):
        find_template(str(tmp_path / "a_T1w.nii.gz"))
    with pytest.raises(MissingInputError, match=r"b_T1w\.nii\.gz is not there"):
        find_template(str(tmp_path / "b_T1w.nii.gz"))


def test_of_a_probability_more_than_half_is_brain(tmp_path):
    fetched(tmp_path, "a_T1w.nii.gz", "a_label-brain_probseg.nii.gz")
    found = find_template(str(tmp_path / "a_T1w.nii.gz"))
    half = nib.load(found.mask)
    data = np.asarray(half.dataobj).copy()
    data[2] = 0.3
    nib.save(nib.Nifti1Image(data, half.affine), found.mask)
    _, mask = load_marked(found.t1w, found.mask)
    assert np.asarray(mask.dataobj).sum() == 3 * 4 * 4


def test_an_output_space_is_a_template_at_a_resolution(tmp_path):
    for number in (1, 2):
        templateflow(
            tmp_path, "MNI152NLin6Asym", *(e.replace("01", f"0{number}") for e in WITH_MASK)
        )
    assert find_space("MNI152NLin6Asym").t1w.name.endswith("_res-01_T1w.nii.gz")
    for resolution in ("res-2", "res-02"):
        found = find_space(f"MNI152NLin6Asym:{resolution}")
        assert found.t1w.name.endswith("_res-02_T1w.nii.gz")


def test_an_output_space_that_is_not_on_disk_says_how_to_get_it():
    with pytest.raises(MissingInputError, match=r"--output-spaces NKI.*templateflow get NKI"):
        find_space("NKI:res-1")
