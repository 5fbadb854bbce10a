"""``group --train`` as a user runs it: the command, on phantoms at 4 mm."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

pytestmark = pytest.mark.slow

NEW = "18FNEW1"
CONFIG = """
n_samples = 2
[grid]
voxel_size = 8
[network]
channels = [8, 8]
norm_groups = 4
"""


def rela_bids(*arguments: object) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("rela_bids")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Four people; florbetapir of all, a tracer of which nobody has heard of three.

    sub-02 has no FLAIR, and a PET that cannot be read beside a good one has sub-04.
    """
    bids = tmp_path_factory.mktemp("train_level") / "bids"
    labels = ("18FAV45", "18FFDG")
    tracers = [TRACERS[label] for label in labels]
    write_dataset(bids, Recipe(subjects=4, seed=5, tracers=tracers, voxel_size=4.0, frames=2))
    for path in bids.glob("sub-*/pet/*18FFDG*"):
        path.rename(path.with_name(path.name.replace("18FFDG", NEW)))
    for path in [*(bids / "sub-02/anat").glob("*FLAIR*"), *(bids / "sub-04/pet").glob(f"*{NEW}*")]:
        path.unlink()
    (bids.parent / "train.toml").write_text(CONFIG)
    (bids.parent / "tracer.toml").write_text(
        f'label = "{NEW}"\nname = "New one"\nradionuclide = "F18"\nreference_region = "pons"\n'
        "frame_window = [30, 60]\nscale = 3.5"
    )
    return bids


@pytest.fixture(scope="module")
def options(dataset) -> list[object]:
    folder = dataset.parent
    files = ["--train-config", folder / "train.toml", "--tracer-config", folder / "tracer.toml"]
    return ["--train", *files, "--random-seed", 4, "--nprocs", 2]


@pytest.fixture(scope="module")
def trained(dataset, options) -> tuple[Path, subprocess.CompletedProcess]:
    """A model, after the participant level has done one of the sessions."""
    out, work = dataset.parent / "out", dataset.parent / "work"
    first = rela_bids(
        *(dataset, out, "participant", "-w", dataset.parent / "work_before"),
        *("--participant-label", "01", "--tracer-label", "18FAV45", "--n-samples", 1),
    )
    assert first.returncode == 0, first.stderr
    run = rela_bids(dataset, out, "group", "-w", work, *options, "--epochs", 2)
    assert run.returncode == 0, run.stderr
    return out, run


def test_the_model_comes_with_all_that_is_told_of_it(trained):
    out, run = trained
    folder = out / "models" / "fast"
    there = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "model_card.md", "report.html", "splits.tsv"} <= there
    assert {"metrics.tsv", "training.tsv", "tensorboard", "figures"} <= there
    assert not any(name.startswith(".") for name in there)
    assert str(folder) in run.stderr
    assert "Traceback" not in run.stderr
    scored = rows(folder / "metrics.tsv")
    assert {row["tracer"] for row in scored} == {"18FAV45", NEW}
    held_out = {row["participant_id"] for row in scored}
    parts = {row["participant_id"]: row["split"] for row in rows(folder / "splits.tsv")}
    assert held_out == {person for person, part in parts.items() if part == "test"}
    assert "simulated" in (folder / "model_card.md").read_text()


def test_what_the_participant_level_has_done_is_not_done_again(trained, dataset):
    prepared = dataset.parent / "work" / "rela_bids_wf"
    assert (prepared / "sub_02_wf" / "anatomical_wf").exists()
    assert not (prepared / "sub_01_wf" / "anatomical_wf").exists()


def test_the_examples_show_the_pet_where_the_truth_has_it(trained, dataset):
    (example,) = (dataset.parent / "work" / "examples").glob("*/sub-01")
    mask = np.load(example / "mask.npy")
    pet = np.load(example / "pet-18FAV45.npy")[mask]
    mirrored = np.load(example / "pet-18FAV45.npy")[::-1][mask]
    truth_file = next(dataset.glob("derivatives/truth/sub-01/pet/*18FAV45*desc-seen_pet.nii.gz"))
    truth = nib.load(truth_file)
    inside = np.asarray(
        nib.load(next(truth_file.parent.parent.glob("anat/*brain_mask.nii.gz"))).dataobj
    )
    assert pet.mean() == pytest.approx(np.asarray(truth.dataobj)[inside > 0].mean(), rel=0.06)
    assert np.abs(pet - mirrored).mean() > 0.05


def test_a_second_model_is_made_of_the_same_examples_and_the_same_split(trained, dataset, options):
    out, _ = trained
    run = rela_bids(
        *(dataset, out, "group", "-w", dataset.parent / "work", *options),
        *("--epochs", 2, "--model-name", "again"),
    )
    assert run.returncode == 0, run.stderr
    for name in ("splits.tsv", "model.safetensors"):
        first, second = (out / "models" / model / name for model in ("fast", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_of_two_processes_that_torchrun_starts_one_prepares_and_both_train(
    trained, dataset, options
):
    out, _ = trained
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node"]
    arguments = (dataset, out, "group", "-w", dataset.parent / "work", *options)
    more = ("--epochs", 2, "--model-name", "two", "--devices", 2, "--device", "cpu")
    run = subprocess.run(
        [*torchrun, "2", "-m", "rela_bids.cli.run", *map(str, arguments + more)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("4 sessions, 1 of them without FLAIR") == 1
    assert (out / "models" / "two" / "report.html").exists()


def test_a_model_of_that_name_is_not_overwritten(trained, dataset, options):
    out, _ = trained
    run = rela_bids(dataset, out, "group", "-w", dataset.parent / "work", *options)
    assert run.returncode == 64
    assert "--model-name" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_the_model_synthesises_what_it_was_trained_on_also_without_flair(trained, dataset):
    out, _ = trained
    run = rela_bids(
        *(dataset, dataset.parent / "synthetic", "participant", "--participant-label", "02"),
        *("-w", dataset.parent / "work", "--model", out / "models" / "fast", "--nprocs", 2),
    )
    assert run.returncode == 0, run.stderr
    folder = dataset.parent / "synthetic" / "sub-02"
    sidecar = json.loads(
        (folder / "pet" / f"sub-02_trc-{NEW}_space-T1w_desc-synth_pet.json").read_text()
    )
    assert sidecar["TracerName"] == "New one"
    assert sidecar["Model"]["Name"] == "fast"
    assert sidecar["Inputs"] == ["T1w"]
    assert "New one" in (folder.parent / "sub-02.html").read_text()


def test_a_session_that_cannot_be_prepared_is_named_and_the_others_train(dataset, trained, options):
    """A PET that is cut short shows only when its voxels are read."""
    broken = dataset.parent / "broken"
    shutil.copytree(dataset, broken)
    path = broken / "sub-04/pet/sub-04_trc-18FAV45_pet.nii.gz"
    path.write_bytes(path.read_bytes()[:20_000])
    out = dataset.parent / "out_broken"
    split = dataset.parent / "split.tsv"
    split.write_text(
        "participant_id\tsplit\nsub-01\ttrain\nsub-02\ttrain\nsub-03\ttest\nsub-04\ttrain\n"
    )
    run = rela_bids(
        *(broken, out, "group", "-w", dataset.parent / "work", *options),
        *("--epochs", 1, "--split", split),
    )
    assert run.returncode == 1, run.stderr
    assert re.search(
        r"sub-04 +failed.*load frames.*sub-04_trc-18FAV45", " ".join(run.stderr.split())
    )
    parts = {row["participant_id"]: row["split"] for row in rows(out / "models/fast/splits.tsv")}
    assert parts == {"sub-01": "train", "sub-02": "train", "sub-03": "test"}
