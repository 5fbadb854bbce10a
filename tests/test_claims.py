"""Claims on sessions, between processes as they are in use."""

import subprocess
import sys

import pytest

from rela_bids.cli.claims import Claims

HOLDER = """
import sys
from pathlib import Path
from rela_bids.cli.claims import Claims
with Claims(Path(sys.argv[1])) as claims:
    print(claims.take("sub_01_wf"), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which has claimed sub_01_wf."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_a_session_is_one_runs_and_others_are_free(tmp_path, holder):
    with Claims(tmp_path) as claims:
        assert not claims.take("sub_01_wf")
        assert claims.take("sub_02_wf")


def test_a_claim_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.kill()
    holder.wait()
    with Claims(tmp_path) as claims:
        assert claims.take("sub_01_wf")


def test_who_waits_gets_the_session_when_the_other_has_ended(tmp_path, holder):
    holder.stdin.write("\n")
    holder.stdin.flush()
    with Claims(tmp_path) as claims:
        assert claims.take("sub_01_wf", wait=True)
