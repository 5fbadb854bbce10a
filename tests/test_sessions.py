"""Graphs of sessions, run as both levels run them: here of one small node each."""

import csv
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe

from rela_bids.bids.query import Session
from rela_bids.cli import sessions as cli_sessions
from rela_bids.cli.environment import make_folders, set_environment
from rela_bids.settings import Resources, Settings

pytestmark = pytest.mark.slow

SESSIONS = [Session("01", "1"), Session("01", "2")]


HOLDER = """
import sys
from pathlib import Path
from rela_bids.cli.claims import Claims
with Claims(Path(sys.argv[1])) as claims:
    print(claims.take("sub_01_ses_2_wf"), flush=True)
    sys.stdin.readline()
"""


def write_a_file():
    from pathlib import Path

    Path("file").write_bytes(bytes(2_000_000))
    return str(Path("file").resolve())


def init_wf(*, session: Session, name: str) -> pe.Workflow:
    workflow = pe.Workflow(name)
    node = pe.Node(Function(function=write_a_file, output_names=["file"]), name="write_a_file")
    workflow.add_nodes([node])
    return workflow


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        bids_dir=tmp_path / "bids",
        output_dir=tmp_path / "out",
        work_dir=tmp_path / "work",
        resources=Resources(nprocs=1),
        resource_monitor=True,
        clean_workdir=True,
    )
    set_environment(settings.work_dir, 1)
    monkeypatch.setenv("NIPYPE_CONFIG_DIR", str(tmp_path / "work/cache/nipype"))
    make_folders(settings)
    return settings


def test_what_steps_took_is_kept_and_intermediate_files_are_not(settings, capsys):
    states = cli_sessions.execute(SESSIONS, settings, "run", init_wf)
    assert all(state.finished for state in states.values())
    with (settings.output_dir / "logs/run_resources.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert sorted(row["session"] for row in rows) == ["sub-01/ses-1", "sub-01/ses-2"]
    assert all(float(row["peak_memory_gb"]) > 0.05 for row in rows)
    assert "2 MB a session" in capsys.readouterr().err
    assert not list(settings.work_dir.rglob("file"))
    # Nipype's own notes stay in the work folder, too.
    there = {path.name for path in Path.cwd().iterdir()}
    assert there <= {"out", "work"}


def test_a_session_that_another_run_works_on_is_waited_for(settings, monkeypatch):
    # POSIX locks are a process's own, and so another process has to hold this one.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, settings.work_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "True\n"
    said, ended = [], []

    def say(line):
        said.append(line)
        if "another run is working on it" in line:
            threading.Timer(0.5, holder.communicate, ["\n"]).start()

    monkeypatch.setattr(cli_sessions, "say", say)
    states = cli_sessions.execute(
        SESSIONS, settings, "run", init_wf, lambda session, state: ended.append(session.session)
    )
    assert ended == ["1", "2"]
    assert all(state.finished for state in states.values())
    assert any(line.startswith("sub-01/ses-2  another run is working on it") for line in said)
    table = (settings.output_dir / "logs/run_resources.tsv").read_text()
    assert len(table.splitlines()) == 3
