"""Runs that are killed, run out of space or lose their folder: the same command finishes them.

What is compared is every image, transform, table and sidecar in OUT, byte for byte, with those of a
run that nothing disturbed. Moments are drawn by a seed. ``make test-faults`` runs this; the number
of kills is in RELA_BIDS_KILLS.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

KILLS = int(os.environ.get("RELA_BIDS_KILLS", "30"))

SMALL = override(
    PRESETS["fast"],
    {
        "network": {"channels": [8, 8], "norm_groups": 4},
        "grid": {"shape": [24, 32, 24], "voxel_size": 7.0, "origin": [-80.5, -126.5, -75.5]},
        "sampling_steps": 1,
        "n_samples": 2,
    },
)

CONFIG = """
n_samples = 2
[grid]
voxel_size = 8
[network]
channels = [8, 8]
norm_groups = 4
[trainer]
checkpoint_seconds = 0.5
"""


@dataclass(frozen=True)
class Case:
    """A command on a small dataset, without the place of its outputs."""

    bids: Path
    level: tuple[str, ...]
    options: tuple[str, ...]

    def start(self, out: Path, **options: object) -> subprocess.Popen:
        """Begin a run whose OUT and work folder are `out` and one beside it."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "rela_bids.cli.run", self.bids, out, *self.level),
                *("-w", out.parent / "work", "--nprocs", "2", *self.options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # What a shell starts in the background ignores Ctrl-C, and so would what that starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        )

    def run(self, out: Path) -> tuple[int, str]:
        """Exit code and what the terminal shows."""
        process = self.start(out)
        output, errors = process.communicate(timeout=3000)
        assert "Traceback" not in output + errors, errors
        return process.returncode, errors


def results(out: Path) -> dict[str, str]:
    """Hash of each file in OUT whose content does not depend on the clock or on folders' names."""
    kinds = (".gz", ".h5", ".tsv", ".json", ".safetensors")
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
        and path.name.endswith(kinds)
        and not path.name.startswith(".")
        and not {"figures", "log", "logs"} & set(path.relative_to(out).parts)
        and path.name not in ("dataset_description.json", "training.tsv")
    }


def hidden(out: Path) -> list[str]:
    return [path.name for path in out.rglob(".*") if path.name != ".bidsignore"]


def validate(out: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    run = subprocess.run([validator, out, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def strip(bids: Path) -> None:
    """Take the skulls off, so that masks need no registration."""
    for path in sorted(bids.glob("sub-*/anat/*.nii.gz")):
        subject = path.parent.parent.name
        truth = bids / f"derivatives/truth/{subject}/anat/{subject}_desc-brain_mask.nii.gz"
        image, mask = nib.load(path), nib.load(truth)
        if image.shape != mask.shape:
            path.unlink()  # a FLAIR on a grid of its own
            continue
        data = np.where(np.asarray(mask.dataobj) > 0, image.get_fdata(), 0).astype(np.float32)
        nib.save(nib.Nifti1Image(data, image.affine), path)


@pytest.fixture(scope="module")
def bids(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "bids"
    tracers = [TRACERS["18FAV45"]]
    write_dataset(folder, Recipe(subjects=3, seed=6, tracers=tracers, voxel_size=5.0, frames=2))
    strip(folder)
    return folder


@pytest.fixture(scope="module")
def participant(bids) -> Case:
    model = bids.parent / "small.safetensors"
    network = build_denoiser(SMALL.network, 1)
    save_model(model, network, SMALL, {"18FAV45": TRACERS["18FAV45"]}, {"trained_on": "nobody"})
    options = ("--skull-strip", "skip", "--model", str(model), "--no-regions")
    return Case(bids, ("participant",), (*options, "--participant-label", "01", "02"))


@pytest.fixture(scope="module")
def training(bids) -> Case:
    config = bids.parent / "train.toml"
    config.write_text(CONFIG)
    options = ("--train", "--skull-strip", "skip", "--train-config", str(config))
    return Case(bids, ("group",), (*options, "--resume", "--epochs", "20", "--device", "cpu"))


Undisturbed = tuple[dict[str, str], float]


def undisturbed(case: Case, folder: Path) -> Undisturbed:
    """The results of a run that nothing happens to, and how long it takes."""
    began = time.monotonic()
    code, errors = case.run(folder / "out")
    assert code == 0, errors
    return results(folder / "out"), time.monotonic() - began


@pytest.fixture(scope="module")
def whole(participant, tmp_path_factory) -> Undisturbed:
    return undisturbed(participant, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def trained(training, tmp_path_factory) -> Undisturbed:
    return undisturbed(training, tmp_path_factory.mktemp("trained"))


def kill_at_random(case: Case, expected: Undisturbed, folder: Path, seed: int) -> None:
    """Kill runs one after another at random moments; each goes on where the last was ended.

    A run that finishes before its moment has come is followed by one from the start.
    """
    moments, (content, seconds) = random.Random(seed), expected
    out, killed, began_anew = folder / "out", 0, 0
    whole_since: dict[str, int] = {}
    while killed < KILLS:
        process = case.start(out)
        try:
            process.communicate(timeout=moments.uniform(0.02, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        else:
            assert process.returncode == 0
            assert results(out) == content
            assert hidden(out) == []
            began_anew += 1
            whole_since = {}
            for name in ("out", "work"):
                shutil.rmtree(folder / name)
            continue
        # What is there is whole, and is not written again.
        there = results(out) if out.exists() else {}
        assert {name: digest for name, digest in there.items() if content.get(name) != digest} == {}
        images = [name for name in there if name.endswith(".nii.gz")]
        times = {name: (out / name).stat().st_mtime_ns for name in images}
        assert {name: times[name] for name in whole_since} == whole_since
        whole_since = times
    code, errors = case.run(out)
    assert code == 0, errors
    assert results(out) == content
    assert hidden(out) == []
    validate(out)
    print(f"{killed} kills, {began_anew + 1} runs finished")


def test_a_participant_run_that_is_killed_again_and_again(participant, whole, tmp_path):
    kill_at_random(participant, whole, tmp_path, seed=1)
    code, errors = participant.run(tmp_path / "out")
    assert code == 0
    assert "2 of 2 sessions are finished" in errors


def test_a_training_that_is_killed_again_and_again(training, trained, tmp_path):
    kill_at_random(training, trained, tmp_path, seed=2)


def test_ctrl_c_ends_all_processes_at_once(participant, tmp_path):
    process = participant.start(tmp_path / "out")
    wait_for(lambda: len(workers(process)) >= 2)
    children = workers(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert wait_for(lambda: not any(child.is_running() for child in children))


def test_a_worker_that_is_killed_is_named_and_its_session_done_again(participant, whole, tmp_path):
    out = tmp_path / "out"
    process = participant.start(out)
    wait_for(lambda: len(workers(process)) >= 2 and (tmp_path / "work/rela_bids_wf").exists())
    time.sleep(3)
    for worker in workers(process)[:1]:
        worker.kill()
    _, errors = process.communicate(timeout=3000)
    assert process.returncode == 1, errors
    assert "A worker process was killed, most likely for want of memory" in errors
    assert "Traceback" not in errors
    code, errors = participant.run(out)
    assert code == 0, errors
    assert results(out) == whole[0]


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    """Its children that work on nodes."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def wait_for(condition: Callable[[], object], seconds: float = 120) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


@dataclass(frozen=True)
class Disk:
    """A small file system of its own."""

    path: Path

    def remount(self, options: str) -> bool:
        """Change its options; False where a file that is open for writing forbids it."""
        command = ["mount", "-o", f"remount,{options}", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


def start_on(disk: Disk, case: Case) -> tuple[Case, Path]:
    """The case with its work folder elsewhere and its OUT on the disk."""
    work = disk.path.parent / "elsewhere"
    return Case(case.bids, case.level, (*case.options, "-w", str(work))), disk.path / "out"


def test_a_disk_that_is_full_is_named_and_freed_space_is_enough(disk, participant, whole):
    case, out = start_on(disk, participant)
    code, errors = case.run(out)
    assert code == 1, errors
    failed = [line for line in errors.splitlines() if "failed at" in line]
    assert len(failed) == 2
    assert all("No space left on device" in line and str(out) in line for line in failed), failed
    assert all("Free space" in line for line in failed)
    there = results(out)
    assert {name: digest for name, digest in there.items() if whole[0].get(name) != digest} == {}
    assert disk.remount("size=200m")
    code, errors = case.run(out)
    assert code == 0, errors
    assert results(out) == whole[0]
    assert hidden(out) == []


def test_a_disk_that_becomes_read_only_is_named(disk, participant, whole):
    assert disk.remount("size=200m")
    case, out = start_on(disk, participant)
    process = case.start(out)
    assert wait_for(lambda: list(out.glob("sub-*/anat/*.nii.gz")) and disk.remount("ro"))
    _, errors = process.communicate(timeout=3000)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert "Read-only file system" in errors
    code, errors = case.run(out)
    assert code == 73, errors
    assert len(errors.splitlines()) == 1, errors
    assert disk.remount("rw")
    code, errors = case.run(out)
    assert code == 0, errors
    assert results(out) == whole[0]
    assert hidden(out) == []
