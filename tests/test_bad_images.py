"""Images that cannot be used fail alone, each named in one line; the odd ones that can are used.

All are people of one dataset and one run, on stripped phantoms of 5 mm and an untrained model, so
that a session costs seconds.
"""

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rela_bids.model import save_model
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS, override
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

pytestmark = pytest.mark.slow

SMALL = override(
    PRESETS["fast"],
    {
        "network": {"channels": [8, 8], "norm_groups": 4},
        "grid": {"shape": [24, 32, 24], "voxel_size": 7.0, "origin": [-80.5, -126.5, -75.5]},
        "sampling_steps": 1,
        "n_samples": 1,
    },
)

Image = nib.Nifti1Image
Break = Callable[[Path, Image], object]


def rewrite(**changes: object) -> Break:
    """Another array, type, affine or header field in the place of the T1w's."""

    def write(path: Path, t1w: Image) -> None:
        data = np.asarray(t1w.dataobj)
        if "data" in changes:
            data = changes["data"](data)
        affine = changes.get("affine", t1w.affine)
        image = Image(data, affine, dtype=data.dtype if data.dtype.kind in "iufc" else None)
        nib.save(image, path)

    return write


def patch(offset: int, content: bytes) -> Break:
    """Other bytes in the header."""

    def write(path: Path, t1w: Image) -> None:
        nib.save(t1w, path)
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[offset : offset + len(content)] = content
        path.write_bytes(gzip.compress(bytes(raw), 1))

    return write


def raw(content: bytes | Callable[[bytes], bytes]) -> Break:
    def write(path: Path, t1w: Image) -> None:
        nib.save(t1w, path)
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return write


def with_flair(harm: Break) -> Break:
    """A good T1w, and a FLAIR that is not."""

    def write(path: Path, t1w: Image) -> None:
        nib.save(t1w, path)
        harm(path.with_name(path.name.replace("T1w", "FLAIR")), t1w)

    return write


def as_folder(path: Path, t1w: Image) -> None:
    path.mkdir()


def rgb(data: np.ndarray) -> np.ndarray:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return np.zeros(data.shape, kind)


def dims(*sizes: int) -> bytes:
    return np.array(sizes, "<i2").tobytes()


DIM, DATATYPE, OFFSET, CODES, MAGIC = 40, 70, 108, 252, 344

BAD: dict[str, tuple[Break, str]] = {
    "cut": (raw(lambda whole: whole[: len(whole) // 2]), "convert it again"),
    "garbled": (
        raw(lambda whole: whole[:5000] + bytes(200) + whole[5200:]),
        "convert it again",
    ),
    "empty": (raw(b""), "convert it again"),
    "text": (raw(b"version https://git-lfs.github.com/spec/v1\n"), "convert it again"),
    "nothingzipped": (raw(gzip.compress(b"")), "convert it again"),
    "notzipped": (raw(gzip.decompress), "convert it again"),
    "dicom": (raw(bytes(128) + b"DICM" + bytes(200)), "convert it again"),
    "magic": (patch(MAGIC, b"abcd"), "convert it again"),
    "shortdata": (patch(DIM, dims(3, 300, 300, 300)), "convert it again"),
    "hugedims": (patch(DIM, dims(3, 30000, 30000, 30000)), "30000 x 30000 x 30000"),
    "negativedims": (patch(DIM, dims(3, -40, 50, 40)), "convert it again|not one 3-D"),
    "nodims": (patch(DIM, dims(0, 1, 1, 1)), "3-D|convert it again"),
    "farvoxels": (patch(OFFSET, np.float32(1e9).tobytes()), "convert it again"),
    "strangetype": (patch(DATATYPE, dims(9999)), "convert it again"),
    "zeroaffine": (patch(CODES, dims(0, 1) + bytes(24 + 48)), "which way is left"),
    "nanaffine": (
        patch(CODES, dims(0, 1) + np.full(18, np.nan, "<f4").tobytes()),
        "which way is left",
    ),
    "nocodes": (patch(CODES, dims(0, 0)), "which way is left"),
    "allnan": (rewrite(data=lambda data: data * np.float32(np.nan)), "constant"),
    "allinfinite": (rewrite(data=lambda data: np.full(data.shape, np.float32(np.inf))), "constant"),
    "allzero": (rewrite(data=np.zeros_like), "constant"),
    "toolarge": (rewrite(data=lambda data: data.astype(float) * 1e300), "constant"),
    "oneslice": (rewrite(data=lambda data: data[:, :, 20:21]), "not one 3-D volume"),
    "flat": (rewrite(data=lambda data: data[:, :, 20]), "not one 3-D volume"),
    "timeseries": (
        rewrite(data=lambda data: np.stack([data] * 3, axis=-1)),
        "split or average it first",
    ),
    "rgb": (rewrite(data=rgb), "not one number a voxel"),
    "complex": (rewrite(data=lambda data: data.astype(np.complex64)), "not one number a voxel"),
    "longaxis": (
        rewrite(data=lambda data: np.resize(data, (2000, 20, 20))),
        "2000 x 20 x 20",
    ),
    "metres": (rewrite(affine=np.diag([0.005, 0.005, 0.005, 1])), "mm"),
    "unstripped": (rewrite(data=lambda data: data + np.float32(50)), "not skull-stripped"),
    "flaircut": (with_flair(raw(lambda whole: whole[:2000])), "convert it again"),
}

ODD: dict[str, Break] = {
    "int64": rewrite(data=lambda data: data.astype(np.int64)),
    "fewnan": rewrite(
        data=lambda data: np.where(data > np.percentile(data, 99.9), np.nan, data).astype("f4")
    ),
    "lefthanded": lambda path, t1w: nib.save(
        Image(np.asarray(t1w.dataobj)[::-1], t1w.affine @ np.array(FLIP)), path
    ),
}
FLIP = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def stripped_head(folder: Path) -> Image:
    """A phantom without its skull, float32."""
    write_dataset(folder, Recipe(subjects=1, seed=8, tracers=[TRACERS["18FAV45"]], voxel_size=5.0))
    t1w = nib.load(folder / "sub-01/anat/sub-01_T1w.nii.gz")
    mask = nib.load(folder / "derivatives/truth/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    inside = np.asarray(mask.dataobj) > 0
    return Image(np.where(inside, t1w.get_fdata(), 0).astype(np.float32), t1w.affine)


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("bad_images")
    t1w = stripped_head(folder / "phantom")
    bids = folder / "bids"
    harms = {name: harm for name, (harm, _) in BAD.items()}
    for name, harm in {**harms, **ODD, "folder": as_folder}.items():
        anat = bids / f"sub-{name}" / "anat"
        anat.mkdir(parents=True)
        harm(anat / f"sub-{name}_T1w.nii.gz", t1w)
    description = {"Name": "images", "BIDSVersion": "1.10.0"}
    (bids / "dataset_description.json").write_text(json.dumps(description))
    model = folder / "small.safetensors"
    network = build_denoiser(SMALL.network, 1)
    save_model(model, network, SMALL, {"18FAV45": TRACERS["18FAV45"]}, {"trained_on": "nobody"})
    shutil.rmtree(folder / "phantom")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "rela_bids.cli.run", bids, folder / "out", "participant"),
            *("-w", folder / "work", "--skull-strip", "skip", "--model", model, "--nprocs", "2"),
            "--no-regions",
        ],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    return folder / "out", run


def test_the_run_ends_with_one_and_without_a_traceback(ended):
    _, run = ended
    assert run.returncode == 1, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named_in_one_line(ended, name):
    out, run = ended
    lines = [line for line in run.stderr.splitlines() if re.match(rf"sub-{name}  failed at", line)]
    assert len(lines) == 1, run.stderr
    assert f"sub-{name}_" in lines[0] or "--skull-strip" in lines[0]
    assert re.search(BAD[name][1], lines[0]), lines[0]
    assert not (out / f"sub-{name}" / "pet").exists()


def test_a_folder_with_the_name_of_an_image_is_no_image(ended):
    _, run = ended
    assert "sub-folder  left out: no T1w image" in run.stderr.splitlines()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_that_can_be_used_is_used(ended, name):
    out, run = ended
    pet = out / f"sub-{name}/pet/sub-{name}_trc-18FAV45_space-T1w_desc-synth_pet.nii.gz"
    assert pet.exists(), run.stderr
    data = nib.load(pet).get_fdata()
    assert np.isfinite(data).all()
    mask = nib.load(out / f"sub-{name}/anat/sub-{name}_desc-brain_mask.nii.gz").get_fdata() > 0
    assert 1_000_000 < mask.sum() * 125 < 2_200_000
    assert (data[~mask] == 0).all()


def test_a_crash_report_says_what_failed_on_what_and_how_to_repeat_it(ended):
    out, run = ended
    [report] = (out / "sub-cut/log").glob("*/crash_*.txt")
    assert str(report) in run.stderr
    before, traceback = report.read_text().split("For a report of a bug")
    lines = before.splitlines()
    assert "sub-cut failed at the step load t1w (anatomical_wf.load_t1w)." in lines
    assert "  in_file = BIDS/sub-cut/anat/sub-cut_T1w.nii.gz" in lines
    assert "  T1w    sub-cut/anat/sub-cut_T1w.nii.gz" in lines
    [command] = [line.strip() for line in lines if line.startswith("  rela_bids ")]
    assert command.endswith("--participant-label cut")
    assert f"{out.parent / 'bids'} {out} participant" in command
    assert "BadDataError" in traceback


def test_what_is_written_is_valid_bids(ended):
    out, _ = ended
    validator = Path(sys.executable).with_name("bids-validator-deno")
    run = subprocess.run([validator, out, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
