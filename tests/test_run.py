"""The command's exit codes: one line for people, no traceback."""

import os
import signal
from pathlib import Path

import pytest

from rela_bids.cli.environment import make_folder
from rela_bids.cli.run import main
from rela_bids.exceptions import CannotWriteError


@pytest.fixture
def bids(tmp_path) -> Path:
    folder = tmp_path / "bids"
    (folder / "sub-01" / "anat").mkdir(parents=True)
    (folder / "sub-01" / "anat" / "sub-01_T2w.nii.gz").touch()
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    return folder


def run(capsys, *arguments: object) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        (["--participant-label", "99"], 18, "99"),
        (["--n-samples", "0"], 64, "--n-samples"),
        (["--model", "/nowhere.safetensors"], 66, "nowhere"),
        (["--no-such-option"], 64, "--no-such-option"),
    ],
)
def test_an_error_is_one_line_with_its_code(bids, capsys, monkeypatch, extra, code, words):
    monkeypatch.chdir(bids.parent)
    (bids / "sub-01/anat/sub-01_T1w.nii.gz").touch()
    found, text = run(capsys, bids, bids.parent / "out", "participant", *extra)
    assert found == code
    assert words in text
    assert len(text.strip().splitlines()) == 1


def test_a_dataset_without_any_t1w_is_a_missing_input(bids, capsys, monkeypatch):
    monkeypatch.chdir(bids.parent)
    code, text = run(capsys, bids, bids.parent / "out", "participant")
    assert code == 66
    assert "T1w" in text


def test_a_folder_that_is_no_dataset_ends_with_16(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, text = run(capsys, tmp_path / "empty", tmp_path / "out", "participant")
    assert code == 16
    assert "dataset_description.json" in text


def test_the_group_level_needs_a_finished_session(bids, capsys):
    code, text = run(capsys, bids, bids.parent / "out", "group")
    assert code == 66
    assert "out" in text


def test_a_folder_in_the_way_of_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError, match="file"):
        make_folder(tmp_path / "file" / "out")


def test_the_handling_of_sigterm_is_left_as_it_was(bids, capsys):
    before = signal.getsignal(signal.SIGTERM)
    run(capsys, bids, bids.parent / "out", "group")
    assert signal.getsignal(signal.SIGTERM) == before


def test_environment_is_left_as_it_was(bids, capsys, monkeypatch):
    before = dict(os.environ)
    run(capsys, bids, bids.parent / "out", "participant", "--dry-run")
    assert dict(os.environ) == before
