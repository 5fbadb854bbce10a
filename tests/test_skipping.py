"""What is finished is not done again, and why something is, is said: on one small session."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rela_bids.model import save_model
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS, override
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

pytestmark = pytest.mark.slow

SMALL = override(
    PRESETS["fast"],
    {
        "network": {"channels": [8, 8], "norm_groups": 4},
        "grid": {"shape": [24, 32, 24], "voxel_size": 7.0, "origin": [-80.5, -126.5, -75.5]},
        "sampling_steps": 1,
        "n_samples": 1,
    },
)


class Folder:
    """A dataset of one person, and the places that a run writes to."""

    def __init__(self, root: Path) -> None:
        self.bids, self.out, self.work = root / "bids", root / "out", root / "work"
        self.model = root / "small.safetensors"

    def run(self, *options: object) -> subprocess.CompletedProcess:
        command = [
            *(sys.executable, "-m", "rela_bids.cli.run", self.bids, self.out, "participant"),
            *("-w", self.work, "--skull-strip", "skip", "--model", self.model, "--no-regions"),
            *options,
        ]
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=3000, check=False
        )

    def results(self) -> dict[str, str]:
        """Hashes of what lies in anat and pet."""
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for kind in ("anat", "pet")
            for path in (self.out / "sub-01" / kind).iterdir()
        }

    def did(self, step: str) -> bool:
        """Whether the work folder knows of a step."""
        return any(self.work.glob(f"rela_bids_wf/*/*/{step}"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("skipping"))
    tracers = [TRACERS["18FAV45"]]
    write_dataset(folder.bids, Recipe(subjects=1, seed=8, tracers=tracers, voxel_size=5.0))
    truth = folder.bids / "derivatives/truth/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    for path in (folder.bids / "sub-01/anat").glob("*FLAIR*"):
        path.unlink()
    shutil.rmtree(folder.bids / "sub-01/pet")
    path = folder.bids / "sub-01/anat/sub-01_T1w.nii.gz"
    t1w = nib.load(path)
    data = np.where(np.asarray(nib.load(truth).dataobj) > 0, t1w.get_fdata(), 0)
    nib.save(nib.Nifti1Image(data.astype(np.float32), t1w.affine), path)
    network = build_denoiser(SMALL.network, 1)
    tracers = {"18FAV45": TRACERS["18FAV45"]}
    save_model(folder.model, network, SMALL, tracers, {"trained_on": "nobody"})
    return folder


@pytest.fixture(scope="module")
def first(folder) -> dict[str, str]:
    """What a first run leaves."""
    run = folder.run()
    assert run.returncode == 0, run.stderr
    return folder.results()


def test_a_finished_session_is_skipped_also_without_its_work_folder(folder, first):
    shutil.rmtree(folder.work)
    report = folder.out / "sub-01.html"
    report.unlink()
    run = folder.run("--nprocs", 1, "-v")
    assert run.returncode == 0, run.stderr
    assert "1 of 1 sessions are finished, and nothing has changed: skipped" in run.stderr
    assert "done before" in run.stderr
    assert not folder.did("*")
    assert report.exists()
    assert folder.results() == first


def test_what_has_changed_is_said_and_the_anatomy_in_out_is_used(folder, first):
    shutil.rmtree(folder.work, ignore_errors=True)
    run = folder.run("--random-seed", 5)
    assert run.returncode == 0, run.stderr
    assert "sub-01  done again: random seed was 0, is 5" in run.stderr
    assert not folder.did("n4_t1w")
    changed = {name for name, digest in folder.results().items() if first.get(name) != digest}
    assert changed
    assert all("synth" in name for name in changed)
    shutil.rmtree(folder.work)
    run = folder.run()
    assert run.returncode == 0, run.stderr
    assert "random seed was 5, is 0" in run.stderr
    assert not folder.did("n4_t1w")
    assert folder.results() == first


def test_a_lost_or_changed_output_is_made_again(folder, first):
    path = folder.out / "sub-01/pet/sub-01_trc-18FAV45_space-T1w_desc-synth_pet.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    run = folder.run()
    assert f"{path.relative_to(folder.out)} in OUT was changed" in run.stderr
    assert folder.results() == first
    path.unlink()
    run = folder.run()
    assert f"{path.relative_to(folder.out)} is no longer in OUT" in run.stderr
    assert folder.results() == first


def test_unfinished_files_of_a_killed_writer_are_removed_and_those_of_a_living_one_stay(
    folder, first
):
    from rela_bids.atomic import write_atomically

    anat = folder.out / "sub-01/anat"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with write_atomically(anat / "image.nii.gz") as living:
        living.touch()
        machine = living.name[1:].split("-")[0]
        killed = anat / f".{machine}-{dead.pid}-0123456789ab.image.nii.gz"
        killed.touch()
        elsewhere = anat / f".00000000-{dead.pid}-0123456789ab.image.nii.gz"
        elsewhere.touch()
        run = folder.run("--random-seed", 0, "--n-samples", 1, "--sampling-steps", 1)
        assert "skipped" in run.stderr
        (folder.out / "sub-01/log/sub-01_desc-finished.json").unlink()
        run = folder.run()
        assert run.returncode == 0, run.stderr
        assert "Removed 1 unfinished files" in run.stderr
        assert not killed.exists()
        assert living.exists()
        assert elsewhere.exists()
    elsewhere.unlink()
    (anat / "image.nii.gz").unlink()


def test_another_image_or_model_is_named(folder, first):
    """Last, since it leaves the T1w empty."""
    record = folder.out / "sub-01/log/sub-01_desc-finished.json"
    content = json.loads(record.read_text())
    content["Model"]["sha256"] = "0" * 64
    record.write_text(json.dumps(content))
    assert "sub-01  done again: the model is another (small)" in folder.run().stderr
    (folder.bids / "sub-01/anat/sub-01_T1w.nii.gz").write_bytes(b"")
    run = folder.run()
    assert "sub-01  done again: T1w changed" in run.stderr
    assert run.returncode == 1
    assert not record.exists()
