"""The wheel of `make dist`, tried in an environment of its own and outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

# Without the checkout, which those who test a working copy put on the path.
APART = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

pytestmark = pytest.mark.very_slow


@pytest.fixture(scope="module")
def wheel() -> Path:
    wheels = sorted((CHECKOUT / "dist").glob("rela_bids-*.whl"))
    if not wheels:
        pytest.skip("there is no wheel in dist/: make dist builds it")
    return wheels[-1]


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A virtual environment with the wheel; what it depends on is that of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    # A path in a .pth file is not searched for further ones: no editable installation comes along.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True, env=APART)
    return folder


def run(environment: Path, program: str, *arguments: object) -> str:
    done = subprocess.run(
        [environment / "bin" / program, *map(str, arguments)],
        cwd=environment,
        env=APART,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_all_that_a_run_reads_and_nothing_of_the_checkout(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "rela_bids").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert data <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rela_bids", "workflows"}


def test_the_command_runs_from_the_wheel(environment):
    assert run(environment, "rela_bids", "--version").startswith("rela_bids ")
    where = run(environment, "python", "-c", "import rela_bids; print(rela_bids.__file__)")
    assert Path(where.strip()).is_relative_to(environment)


def test_a_phantom_is_made_and_planned_from_the_wheel(environment):
    options = ["--subjects", 1, "--voxel-size", 4, "--tracers", "18FAV45"]
    run(environment, "python", "-m", "rela_bids.phantom", "bids", *options)
    plan = run(environment, "rela_bids", "bids", "out", "participant", "--dry-run")
    assert "sub-01_trc-18FAV45_space-T1w_desc-synth_pet.nii.gz" in plan
