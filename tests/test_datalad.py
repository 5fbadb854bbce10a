"""docs/datalad on an annexed dataset of which one person is checked out; `make test-datalad`."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rela_bids.cli.parser import parse
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

DOCS = Path(__file__).parents[1] / "docs" / "datalad"
TRACER = "18FAV45"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Where DataLad commits as somebody, and `rela_bids` is that of this Python."""
    if missing := [name for name in ("datalad", "git-annex") if not shutil.which(name)]:
        pytest.skip(f"needs Debian's datalad and git-annex (missing: {missing})")
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text("[user]\n name = Somebody\n email = somebody@example.org\n")
    command = str(Path(sys.executable).with_name("rela_bids"))
    return {**os.environ, "HOME": str(home), "RELA_BIDS": command}


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("masks") / "truth"


@pytest.fixture(scope="module")
def annexed(tmp_path_factory, environment, masks) -> Path:
    """Two people; images are in the annex, text is in git."""
    bids = tmp_path_factory.mktemp("annexed") / "bids"
    recipe = Recipe(
        subjects=2, seed=3, tracers=[TRACERS[TRACER]], voxel_size=5.0, without_flair=1.0, frames=1
    )
    write_dataset(bids, recipe)
    shutil.move(bids / "derivatives/truth", masks)
    shutil.rmtree(bids / "derivatives")
    tell(["datalad", "create", "--force", "-c", "text2git", str(bids)], environment)
    tell(["datalad", "save", "-d", str(bids), "-m", "Data"], environment)
    assert (bids / "sub-01/anat/sub-01_T1w.nii.gz").is_symlink()
    return bids


@pytest.fixture(scope="module")
def study(annexed, environment, masks) -> Path:
    """What the script of the docs leaves."""
    study, work = annexed.parent / "study", annexed.parent / "work"
    script = [str(DOCS / "run.sh"), str(annexed), str(study), str(work), "sub-01"]
    options = ["--tracer-label", TRACER, "--n-samples", "1", "-d", str(masks)]
    tell([*script, *options], environment)
    return study


def tell(command: list[str], environment: dict[str, str]) -> str:
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.very_slow
def test_the_person_asked_for_is_done_and_saved(study, environment):
    pet = study / f"outputs/sub-01/pet/sub-01_trc-{TRACER}_space-T1w_desc-synth_pet.nii.gz"
    assert pet.is_symlink()
    assert pet.exists()
    assert not (study / "outputs/sub-02").exists()
    assert tell(["git", "-C", str(study), "status", "--porcelain"], environment) == ""
    record = tell(["git", "-C", str(study), "log", "-1", "--format=%B"], environment)
    assert "Synthetic PET of sub-01" in record
    assert '"exit": 0' in record


@pytest.mark.very_slow
def test_the_input_is_read_through_its_links_and_left_as_it_was(study, environment):
    inputs = study / "inputs/bids"
    assert (inputs / "sub-01/anat/sub-01_T1w.nii.gz").is_symlink()
    assert not (inputs / "sub-02").exists()
    assert tell(["git", "-C", str(inputs), "status", "--porcelain"], environment) == ""
    sidecar = study / "outputs/sub-01/anat/sub-01_desc-preproc_T1w.json"
    assert json.loads(sidecar.read_text())["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]


@pytest.mark.very_slow
def test_nothing_is_written_outside_out_and_the_work_folder(study, environment):
    home = Path(environment["HOME"])
    assert {path.name for path in home.iterdir()} <= {".gitconfig", ".cache", ".config"}
    assert not list((home / ".cache").glob("*templateflow*"))
    assert {path.name for path in study.iterdir()} <= {
        *(".git", ".datalad", ".gitattributes", ".gitmodules", "inputs", "outputs")
    }


def test_the_flags_that_babs_passes_are_understood(tmp_path):
    """As BABS puts them together: a person with its prefix, a session, a filter file, a folder."""
    config = yaml.safe_load((DOCS / "babs.yaml").read_text())
    flags = config["bids_app_args"]
    person_flag = flags.pop("$SUBJECT_SELECTION_FLAG")
    (tmp_path / "inputs").mkdir()
    (tmp_path / "filter.json").write_text(
        '{"fmap": {"datatype": "fmap"}, "bold": {"session": "01"}, "t1w": {"session": "01"}}'
    )
    words = [tmp_path / "inputs", tmp_path / "outputs", "participant"]
    for flag, value in flags.items():
        words += [flag, *([value.replace("$BABS_TMPDIR", str(tmp_path / "tmp"))] if value else [])]
    words += [person_flag, "sub-01", "--session-label", "ses-01"]
    words += ["--bids-filter-file", tmp_path / "filter.json"]
    settings = parse(shlex.split(" ".join(map(str, words))))
    assert settings.selection.participants == ("01",)
    assert settings.selection.sessions == ("01",)
    assert settings.selection.filters == {"t1w": {"session": "01"}}
    assert settings.work_dir == tmp_path / "tmp"
    assert settings.clean_workdir
