"""Where libraries may write, in places that have neither HOME nor a known user nor a /tmp."""

import getpass
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from rela_bids.cli.environment import set_environment


@pytest.fixture(autouse=True)
def environment_as_it_was(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_a_user_whom_nobody_knows_gets_a_name_and_a_home(tmp_path, monkeypatch):
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    set_environment(tmp_path, threads=1)
    assert Path.home().is_relative_to(tmp_path)
    assert getpass.getuser()


def unknown(uid):
    raise KeyError(uid)


def test_a_home_that_is_there_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    set_environment(tmp_path, threads=1)
    assert os.environ["HOME"] == "/home/somebody"


def test_a_temporary_folder_that_is_not_there_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "of another node"))
    set_environment(tmp_path, threads=1)
    assert os.access(os.environ["TMPDIR"], os.W_OK)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    set_environment(tmp_path, threads=1)
    assert os.environ["TMPDIR"] == str(tmp_path)


def test_pybids_is_imported_for_a_user_whom_nobody_knows(tmp_path):
    code = (
        "import pwd; pwd.getpwuid = {}.__getitem__; from pathlib import Path; "
        "from rela_bids.cli.environment import set_environment; "
        f"set_environment(Path({str(tmp_path)!r}), 1); import bids.config; print('imported')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "HOME"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "imported" in run.stdout, run.stderr
