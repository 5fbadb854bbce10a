"""Many runs at once into one OUT, as an array of jobs has them.

Two sessions, then twenty, and each time one more run on the first; `make test-shared-out`.
"""

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

TRACER = "18FAV45"

# Each run is several processes of some hundred MB.
AT_ONCE = {"few": (2, 1), "many": (10, 2)}


def rela_bids(*arguments: object) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("rela_bids")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("few", marks=pytest.mark.very_slow),
        pytest.param("many", marks=pytest.mark.very_slow),
    ],
)
def shared(request, tmp_path_factory) -> tuple[Path, list[str], list[subprocess.CompletedProcess]]:
    """OUT, the sessions in it, and the runs: one a session, and one more on the first."""
    people, sessions = AT_ONCE[request.param]
    folder = tmp_path_factory.mktemp(f"shared_{request.param}")
    recipe = Recipe(
        subjects=people,
        seed=7,
        tracers=[TRACERS[TRACER]],
        voxel_size=5.0,
        sessions=sessions,
        without_flair=1.0,
        frames=1,
    )
    write_dataset(folder / "bids", recipe)
    found = sorted(
        path.relative_to(folder / "bids") for path in (folder / "bids").glob("sub-*/ses-*")
    )
    jobs = [*found, found[0]]
    with ThreadPoolExecutor(len(jobs)) as pool:
        runs = list(pool.map(lambda session: one_run(folder, session), jobs))
    return folder / "out", [session.as_posix() for session in found], runs


def one_run(folder: Path, session: Path) -> subprocess.CompletedProcess:
    person, visit = session.parts
    return rela_bids(
        *(folder / "bids", folder / "out", "participant", "-w", folder / "work", "--nprocs", 1),
        *("--participant-label", person, "--session-label", visit, "--tracer-label", TRACER),
        *("--n-samples", 1, "-d", folder / "bids/derivatives/truth", "--mem", 2),
    )


def test_every_run_ends_well(shared):
    _, _, runs = shared
    assert [run.returncode for run in runs] == [0] * len(runs), failures(runs)


def failures(runs: Sequence[subprocess.CompletedProcess]) -> str:
    return "\n".join(run.stdout + run.stderr for run in runs if run.returncode)


def test_no_file_is_lost_or_half(shared):
    out, sessions, runs = shared
    for session in sessions:
        pet = list((out / session / "pet").glob("*_desc-synth_pet.nii.gz"))
        assert len(pet) == 1, session
        assert np.isfinite(nib.load(pet[0]).get_fdata()).all()
        assert len(list((out / session / "anat").glob("*_xfm.h5"))) == 2
        assert session.split("/")[1] in (out / f"{session.split('/')[0]}.html").read_text()
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    for path in out.rglob("*.gz"):
        with gzip.open(path) as file:
            assert file.read()
    assert len(list((out / "logs").glob("*.toml"))) == len(runs)


def test_no_lock_or_temporary_file_is_left(shared):
    out, _, _ = shared
    names = [path.name for path in out.rglob("*")]
    assert [name for name in names if name.startswith(".") and name != ".bidsignore"] == []
    assert [name for name in names if "lock" in name or "claim" in name] == []
    assert not list(out.rglob("crash-*"))


def test_the_dataset_validates(shared):
    out, _, _ = shared
    validator = Path(sys.executable).with_name("bids-validator-deno")
    run = subprocess.run([validator, out, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
