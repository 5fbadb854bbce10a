"""The job scripts of docs/slurm on a real SLURM, which runs on this machine for the test.

`make test-slurm` installs it (Debian's slurm-wlm and munge; root).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe

from rela_bids.cli.execution import run_workflow, session_of
from rela_bids.cli.plugins import Plugin, make_runner
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.settings import Resources
from rela_bids.tracers import TRACERS

pytestmark = pytest.mark.very_slow

SCRIPTS = Path(__file__).parents[1] / "docs" / "slurm"
TRACER = "18FAV45"
PEOPLE = ["01", "02", "03"]
SMALL = ["--cpus-per-task=1", "--mem=3G"]
TRAIN_CONFIG = """
sampling_steps = 2
n_samples = 1
[grid]
voxel_size = 8
[network]
channels = [8, 8]
norm_groups = 4
"""

# Steps are found by their processes, not by control groups, which containers and CI may not have.
CONFIG = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MpiDefault=none
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run SLURM with its files in `folder`; gives the environment in which its commands find it."""
    missing = [name for name in ("munged", "slurmctld", "slurmd") if not shutil.which(name)]
    if missing or os.geteuid():
        pytest.skip(f"needs root and Debian's slurm-wlm and munge (missing: {missing})")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config, key = folder / "slurm.conf", folder / "munge.key"
    host = socket.gethostname().split(".")[0]
    config.write_text(CONFIG.format(folder=folder, host=host, ports=free_ports(2)))
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(config)}
    munge_files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{end}" for option, end in munge_files.items()]
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D", "-N", host],
        ):
            stack.enter_context(daemon(command, environment, folder / f"{command[0]}.out"))
            time.sleep(1)
        wait_until(lambda: "idle" in ask(["sinfo", "-h", "-o", "%T"], environment), 60)
        yield environment


@contextmanager
def daemon(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def ask(command: list[object], environment: dict[str, str]) -> str:
    """What a command prints; its error message where it fails."""
    run = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, check=False
    )
    return run.stdout if run.returncode == 0 else run.stderr


def submit(command: list[object], environment: dict[str, str]) -> str:
    """Submit with sbatch; returns the job's number."""
    said = ask(["sbatch", "--parsable", *command], environment).strip()
    assert said.isdigit(), said
    return said


def states(job: str, environment: dict[str, str]) -> list[str]:
    """State of a job, or of each task of an array."""
    shown = ask(["scontrol", "--oneliner", "show", "job", job], environment)
    return [word.split("=")[1] for word in shown.split() if word.startswith("JobState=")]


def wait_for(job: str, environment: dict[str, str], seconds: float = 3000) -> list[str]:
    """States in which a job has ended."""
    running = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED"}
    wait_until(lambda: not running & {*states(job, environment)}, seconds)
    return states(job, environment)


def wait_until(condition, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**environment, "RELA_BIDS": str(Path(sys.executable).with_name("rela_bids"))}


@pytest.fixture(scope="module")
def bids(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "bids"
    recipe = Recipe(
        subjects=3, seed=2, tracers=[TRACERS[TRACER]], voxel_size=4.0, without_flair=1.0, frames=2
    )
    write_dataset(folder, recipe)
    # The masks are given to every run; the true PET is not, which training would take, too.
    for pet in folder.glob("derivatives/truth/sub-*/pet"):
        shutil.rmtree(pet)
    return folder


def options(bids: Path) -> list[object]:
    """What makes a session short: one tracer, and a brain mask that is given."""
    return ["--tracer-label", TRACER, "-d", bids / "derivatives/truth"]


def pets(out: Path) -> list[Path]:
    return sorted(out.glob("sub-*/pet/*_desc-synth_pet.nii.gz"))


def test_an_array_of_one_person_a_job_fills_one_folder(cluster, bids):
    out, work = bids.parent / "out", bids.parent / "work"
    log = f"--output={bids.parent}/array-%a.log"
    script = [SCRIPTS / "participants.sh", bids, out, work, "--n-samples", 1, *options(bids)]
    job = submit([f"--array=0-{len(PEOPLE) - 1}", log, *SMALL, *script], cluster)
    assert wait_for(job, cluster) == ["COMPLETED"] * 3, logs(bids.parent)
    assert len(pets(out)) == len(PEOPLE)
    assert all((out / f"sub-{person}.html").exists() for person in PEOPLE)


def test_each_step_is_a_job_with_slurmgraph(cluster, bids):
    out, work = bids.parent / "graph_out", bids.parent / "graph_work"
    script = [SCRIPTS / "graph.sh", bids, out, work, "--participant-label", "01"]
    said = ask([*script, "--n-samples", 1, *options(bids)], cluster)
    assert [path.parts[-3] for path in pets(out)] == ["sub-01"], said
    summary = json.loads((out / "sub-01/figures/sub-01_desc-summary.json").read_text())
    assert summary["status"] == "done"
    assert "sample_pet" in summary["timings"]


def go_on(folder):
    return folder


def fail(folder):
    from rela_bids.exceptions import BadDataError

    raise BadDataError("scan.nii.gz is empty: get it again")


def die(folder):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


class Recorder:
    """An observer that keeps what it is told, nodes by session and name."""

    def __init__(self):
        self.done, self.errors = set(), {}

    def planned(self, nodes):
        pass

    def started(self, node):
        pass

    def finished(self, node):
        self.done.add(f"{session_of(node)}.{node.name}")

    def failed(self, node, error, traceback):
        self.errors[f"{session_of(node)}.{node.name}"] = error

    def tick(self):
        pass


@pytest.mark.parametrize("plugin", ["SLURMGraph", "SLURM"])
def test_a_step_that_fails_in_its_job_is_told_and_others_go_on(
    cluster, tmp_path, monkeypatch, plugin
):
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    top = pe.Workflow("top", base_dir=str(tmp_path / "work"))
    top.config["execution"] = {"crashdump_dir": str(tmp_path), "crashfile_format": "txt"}
    for name, middle in (("good_wf", go_on), ("bad_wf", fail), ("dead_wf", die)):
        session = pe.Workflow(name)
        functions = {"first": go_on, "middle": middle, "last": go_on}
        nodes = [
            pe.Node(Function(function=function, output_names=["folder"]), name=step)
            for step, function in functions.items()
        ]
        nodes[0].inputs.folder = str(tmp_path)
        for one, next_one in pairwise(nodes):
            session.connect(one, "folder", next_one, "folder")
        top.add_nodes([session])
    arguments = {"template": "#!/bin/bash", "sbatch_args": "--time=00:10:00 --mem=500M"}
    told = Recorder()
    run_workflow(top, make_runner(Plugin(plugin, arguments), Resources(), 1.0, [], told))
    assert told.done == {
        *(f"good_wf.{step}" for step in ("first", "middle", "last")),
        *("bad_wf.first", "dead_wf.first"),
    }
    assert told.errors.keys() == {"bad_wf.middle", "dead_wf.middle"}
    assert told.errors["bad_wf.middle"] == "scan.nii.gz is empty: get it again"
    assert ask(["squeue", "--noheader"], cluster) == ""


def test_two_tasks_train_one_model(cluster, bids):
    folder = bids.parent
    config = folder / "train.toml"
    config.write_text(TRAIN_CONFIG)
    script = [SCRIPTS / "train.sh", bids, folder / "out", folder / "train_work", *options(bids)]
    script += ["--train-config", config, "--epochs", 2]
    job = submit([f"--output={folder}/train.log", *SMALL, *script], cluster)
    assert wait_for(job, cluster) == ["COMPLETED"], (folder / "train.log").read_text()
    model = folder / "out/models/fast"
    assert (model / "model.safetensors").stat().st_size > 1000


def test_a_job_that_its_time_limit_ends_goes_on_with_the_same_command(cluster, bids):
    """SLURM's shortest limit is a minute; it sends SIGTERM, and SIGKILL after KillWait."""
    folder, out = bids.parent, bids.parent / "limited_out"
    script = [SCRIPTS / "participants.sh", bids, out, folder / "limited_work", *options(bids)]
    limits = ["--array=0", f"--output={folder}/limited.log", "--open-mode=append", *SMALL]
    job = submit(["--time=1", *limits, *script, "--n-samples", 5000], cluster)
    assert wait_for(job, cluster) == ["TIMEOUT"]
    assert pets(out) == []
    assert not [path for path in out.rglob(".*") if path.name != ".bidsignore"]
    done = {path: path.stat().st_mtime_ns for path in (folder / "limited_work").rglob("result_*")}
    job = submit(["--time=40", *limits, *script, "--n-samples", 2], cluster)
    assert wait_for(job, cluster) == ["COMPLETED"], logs(folder)
    assert len(pets(out)) == 1
    again = {path for path, when in done.items() if path.stat().st_mtime_ns != when}
    assert not [path for path in again if not path.parent.name.startswith("save_")]


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
