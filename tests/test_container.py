"""The image, run as clusters run it: read-only, an unknown user, no HOME, no network.

`make test-container` builds it first. The image's file system is entered with unshare and chroot,
which need root but no container engine.
"""

import csv
import json
import os
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

REPOSITORY = Path(__file__).parents[1]
USER, GROUP = 12345, 54321

pytestmark = pytest.mark.very_slow

# $1: the image's root, $2: the folder with bids, out and work. What follows is run in the image.
ENTER = """
root=$1 data=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir -p "$root"/bids "$root"/out "$root"/work
mount --bind "$data/bids" "$root/bids"
mount -o remount,bind,ro "$root/bids"
mount --bind "$data/out" "$root/out"
mount --bind "$data/work" "$root/work"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -o remount,bind,ro "$root"
exec "$@"
"""


@pytest.fixture(scope="module")
def image() -> Path:
    root = os.environ.get("RELA_BIDS_IMAGE_ROOT")
    if not root:
        pytest.skip("make test-container builds the image, and names its root file system")
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("unshare and chroot need root")
    return Path(root)


@pytest.fixture(scope="module")
def config() -> dict:
    """What the image says of itself: entry point, environment, user, labels."""
    tag = os.environ.get("RELA_BIDS_IMAGE_TAG", "rela_bids")
    if not shutil.which("buildah"):
        pytest.skip("buildah is not on this machine")
    command = ["buildah", "inspect", "--type", "image", tag]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["OCIv1"]["config"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("container")
    recipe = Recipe(subjects=1, seed=5, tracers=[TRACERS["18FAV45"]], voxel_size=4.0)
    write_dataset(folder / "bids", recipe)
    for name in ("out", "work"):
        (folder / name).mkdir()
        os.chown(folder / name, USER, GROUP)
    # pytest's folders are for their owner alone.
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    return folder


def enter(image: Path, config: dict, data: Path, command: list[str]) -> subprocess.CompletedProcess:
    """Run a command in the image with its own environment and nothing else."""
    inside = shlex.join(["cd", config["WorkingDir"]]) + " && exec " + shlex.join(command)
    apart = ["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
    mounted = ["bash", "-euc", ENTER, "enter", str(image), str(data)]
    alone = ["env", "-i", *config["Env"]]
    chroot = [shutil.which("chroot"), f"--userspec={USER}:{GROUP}", "--groups=", str(image)]
    return subprocess.run(
        [*apart, *mounted, *alone, *chroot, "/bin/sh", "-c", inside],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_participant_level_runs_with_nothing_writable_but_out_and_work(image, config, data):
    options = ["--n-samples", "1", "--tracer-label", "18FAV45", "--resource-monitor"]
    command = [*config["Entrypoint"], "/bids", "/out", "participant", "-w", "/work", *options]
    run = enter(image, config, data, command)
    assert run.returncode == 0, run.stdout + run.stderr
    images = list((data / "out/sub-01/pet").glob("*_desc-synth_pet.nii.gz"))
    assert len(images) == 1
    assert images[0].stat().st_uid == USER
    table = next((data / "out/logs").glob("*_resources.tsv"))
    steps = {row["step"]: row for row in csv.DictReader(table.open(), delimiter="\t")}
    assert float(steps["sample_pet"]["peak_memory_gb"]) > 0.1
    template = json.loads((data / "out/sub-01/anat/sub-01_desc-brain_mask.json").read_text())
    assert "Colin 27" in json.dumps(template)


def test_nothing_of_the_image_can_be_written_and_nobody_is_known(image, config, data):
    probe = "import os, socket; print(os.getuid(), os.environ.get('HOME'), socket.if_nameindex()); "
    probe += "print([f for f in ('/', '/tmp', '/opt/venv', '/bids') if os.access(f, os.W_OK)])"
    run = enter(image, config, data, ["python", "-c", probe])
    assert run.stdout.split("\n")[:2] == [f"{USER} None [(1, 'lo')]", "[]"], run.stderr


def test_the_image_says_what_it_is(config):
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    version = setup["metadata"]["version"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.bids.app.version"] == version
    assert labels["org.opencontainers.image.licenses"] == setup["metadata"]["license"]
    assert config["Entrypoint"] == ["/opt/venv/bin/rela_bids"]
    assert config["User"].split(":")[0] not in ("", "0", "root")


def test_the_image_takes_at_most_two_and_a_half_gigabytes(image):
    command = ["du", "--one-file-system", "--summarize", "--block-size=1", str(image)]
    size = int(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    )
    assert size < 2.5e9
    print(f"{size / 1e9:.2f} GB")


def test_the_image_has_no_packages_that_only_development_needs(image):
    there = {path.name for path in (image / "opt/venv/lib/python3.11/site-packages").iterdir()}
    assert {"torch", "ants", "rela_bids", "workflows"} <= there
    assert not {"pip", "pytest", "mypy", "ruff", "deno"} & there
