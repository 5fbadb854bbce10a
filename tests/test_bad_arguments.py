"""Arguments that cannot be meant: exit code, one line that names the option, nothing written."""

import json
from pathlib import Path

import pytest

OTHER_TOML = "[grid]\nvoxel_size = 'small'\n"


@pytest.fixture
def bids(tmp_path) -> Path:
    folder = tmp_path / "bids"
    (folder / "sub-01/ses-1/anat").mkdir(parents=True)
    (folder / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").touch()
    description = {"Name": "arguments", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    files = {
        "broken.json": b"{",
        "latin1.json": '{"t1w": {"acquisition": "caf\xe9"}}'.encode("latin-1"),
        "list.json": b"[]",
        "flat.json": b'{"t1w": "mprage"}',
        "float.json": b'{"t1w": {"run": 1.5}}',
        "entity.json": b'{"t1w": {"acq": "mprage"}}',
        "nothing.json": b'{"t1w": {"acquisition": "none"}}',
        "deep.json": b"[" * 100_000,
        "broken.toml": b"[grid",
        "setting.toml": b"surprise = 1",
        "value.toml": OTHER_TOML.encode(),
        "latin1.toml": "# caf\xe9".encode("latin-1"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return folder


PARTICIPANT = {
    "an option that does not exist": (["--n-sampels", 3], 64, "--n-sampels"),
    "a tracer that the model lacks": (["--tracer-label", "18FXYZ"], 64, "18FXYZ"),
    "no samples": (["--n-samples", 0], 64, "--n-samples"),
    "fewer than no samples": (["--n-samples", -2], 64, "--n-samples"),
    "half a sample": (["--n-samples", "2.5"], 64, "--n-samples"),
    "no steps": (["--sampling-steps", 0], 64, "--sampling-steps"),
    "more steps than the model has": (["--sampling-steps", 999], 64, "--sampling-steps"),
    "a negative seed": (["--random-seed", -1], 64, "--random-seed"),
    "a seed of 33 bits": (["--random-seed", 2**32], 64, "--random-seed"),
    "no processes": (["--nprocs", 0], 64, "--nprocs"),
    "no memory": (["--mem", "0G"], 64, "--mem"),
    "memory in furlongs": (["--mem", "16 furlongs"], 64, "--mem"),
    "a space that is not on disk": (["--output-spaces", "Talairach"], 66, "Talairach"),
    "an atlas that is not there": (["--atlas", "no.nii", "no.tsv"], 66, "no.nii"),
    "a method that does not exist": (["--skull-strip", "bet"], 64, "bet"),
    "a device that this machine lacks": (["--device", "mps"], 64, "--device mps"),
    "a person who is not there": (["--participant-label", "99"], 18, "sub-99"),
    "a session that is not there": (["--session-label", "9"], 18, "ses-9"),
    "10,000 people": (
        ["--participant-label", *(f"x{number}" for number in range(10_000))],
        18,
        "and 9995 more",
    ),
    "a label that leads out of OUT": (["--participant-label", "../../etc"], 64, "../../etc"),
    "a label with a command": (["--participant-label", "01;reboot"], 64, "01;reboot"),
    "an empty label": (["--participant-label", ""], 64, "not a label"),
    "training without the level": (["--train"], 64, "--train"),
    "epochs without training": (["--epochs", 3], 64, "--epochs"),
    "a head template that is not there": (
        ["--skull-strip-template", "/no/head.nii.gz"],
        66,
        "/no/head.nii.gz",
    ),
    "derivatives that are not there": (["-d", "/no/fmriprep"], 66, "/no/fmriprep"),
    "a filter file that is not there": (["--bids-filter-file", "no.json"], 66, "no.json"),
    "a filter file that is broken": (["--bids-filter-file", "broken.json"], 65, "broken.json"),
    "a filter file in latin-1": (["--bids-filter-file", "latin1.json"], 65, "UTF-8"),
    "a filter file with a list": (["--bids-filter-file", "list.json"], 65, "list.json"),
    "a filter without entities": (["--bids-filter-file", "flat.json"], 65, "t1w"),
    "a filter with a fraction": (["--bids-filter-file", "float.json"], 65, "1.5"),
    "a filter file without a bottom": (["--bids-filter-file", "deep.json"], 65, "deep.json"),
    "a filter with a short entity": (["--bids-filter-file", "entity.json"], 64, "acquisition"),
    "a filter that matches nothing": (["--bids-filter-file", "nothing.json"], 18, "acquisition"),
}

TRAINING = {
    "a synthesis option in training": (["--n-samples", 3], 64, "--n-samples"),
    "a name that leads out of OUT": (["--model-name", "../x"], 64, "../x"),
    "a hidden name": (["--model-name", ".x"], 64, ".x"),
    "a time that is none": (["--max-time", "90"], 64, "--max-time"),
    "no time": (["--max-time", "00:00:00"], 64, "--max-time"),
    "no epochs": (["--epochs", 0], 64, "--epochs"),
    "a preset that does not exist": (["--preset", "best"], 64, "best"),
    "settings that are not there": (["--train-config", "no.toml"], 66, "no.toml"),
    "settings that are broken": (["--train-config", "broken.toml"], 65, "broken.toml"),
    "settings in latin-1": (["--train-config", "latin1.toml"], 65, "latin1.toml"),
    "a setting that does not exist": (["--train-config", "setting.toml"], 65, "surprise"),
    "a setting with a bad value": (["--train-config", "value.toml"], 65, "voxel_size"),
    "a split that is not there": (["--split", "no.tsv"], 64, "--split no.tsv"),
}


@pytest.mark.parametrize(("options", "code", "named"), PARTICIPANT.values(), ids=PARTICIPANT)
def test_participant(options, code, named, bids, rela_bids, tmp_path):
    ended = rela_bids(bids, tmp_path / "out", "participant", *options)
    assert ended.code == code
    assert named in ended.line
    assert len(ended.line) < 600
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "code", "named"), TRAINING.values(), ids=TRAINING)
def test_training(options, code, named, bids, rela_bids, tmp_path):
    ended = rela_bids(bids, tmp_path / "out", "group", "--train", *options)
    assert ended.code == code
    assert named in ended.line
    assert not (tmp_path / "out").exists()
