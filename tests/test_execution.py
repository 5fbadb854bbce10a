"""The worker pool: order, failures, killed workers. Real graphs of small nodes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe

from rela_bids.cli.execution import SessionPool, last_line, run_workflow, session_of


def note(folder, name):
    """Leave a trace of having run."""
    import time
    from pathlib import Path

    with Path(folder, "trace").open("a") as trace:
        trace.write(name + "\n")
    time.sleep(0.05)
    return folder


def fail(folder):
    from rela_bids.exceptions import BadDataError

    raise BadDataError("scan.nii.gz is empty: get it again")


def die(folder):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.nodes, self.done, self.errors, self.ticks = [], [], {}, 0
        self.tracebacks = {}

    def planned(self, nodes):
        self.nodes = [node.fullname for node in nodes]

    def started(self, node):
        pass

    def finished(self, node):
        self.done.append(f"{session_of(node)}.{node.name}")

    def failed(self, node, error, traceback):
        self.errors[session_of(node)] = error
        self.tracebacks[session_of(node)] = traceback

    def tick(self):
        self.ticks += 1


def graph(folder: Path, *chains: dict) -> pe.Workflow:
    """One session of two nodes per chain; `middle` is the function of the second."""
    top = pe.Workflow("top", base_dir=str(folder / "work"))
    top.config["execution"] = {"crashdump_dir": str(folder), "crashfile_format": "txt"}
    for name, middle in [item for chain in chains for item in chain.items()]:
        session = pe.Workflow(name)
        first = pe.Node(Function(function=note, output_names=["folder"]), name="first")
        first.inputs.folder, first.inputs.name = str(folder), f"{name}.first"
        second = pe.Node(Function(function=middle, output_names=["folder"]), name="second")
        if middle is note:
            second.inputs.name = f"{name}.second"
        session.connect(first, "folder", second, "folder")
        top.add_nodes([session])
    return top


def run(folder: Path, *chains: dict, nprocs: int = 1) -> Recorder:
    recorder = Recorder()
    pool = SessionPool(
        nprocs=nprocs,
        memory_gb=4,
        order=[name for chain in chains for name in chain],
        observer=recorder,
    )
    run_workflow(graph(folder, *chains), pool)
    return recorder


@pytest.mark.slow
def test_the_session_that_was_begun_first_is_finished_first(tmp_path):
    run(tmp_path, {"b_wf": note}, {"a_wf": note})
    trace = (tmp_path / "trace").read_text().split()
    assert trace == ["b_wf.first", "b_wf.second", "a_wf.first", "a_wf.second"]


@pytest.mark.slow
def test_one_session_that_fails_leaves_the_others_alone(tmp_path):
    recorder = run(tmp_path, {"bad_wf": fail}, {"good_wf": note})
    assert recorder.errors == {"bad_wf": "scan.nii.gz is empty: get it again"}
    assert "good_wf.second" in recorder.done
    assert "BadDataError" in recorder.tracebacks["bad_wf"]


@pytest.mark.slow
def test_what_a_session_is_done_without_does_not_end_a_run(tmp_path):
    """Not even one that is to stop on the first crash."""
    top = graph(tmp_path, {"b_wf": note})
    top.config["execution"]["stop_on_first_crash"] = "true"
    session = pe.Workflow("a_wf")
    session.add_nodes([graph(tmp_path, {"measured_x_wf": fail}).get_node("measured_x_wf")])
    top.add_nodes([session])
    recorder = Recorder()
    pool = SessionPool(nprocs=1, memory_gb=4, order=["a_wf", "b_wf"], observer=recorder)
    run_workflow(top, pool)
    assert recorder.errors == {"a_wf": "scan.nii.gz is empty: get it again"}
    assert "b_wf.second" in recorder.done


@pytest.mark.slow
def test_a_killed_worker_is_a_failure_of_its_session_and_not_a_hang(tmp_path):
    recorder = run(tmp_path, {"dead_wf": die}, {"good_wf": note})
    assert "killed" in recorder.errors["dead_wf"]
    assert "good_wf.second" in recorder.done


@pytest.mark.slow
def test_no_worker_is_left_behind(tmp_path):
    before = children()
    run(tmp_path, {"a_wf": note}, nprocs=2)
    assert children() <= before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_run_however_it_ends(tmp_path, number):
    script = tmp_path / "long.py"
    script.write_text(LONG_RUN.format(folder=str(tmp_path)))
    run = subprocess.Popen(
        [sys.executable, script],
        stderr=subprocess.DEVNULL,
        # What a shell starts in the background ignores Ctrl-C, and so would what that starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    worker = wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    run.send_signal(number)
    run.wait(30)
    assert wait_for(lambda: not Path(f"/proc/{worker}").exists())


LONG_RUN = """
import signal
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe
from rela_bids.cli import run as cli
from rela_bids.cli.execution import SessionPool, run_workflow

def wait():
    import os, time
    open("{folder}/pid.part", "w").write(str(os.getpid()))
    os.rename("{folder}/pid.part", "{folder}/pid")
    time.sleep(60)

class Silent:
    def __getattr__(self, name):
        return lambda *arguments: None

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, cli._stop)
    top = pe.Workflow("top", base_dir="{folder}")
    session = pe.Workflow("a_wf")
    session.add_nodes([pe.Node(Function(function=wait), name="wait")])
    top.add_nodes([session])
    run_workflow(top, SessionPool(nprocs=1, memory_gb=4, order=["a_wf"], observer=Silent()))
"""


def wait_for(condition, seconds=60):
    """What `condition` returns once it is true; False if it never is."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.1)
    return False


def children() -> set[int]:
    own = os.getpid()
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == own and fields[0] != "Z" and "python" in status.read_text():
            found.add(int(status.parent.name))
    return found


def test_a_message_for_people_is_taken_from_a_traceback():
    traceback = "Traceback\n  File x\nrela_bids.exceptions.BadDataError: T1w is empty: get it\n"
    assert last_line(traceback) == "T1w is empty: get it"
    assert last_line("") == "unknown error"
