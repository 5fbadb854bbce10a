"""Regions and a measured PET as a user gets them: the command on one phantom at 4 mm, and SyN."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.quantification import GLOBAL_COMPOSITE, agreement, region_means
from rela_bids.regional_table import read_numbers, read_rows
from rela_bids.tracers import TRACERS

pytestmark = pytest.mark.slow

TRACER = TRACERS["18FAV45"]
ATLAS = "seg-DesikanKilliany"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("regions")
    recipe = Recipe(subjects=1, seed=5, tracers=[TRACER], voxel_size=4.0)
    write_dataset(folder / "bids", recipe)
    command = [
        *(Path(sys.executable).with_name("rela_bids"), folder / "bids", folder / "out"),
        *("participant", "-w", folder / "work", "--n-samples", "2", "--tracer-label", TRACER.label),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    return folder / "out", run


def pet(out: Path, name: str) -> Path:
    return out / f"sub-01/pet/sub-01_trc-{TRACER.label}_{name}"


def test_the_run_ends_well_and_bids_has_no_objection(whole):
    out, run = whole
    assert run.returncode == 0, run.stderr
    validator = Path(sys.executable).with_name("bids-validator-deno")
    judged = subprocess.run([validator, out, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(judged.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


@pytest.mark.parametrize("kind", ["synth", "measured"])
def test_a_table_has_the_means_of_its_image_in_the_regions_beside_it(whole, kind):
    out, _ = whole
    labels = np.asarray(
        nib.load(out / f"sub-01/anat/sub-01_{ATLAS}_desc-regions_dseg.nii.gz").dataobj
    ).astype(int)
    suvr = nib.load(pet(out, f"space-T1w_desc-{kind}_pet.nii.gz")).get_fdata()
    rows = read_rows(pet(out, f"{ATLAS}_desc-{kind}_suvr.tsv"))
    regions = [row for row in rows if row.index is not None and row.mean is not None]
    if kind == "measured":
        # 0 is what the scanner has not seen, which no mean is taken of.
        labels = np.where(suvr != 0, labels, 0)
    means = region_means(suvr, labels, [row.index for row in regions])
    assert len(regions) > 80
    assert [row.mean for row in regions] == pytest.approx(list(means), rel=1e-4)
    assert any(row.std for row in regions) == (kind == "synth")
    assert rows[-1].region == GLOBAL_COMPOSITE
    assert rows[-1].scale == "Centiloid"


def test_sidecars_say_what_is_measured_and_what_is_not(whole):
    out, _ = whole
    for kind, synthetic in (("synth", True), ("measured", False)):
        for name in (f"{ATLAS}_desc-{kind}_suvr.json", f"space-T1w_desc-{kind}_pet.json"):
            sidecar = json.loads(pet(out, name).read_text())
            assert sidecar["Synthetic"] is synthetic
            assert sidecar["ReferenceRegion"] == TRACER.reference_region
    table = json.loads(pet(out, f"{ATLAS}_desc-synth_suvr.json").read_text())
    assert table["Conversion"]["Formula"] == TRACER.conversion.formula
    assert table["Approximate"] is True
    assert table["AtlasName"] == "DesikanKilliany"
    assert "Not for clinical use" in table["Description"]


def test_the_agreement_is_that_of_the_two_images(whole):
    out, _ = whole
    synthetic, measured = (
        nib.load(pet(out, f"space-T1w_desc-{kind}_pet.nii.gz")).get_fdata(dtype=np.float32)
        for kind in ("synth", "measured")
    )
    brain = nib.load(out / "sub-01/anat/sub-01_desc-brain_mask.nii.gz").get_fdata() > 0
    wanted = agreement(synthetic, measured, brain & (measured != 0), TRACER.suvr_scale)
    found = read_numbers(pet(out, "space-T1w_desc-agreement_metrics.tsv"))
    assert found == pytest.approx(wanted.__dict__, rel=1e-4)


def test_the_page_shows_both(whole):
    out, _ = whole
    text = (out / "sub-01.html").read_text()
    for words in ("Beside the measured PET", "Global cortical composite", "(approximate)"):
        assert words in text
    assert "not there any more" not in text
