"""Datasets and folders that break the rules: exit code, one line, and the others are done.

What can be read all the same is read, and a dry run shows it.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

DESCRIPTION = json.dumps({"Name": "datasets", "BIDSVersion": "1.10.0"})


def make(root: Path, *files: str, description: str | bytes | None = DESCRIPTION) -> Path:
    """A dataset of empty files."""
    root.mkdir(parents=True, exist_ok=True)
    if description is not None:
        content = description.encode() if isinstance(description, str) else description
        (root / "dataset_description.json").write_bytes(content)
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


T1W = "sub-01/anat/sub-01_T1w.nii.gz"
OTHER = "sub-02/anat/sub-02_T1w.nii.gz"


def dangling(bids: Path) -> None:
    (bids / "sub-01/anat").mkdir(parents=True)
    (bids / T1W).symlink_to("/annex/objects/gone")


def looping(bids: Path) -> None:
    (bids / "sub-01/anat").mkdir(parents=True)
    (bids / T1W).symlink_to(bids / T1W)


REFUSED = {
    "no dataset_description": ({"description": None}, [T1W], 16, "dataset_description.json"),
    "an empty dataset_description": ({"description": b""}, [T1W], 16, "valid JSON"),
    "a dataset_description cut short": ({"description": DESCRIPTION[:20]}, [T1W], 16, "JSON"),
    "a dataset_description in latin-1": (
        {"description": '{"Name": "caf\xe9"}'.encode("latin-1")},
        [T1W],
        16,
        "UTF-8",
    ),
    "a dataset_description of a list": ({"description": "[]"}, [T1W], 16, "JSON object"),
    "a dataset_description without Name": ({"description": "{}"}, [T1W], 16, "Name"),
    "a dataset without people": ({}, [], 16, "sub-<label>"),
    "people in upper case": ({}, ["Sub-01/anat/Sub-01_T1w.nii.gz"], 16, "lower case"),
    "a file in the place of a person": ({}, ["sub-01"], 16, "sub-<label>"),
    "no T1w anywhere": ({}, ["sub-01/anat/sub-01_T2w.nii.gz"], 66, "T1w"),
    "T1w in the wrong case": ({}, ["sub-01/anat/sub-01_t1w.nii.gz"], 66, "T1w"),
    "T1w in the wrong folder": ({}, ["sub-01/func/sub-01_T1w.nii.gz"], 66, "T1w"),
    "T1w of another person": ({}, ["sub-01/anat/sub-02_T1w.nii.gz"], 66, "T1w"),
    "a label with a dash": ({}, ["sub-a-b/anat/sub-a-b_T1w.nii.gz"], 66, "T1w"),
}


@pytest.mark.parametrize(("options", "files", "code", "named"), REFUSED.values(), ids=REFUSED)
def test_is_refused(options, files, code, named, rela_bids, tmp_path):
    bids = make(tmp_path / "bids", *files, **options)
    ended = rela_bids(bids, tmp_path / "out", "participant")
    assert ended.code == code
    assert named in ended.line
    assert str(bids) in ended.line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("link", [dangling, looping])
def test_links_to_nothing(link, rela_bids, tmp_path):
    bids = make(tmp_path / "bids")
    link(bids)
    ended = rela_bids(bids, tmp_path / "out", "participant")
    assert ended.code == 66
    assert "T1w" in ended.line
    dry = rela_bids(bids, tmp_path / "out", "participant", "--dry-run")
    assert "sub-01_T1w.nii.gz" in dry.out
    assert "datalad get" in dry.out


READ = {
    "a byte order mark": ({"description": b"\xef\xbb\xbf" + DESCRIPTION.encode()}, [T1W], T1W),
    "sessions for some": ({}, [T1W, "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz"], "sub-02/ses-1"),
    "runs twice": (
        {},
        ["sub-01/anat/sub-01_run-1_T1w.nii.gz", "sub-01/anat/sub-01_run-01_T1w.nii.gz"],
        "run-1_T1w.nii.gz was not used",
    ),
    "somebody without a T1w": ({}, [T1W, "sub-02/anat/sub-02_T2w.nii.gz"], "no T1w"),
    "a label with a dash beside others": (
        {},
        [T1W, "sub-a-b/anat/sub-a-b_T1w.nii.gz"],
        "label a-b may have letters and digits only",
    ),
    "names that are no names": ({}, [T1W, "sub-01/anat/_.nii.gz", "sub-01/anat/-.nii"], T1W),
}


@pytest.mark.parametrize(("options", "files", "named"), READ.values(), ids=READ)
def test_is_read_all_the_same(options, files, named, rela_bids, tmp_path):
    bids = make(tmp_path / "bids", *files, **options)
    ended = rela_bids(bids, tmp_path / "out", "participant", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert named in ended.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["with space", "ünïcödé 脳", "sub-99", "a'b\"c$(reboot)", "-rf"])
def test_the_name_of_the_folder_does_not_matter(name, rela_bids, tmp_path):
    bids = make(tmp_path / name / "bids", T1W)
    out = tmp_path / name / "out"
    ended = rela_bids(bids, out, "participant", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert str(out / "sub-01" / "anat") in ended.out


def test_ten_thousand_people(rela_bids, tmp_path):
    bids = make(tmp_path / "bids", T1W)
    for number in range(10_000):
        (bids / f"sub-{number:05d}").mkdir()
    ended = rela_bids(bids, tmp_path / "out", "participant", "--dry-run")
    assert ended.code == 0
    assert ended.out.splitlines()[-1].endswith("left out: 10000")


FOLDERS = {
    "OUT is BIDS": (lambda bids: [bids, bids], 64),
    "OUT holds BIDS": (lambda bids: [bids, bids.parent], 64),
    "OUT among the people": (lambda bids: [bids, bids / "sub-01"], 64),
    "OUT is all derivatives": (lambda bids: [bids, bids / "derivatives"], 64),
    "OUT is a file": (lambda bids: [bids, bids / "dataset_description.json"], 64),
    "OUT below a file": (lambda bids: [bids, bids.parent / "file" / "out"], 73),
    "OUT of another": (lambda bids: [bids, bids.parent / "other"], 64),
    "OUT whose description is broken": (lambda bids: [bids, bids.parent / "broken"], 64),
    "work in BIDS": (lambda bids: [bids, bids.parent / "out", "-w", bids / "work"], 64),
    "work is OUT": (lambda bids: [bids, bids.parent / "out", "-w", bids.parent / "out"], 64),
    "work below a file": (
        lambda bids: [bids, bids.parent / "out", "-w", bids.parent / "file/w"],
        73,
    ),
    "BIDS is not there": (lambda bids: [bids.parent / "nowhere", bids.parent / "out"], 66),
    "BIDS is a file": (lambda bids: [bids.parent / "file", bids.parent / "out"], 66),
    "BIDS has a name that is too long": (lambda bids: [bids / ("x" * 300), bids.parent / "o"], 66),
}


@pytest.mark.parametrize(("folders", "code"), FOLDERS.values(), ids=FOLDERS)
def test_folders(folders, code, rela_bids, tmp_path):
    bids = make(tmp_path / "bids", T1W)
    (tmp_path / "file").touch()
    make(tmp_path / "other", description=json.dumps({"GeneratedBy": [{"Name": "fMRIPrep"}]}))
    make(tmp_path / "broken", description="{")
    before = snapshot(tmp_path)
    bids_dir, out, *options = folders(bids)
    ended = rela_bids(bids_dir, out, "participant", *options)
    assert ended.code == code
    assert str(tmp_path) in ended.line
    for path, content in before.items():
        assert path.read_bytes() == content


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
        for path in [Path(folder), *Path(folder).rglob("*")]:
            if path.is_dir():
                path.chmod(0o777)


def test_a_folder_that_may_not_be_read(open_folder, rela_bids, without_root, tmp_path):
    bids = make(open_folder / "bids", T1W, OTHER)
    rela_bids(bids, tmp_path / "out", "participant", "--dry-run")  # imports what it needs
    (bids / "sub-01").chmod(0)
    with without_root():
        ended = rela_bids(bids, open_folder / "out", "participant", "--dry-run")
    assert ended.code == 0
    assert "sub-01 cannot be read (Permission denied)" in ended.out
    assert OTHER in ended.out
    bids.chmod(0)
    with without_root():
        ended = rela_bids(bids, open_folder / "out", "participant", "--dry-run")
    assert ended.code == 16
    assert "Permission denied" in ended.line


@pytest.mark.parametrize("which", ["out", "work"])
def test_a_folder_that_may_not_be_written(which, open_folder, rela_bids, without_root, tmp_path):
    bids = make(open_folder / "bids", T1W)
    (open_folder / which).mkdir(mode=0o555)
    rela_bids(bids, tmp_path / "out", "participant", "--dry-run")
    with without_root():
        ended = rela_bids(
            *(bids, open_folder / "out", "participant", "--skull-strip", "skip"),
            *("-w", open_folder / "work"),
        )
    assert ended.code == 73
    assert str(open_folder / which) in ended.line


def test_a_dataset_is_not_touched(rela_bids, tmp_path):
    """Also where it may be written to and OUT lies in its derivatives."""
    bids = make(tmp_path / "bids", T1W, "sub-02/anat/sub-02_T2w.nii.gz")
    before = {path: os.lstat(path).st_mtime_ns for path in bids.rglob("*")}
    rela_bids(bids, bids / "derivatives/rela_bids", "participant", "--dry-run")
    assert {path: os.lstat(path).st_mtime_ns for path in bids.rglob("*")} == before
    shutil.rmtree(bids)
