"""Many sessions in one run: memory stays flat and no process is left. ``make test-long``.

RELA_BIDS_SESSIONS says how many; people are copies of one small stripped phantom.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from rela_bids.model import save_model
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS, override
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

pytestmark = pytest.mark.very_slow

SESSIONS = int(os.environ.get("RELA_BIDS_SESSIONS", "200"))

SMALL = override(
    PRESETS["fast"],
    {
        "network": {"channels": [8, 8], "norm_groups": 4},
        "grid": {"shape": [24, 32, 24], "voxel_size": 7.0, "origin": [-80.5, -126.5, -75.5]},
        "sampling_steps": 1,
        "n_samples": 1,
    },
)


@pytest.fixture(scope="module")
def bids(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "bids"
    tracers = [TRACERS["18FAV45"]]
    write_dataset(folder, Recipe(subjects=1, seed=8, tracers=tracers, voxel_size=5.0))
    t1w = nib.load(folder / "sub-01/anat/sub-01_T1w.nii.gz")
    mask = nib.load(folder / "derivatives/truth/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    data = np.where(np.asarray(mask.dataobj) > 0, t1w.get_fdata(), 0).astype(np.float32)
    people = folder.parent / "people"
    for number in range(SESSIONS):
        anat = people / f"sub-{number:04d}" / "anat"
        anat.mkdir(parents=True)
        nib.save(nib.Nifti1Image(data, t1w.affine), anat / f"sub-{number:04d}_T1w.nii.gz")
    description = {"Name": "many", "BIDSVersion": "1.10.0"}
    (people / "dataset_description.json").write_text(json.dumps(description))
    return people


def memory_of(process: psutil.Process) -> float:
    """Of a run and its workers, MB; what they share is counted once."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss / 1e6
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def test_memory_stays_flat_and_no_process_is_left(bids, tmp_path):
    model, log = tmp_path / "small.safetensors", tmp_path / "log"
    network = build_denoiser(SMALL.network, 1)
    tracers = {"18FAV45": TRACERS["18FAV45"]}
    save_model(model, network, SMALL, tracers, {"trained_on": "nobody"})
    with log.open("w") as stream:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "rela_bids.cli.run", bids, tmp_path / "out"),
                *("participant", "-w", tmp_path / "work", "--skull-strip", "skip"),
                *("--model", model, "--no-regions", "--nprocs", "2"),
            ],
            stderr=stream,
        )
        process, samples = psutil.Process(run.pid), []
        workers: set[psutil.Process] = set()
        while run.poll() is None:
            samples.append((log.read_text().count("  done in "), memory_of(process)))
            workers |= set(process.children(recursive=True))
            time.sleep(1)
    assert run.returncode == 0, log.read_text()
    assert not any(worker.is_running() for worker in workers)
    part = SESSIONS // 4
    first = [memory for done, memory in samples if 2 <= done < 2 + part]
    last = [memory for done, memory in samples if done >= SESSIONS - part]
    print(f"{SESSIONS} sessions: {np.mean(first):.0f} MB at first, {np.mean(last):.0f} MB at last")
    assert np.mean(last) < 1.05 * np.mean(first)
