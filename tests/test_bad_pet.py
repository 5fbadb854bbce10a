"""PET and sidecars that cannot be used end a training before it begins, and name the file.

Headers and sidecars are all that is read, so that images here are a few voxels.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

TIMES: dict[str, Any] = {
    "TracerName": "florbetapir",
    "InjectionStart": 0,
    "FrameTimesStart": [3000, 3600],
    "FrameDuration": [600, 600],
    "Units": "Bq/mL",
}


def save(path: Path, shape: tuple[int, ...], kind: Any = np.float32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones(shape, kind), np.eye(4)), path)


@pytest.fixture
def bids(tmp_path) -> Path:
    """Three people with PET of two frames; that of sub-02 is to be broken."""
    folder = tmp_path / "bids"
    for number in (1, 2, 3):
        stem = folder / f"sub-0{number}"
        save(stem / f"anat/sub-0{number}_T1w.nii.gz", (2, 2, 2))
        save(stem / f"pet/sub-0{number}_trc-18FAV45_pet.nii.gz", (2, 2, 2, 2))
        sidecar = stem / f"pet/sub-0{number}_trc-18FAV45_pet.json"
        sidecar.write_text(json.dumps(TIMES))
    description = {"Name": "pet", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    return folder


Break = Callable[[Path], object]


def sidecar(**changes: Any) -> Break:
    kept = {key: value for key, value in (TIMES | changes).items() if value is not ...}
    return lambda image: beside(image).write_text(json.dumps(kept))


def beside(image: Path) -> Path:
    return image.with_name(image.name.replace(".nii.gz", ".json"))


def text(content: bytes) -> Break:
    return lambda image: beside(image).write_bytes(content)


def renamed(old: str, new: str) -> Break:
    def rename(image: Path) -> None:
        for path in (image, beside(image)):
            path.rename(path.with_name(path.name.replace(old, new)))

    return rename


REFUSED: dict[str, tuple[Break, str]] = {
    "no FrameTimesStart": (sidecar(FrameTimesStart=...), "has no FrameTimesStart"),
    "no FrameDuration": (sidecar(FrameDuration=...), "has no FrameDuration"),
    "no sidecar": (lambda image: beside(image).unlink(), "has no FrameTimesStart"),
    "an empty sidecar": (text(b""), "not valid JSON"),
    "a sidecar cut short": (text(b'{"FrameTimesStart": [3000,'), "not valid JSON"),
    "a sidecar in latin-1": (text('{"Name": "caf\xe9"}'.encode("latin-1")), "UTF-8"),
    "a sidecar of a list": (text(b"[1, 2]"), "JSON object"),
    "a sidecar without a bottom": (text(b"[" * 10**5), "not valid JSON"),
    "fewer times than volumes": (sidecar(FrameTimesStart=[3000]), "2 volumes"),
    "more durations than volumes": (sidecar(FrameDuration=[600] * 3), "2 volumes"),
    "times that are words": (sidecar(FrameTimesStart=["a", "b"]), "not numbers"),
    "times that are no numbers": (sidecar(FrameTimesStart=[float("nan"), 1]), "not numbers"),
    "times without end": (sidecar(FrameDuration=[600, float("inf")]), "not numbers"),
    "times beyond any number": (sidecar(FrameTimesStart=[3000, 10**400]), "not numbers"),
    "times that go back": (sidecar(FrameTimesStart=[3600, 3000]), "does not increase"),
    "frames that overlap": (sidecar(FrameTimesStart=[3000, 3200]), "overlap"),
    "frames without duration": (sidecar(FrameDuration=[0, 600]), "not above 0"),
    "frames of less than no time": (sidecar(FrameDuration=[600, -600]), "not above 0"),
    "minutes for seconds": (
        sidecar(FrameTimesStart=[50, 60], FrameDuration=[10, 10]),
        "window|min",
    ),
    "a scan of the day before": (sidecar(FrameTimesStart=[-90000, -80000]), "too little"),
    "early frames only": (sidecar(FrameTimesStart=[0, 600]), "too little"),
    "a tracer that is not known": (renamed("18FAV45", "18FXYZ"), "18FXYZ"),
    "an empty image": (lambda image: image.write_bytes(b""), "convert it again"),
    "an image of text": (lambda image: image.write_bytes(b"annex"), "convert it again"),
    "an image cut in its header": (
        lambda image: image.write_bytes(gzip.compress(bytes(100))),
        "convert it again",
    ),
    "an image of two dimensions": (lambda image: save(image, (4, 4)), "not a 3-D or 4-D image"),
    "an image of five dimensions": (lambda image: save(image, (2,) * 5), "not a 3-D or 4-D"),
    "an image of one slice": (lambda image: save(image, (4, 4, 1, 2)), "not a 3-D or 4-D"),
    "complex numbers": (lambda image: save(image, (2, 2, 2, 2), np.complex64), "not a 3-D or 4-D"),
}

READ: dict[str, tuple[Break, str]] = {
    "milliseconds": (
        sidecar(FrameTimesStart=[3_000_000, 3_600_000], FrameDuration=[600_000, 600_000]),
        "read as milliseconds",
    ),
    "no InjectionStart": (sidecar(InjectionStart=...), "taken to be 0"),
    "a byte order mark": (text(b"\xef\xbb\xbf" + json.dumps(TIMES).encode()), "frames 0, 1"),
    "units of another kind, which SUVR does not know": (sidecar(Units="kBq/ml"), "frames 0, 1"),
    "a link to nothing": (
        lambda image: (image.unlink(), image.symlink_to("/annex/gone")),
        "datalad get",
    ),
    "nothing that says the tracer": (
        lambda image: (sidecar(TracerName="?")(image), renamed("_trc-18FAV45", "")(image)),
        "was not used",
    ),
}


def dry_run(bids: Path, rela_bids: Callable[..., Any], harm: Break) -> Any:
    harm(bids / "sub-02/pet/sub-02_trc-18FAV45_pet.nii.gz")
    return rela_bids(bids, bids.parent / "out", "group", "--train", "--dry-run")


@pytest.mark.parametrize(("harm", "named"), REFUSED.values(), ids=REFUSED)
def test_is_refused(harm, named, bids, rela_bids):
    ended = dry_run(bids, rela_bids, harm)
    assert ended.code == 65, ended
    assert "sub-02" in ended.line
    assert any(word in ended.line for word in named.split("|")), ended.line
    assert not (bids.parent / "out").exists()


@pytest.mark.parametrize(("harm", "said"), READ.values(), ids=READ)
def test_is_read_or_left_out_and_the_others_are_used(harm, said, bids, rela_bids):
    ended = dry_run(bids, rela_bids, harm)
    assert (ended.code, ended.err) == (0, "")
    assert said in ended.out
    assert "sub-03_trc-18FAV45_pet.nii.gz, frames 0, 1" in ended.out
