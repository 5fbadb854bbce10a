"""Masks and PET of other pipelines, found by their names."""

from pathlib import Path

import pytest

from rela_bids.bids.given import find_mask, find_pets
from rela_bids.bids.query import Session

SESSION = Session("01", "1")


@pytest.fixture
def derivatives(tmp_path):
    """Two datasets; names are added by `put`."""
    return [tmp_path / "fmriprep", tmp_path / "petprep"]


def put(dataset: Path, *names: str) -> None:
    for name in names:
        path = dataset / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_mask_in_the_space_of_the_t1w_is_found(derivatives):
    put(
        derivatives[1],
        "sub-01/ses-1/anat/sub-01_ses-1_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_acq-mprage_desc-brain_mask.nii.gz",
    )
    found = find_mask(derivatives, SESSION)
    assert found.name == "sub-01_ses-1_acq-mprage_desc-brain_mask.nii.gz"


def test_the_mask_of_another_session_or_of_the_whole_person_is_not(derivatives):
    put(
        derivatives[0],
        "sub-01/anat/sub-01_desc-brain_mask.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_desc-brain_mask.nii.gz",
    )
    assert find_mask(derivatives, SESSION) is None
    assert find_mask(derivatives, Session("01")).name == "sub-01_desc-brain_mask.nii.gz"


def test_the_first_dataset_with_pet_counts(derivatives):
    name = "sub-01/ses-1/pet/sub-01_ses-1_trc-11CPIB_run-{}_space-T1w_desc-preproc_pet.nii.gz"
    put(derivatives[0], name.format(2), name.format(1))
    put(derivatives[1], name.format(1))
    found = find_pets(derivatives, SESSION, "11CPIB")
    assert [path.name for path in found] == [Path(name.format(run)).name for run in (1, 2)]
    assert all(path.is_relative_to(derivatives[0]) for path in found)


def test_other_tracers_other_spaces_and_synthetic_pet_are_not_taken(derivatives):
    put(
        derivatives[0],
        "sub-01/ses-1/pet/sub-01_ses-1_trc-18FFDG_space-T1w_pet.nii.gz",
        "sub-01/ses-1/pet/sub-01_ses-1_trc-11CPIB_space-T1w_desc-synth_pet.nii.gz",
        "sub-01/ses-1/pet/sub-01_ses-1_trc-11CPIB_space-MNI152NLin2009cAsym_pet.nii.gz",
        "sub-01/ses-1/pet/sub-01_ses-1_trc-11CPIB_pet.nii.gz",
    )
    assert find_pets(derivatives, SESSION, "11CPIB") == ()
