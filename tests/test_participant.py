"""The participant level as a user runs it: the command, on phantoms at 4 mm, and the truth."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from rela_bids import synthesize
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

pytestmark = pytest.mark.slow

TRACED = ["18FAV45", "18FFDG"]


def rela_bids(*arguments: object) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("rela_bids")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """sub-01 with FLAIR; sub-02 without, its T1w a link; sub-03 no T1w; sub-04 a truncated T1w.

    No PET was measured but one of sub-02, which is truncated.
    """
    folder = tmp_path_factory.mktemp("participant")
    bids = folder / "bids"
    recipe = Recipe(
        subjects=4, seed=3, tracers=[TRACERS[label] for label in TRACED], voxel_size=4.0
    )
    write_dataset(bids, recipe)
    for path in (bids / "sub-02/anat").glob("*FLAIR*"):
        path.unlink()
    annex = folder / "annex"
    annex.mkdir()
    t1w = bids / "sub-02/anat/sub-02_T1w.nii.gz"
    shutil.move(t1w, annex / "key")
    t1w.symlink_to(annex / "key")
    for path in (bids / "sub-03/anat").glob("*T1w*"):
        path.unlink()
    pet = bids / "sub-02/pet/sub-02_trc-18FAV45_pet.nii.gz"
    for path in bids.glob("sub-*/pet/*"):
        if path.name.split(".")[0] != pet.name.split(".")[0]:
            path.unlink()
    for broken in (bids / "sub-04/anat/sub-04_T1w.nii.gz", pet):
        broken.write_bytes(broken.read_bytes()[:20_000])
    return bids


@pytest.fixture(scope="module")
def whole(dataset) -> tuple[Path, subprocess.CompletedProcess]:
    out = dataset.parent / "out"
    work = dataset.parent / "work"
    labels = ["--n-samples", 3, "--no-regions", "--tracer-label", *TRACED]
    return out, rela_bids(dataset, out, "participant", "-w", work, "--nprocs", 2, *labels)


def pets(out: Path, subject: str) -> list[Path]:
    """The synthetic ones."""
    return sorted((out / f"sub-{subject}" / "pet").glob("*desc-synth*.nii.gz"))


def test_one_bad_session_fails_alone_and_says_why(whole):
    out, run = whole
    assert run.returncode == 1, run.stderr
    assert "sub-04_T1w.nii.gz" in run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    assert list((out / "sub-04/log").rglob("crash*.txt"))
    assert len(pets(out, "01")) == len(pets(out, "02")) == 2 * len(TRACED)
    assert not (out / "sub-04/pet").exists()


def test_a_session_without_t1w_is_named_as_left_out(whole):
    out, run = whole
    lines = [line for line in run.stderr.splitlines() if line.startswith("sub-03")]
    assert any("left out" in line and "T1w" in line for line in lines)
    assert not (out / "sub-03/anat").exists()


def test_a_broken_measured_pet_is_named_and_the_session_is_done_without_it(whole):
    out, run = whole
    lines = [line for line in run.stderr.splitlines() if "sub-02_trc-18FAV45_pet.nii.gz" in line]
    assert any(line.startswith("sub-02") for line in lines)
    assert "sub-02_trc-18FAV45_pet.nii.gz" in (out / "sub-02.html").read_text()
    assert not list((out / "sub-02/pet").glob("*measured*"))
    assert not list((out / "sub-02/pet").glob("*agreement*"))


def test_simulated_training_data_is_said_everywhere(whole):
    out, run = whole
    assert "simulated" in run.stderr
    assert "simulated" in (out / "sub-01.html").read_text()
    for path in (out / "sub-01/pet").glob("*desc-synth*.json"):
        sidecar = json.loads(path.read_text())
        assert sidecar["Synthetic"] is True
        assert sidecar["Model"]["TrainedOnSimulatedPET"] is True
        assert "simulated" in sidecar["Description"]


@pytest.mark.parametrize("subject", ["01", "02"])
def test_pet_lies_on_the_t1w_grid_and_is_zero_outside_the_mask(whole, subject):
    out, _ = whole
    anat = out / f"sub-{subject}/anat/sub-{subject}"
    t1w = nib.load(f"{anat}_desc-preproc_T1w.nii.gz")
    mask = nib.load(f"{anat}_desc-brain_mask.nii.gz").get_fdata() > 0
    for path in pets(out, subject):
        image = nib.load(path)
        data = image.get_fdata()
        assert image.shape == t1w.shape
        np.testing.assert_array_equal(image.affine, t1w.affine)
        assert np.isfinite(data).all()
        assert (data[~mask] == 0).all()
        assert data[mask].any()


@pytest.mark.parametrize("subject", ["01", "02"])
def test_pet_lies_where_the_truth_lies_and_has_its_scale(whole, dataset, subject):
    out, _ = whole
    synthetic = nib.load(
        out / f"sub-{subject}/pet/sub-{subject}_trc-18FFDG_space-T1w_desc-synth_pet.nii.gz"
    ).get_fdata()
    truth = dataset / "derivatives/truth" / f"sub-{subject}"
    seen = nib.load(truth / f"pet/sub-{subject}_trc-18FFDG_space-T1w_desc-seen_pet.nii.gz")
    seen = seen.get_fdata()
    here = agreement(synthetic, seen)
    assert here > agreement(synthetic[::-1], seen) + 0.1
    for axis in range(3):
        for voxels in (-1, 1):
            assert here > agreement(np.roll(synthetic, voxels, axis), seen)
    assert synthetic[synthetic > 0].mean() == pytest.approx(seen[synthetic > 0].mean(), rel=0.15)


def agreement(synthetic: np.ndarray, seen: np.ndarray) -> float:
    """Pearson r over what is brain in the synthetic image; PET of the truth has a scalp, too."""
    inside = synthetic > 0
    return float(np.corrcoef(synthetic[inside], seen[inside])[0, 1])


def test_the_outputs_are_valid_bids(whole):
    out, _ = whole
    validator = Path(sys.executable).with_name("bids-validator-deno")
    run = subprocess.run([validator, out, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_no_temporary_file_is_left(whole):
    out, _ = whole
    left = [path for path in out.rglob(".*") if path.name != ".bidsignore"]
    assert left == []


def test_one_session_alone_on_one_process_gives_the_same_bytes(whole, dataset):
    out, _ = whole
    again = dataset.parent / "again"
    run = rela_bids(
        *(dataset, again, "participant", "--participant-label", "sub-01", "--nprocs", 1),
        *("-w", dataset.parent / "work2", "--n-samples", 3, "--no-regions"),
        *("--tracer-label", "18FFDG"),
    )
    assert run.returncode == 0, run.stderr
    compared = 0
    for path in (again / "sub-01").rglob("*"):
        # Pictures' results hold times, and the record in log/ which tracers were asked for.
        image = path.suffix in {".gz", ".h5"}
        if image or (path.suffix == ".json" and path.parent.name not in {"figures", "log"}):
            assert digest(path) == digest(out / path.relative_to(again)), path.name
            compared += 1
    assert compared >= 10


@pytest.mark.filterwarnings("ignore:The model was trained on simulated PET")
def test_from_python_the_same_mri_gives_the_same_pet_and_metadata(whole, dataset):
    out, _ = whole
    anat = dataset / "sub-01/anat"
    threads = torch.get_num_threads()
    pet = synthesize(
        nib.load(anat / "sub-01_T1w.nii.gz"),
        anat / "sub-01_FLAIR.nii.gz",
        "18FFDG",
        n_samples=3,
        subject="01",
        device="cpu",
    )
    assert torch.get_num_threads() == threads
    for image, description in ((pet.mean, "synth"), (pet.std, "synthstd")):
        path = out / f"sub-01/pet/sub-01_trc-18FFDG_space-T1w_desc-{description}_pet.nii.gz"
        written = nib.load(path)
        np.testing.assert_array_equal(image.affine, written.affine)
        np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(written.dataobj))
    sidecar = out / "sub-01/pet/sub-01_trc-18FFDG_space-T1w_desc-synth_pet.json"
    assert pet.metadata.items() <= (json.loads(sidecar.read_text()) | {"Sources": []}).items()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_command_again_does_nothing_twice(whole, dataset):
    out, _ = whole
    before = {path: path.stat().st_mtime_ns for path in (dataset.parent / "work").rglob("*.nii.gz")}
    labels = ["--n-samples", 3, "--no-regions", "--tracer-label", *TRACED]
    labels += ["--participant-label", "01"]
    run = rela_bids(dataset, out, "participant", "-w", dataset.parent / "work", *labels)
    assert run.returncode == 0, run.stderr
    for path, written in before.items():
        assert path.stat().st_mtime_ns == written, path


def test_a_dry_run_names_files_and_writes_nothing(dataset):
    out = dataset.parent / "dry"
    run = rela_bids(dataset, out, "participant", "--dry-run")
    assert run.returncode == 0
    assert "sub-01_T1w.nii.gz" in run.stdout
    assert "desc-synth_pet.nii.gz" in run.stdout
    assert not out.exists()
