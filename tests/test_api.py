"""The way in from Python; that it gives the participant level's PET is in test_participant.py."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import rela_bids
from rela_bids.exceptions import BadDataError, MissingInputError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:The model was trained on simulated PET")


@pytest.fixture
def constant():
    return nib.Nifti1Image(np.ones((32, 32, 32), np.float32), np.diag([5.0, 5, 5, 1]))


def test_importing_the_package_imports_nothing_heavy():
    code = "import json, sys, rela_bids; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "ants", "nibabel", "numpy", "nipype"} & set(json.loads(run.stdout))


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="synthesise"):
        _ = rela_bids.synthesise


def test_a_tracer_the_model_does_not_know_is_named(constant):
    with pytest.raises(UsageError, match="18FNEW"):
        rela_bids.synthesize(constant, tracer="18FNEW")


def test_a_file_that_is_not_there_is_named(tmp_path, constant):
    with pytest.raises(MissingInputError, match=r"flair\.nii"):
        rela_bids.synthesize(constant, tmp_path / "flair.nii", "18FAV45", device="cpu")


def test_an_image_in_memory_that_cannot_be_used_is_an_error_in_words(constant):
    with pytest.raises(BadDataError, match="an image given in memory is constant"):
        rela_bids.synthesize(constant, tracer="18FAV45", device="cpu")


def test_a_model_of_simulated_pet_is_warned_of(constant):
    with pytest.warns(UserWarning, match="simulated"), pytest.raises(BadDataError):
        rela_bids.synthesize(constant, tracer="18FAV45", device="cpu")
