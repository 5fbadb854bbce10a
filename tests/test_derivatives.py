"""Outputs: their names, their sidecars, and a dataset that the BIDS validator accepts."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rela_bids.atomic import copy, write_atomically, write_json, write_text
from rela_bids.bids.citation import REFERENCES, describe_methods
from rela_bids.bids.dataset import describe_dataset, ensure_dataset
from rela_bids.bids.derivatives import (
    BRAIN_MASK,
    FLAIR,
    FROM_TEMPLATE,
    SYNTH,
    SYNTH_STD,
    T1W,
    TO_TEMPLATE,
    Derivatives,
    Output,
    raw_uri,
)
from rela_bids.bids.query import Session
from rela_bids.bids.sidecars import (
    Sampling,
    mask_sidecar,
    preproc_sidecar,
    synth_sidecar,
    transform_sidecar,
)
from rela_bids.cli.plan import describe_plan
from rela_bids.exceptions import CannotWriteError, UsageError
from rela_bids.settings import AnatomySettings, Settings
from rela_bids.templates import TEMPLATE_SPACE
from rela_bids.tracers import TRACERS

VALIDATOR = Path(sys.executable).parent / "bids-validator-deno"

SAMPLING = Sampling(
    model="phantom",
    model_sha256="0" * 64,
    trained_on="40 digital phantoms",
    simulated=True,
    inputs=("T1w", "FLAIR"),
    random_seed=0,
    sampling_steps=10,
    n_samples=4,
)


@pytest.fixture
def settings(tmp_path):
    bids = tmp_path / "bids"
    bids.mkdir()
    (bids / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.9.0"}')
    return Settings(
        bids_dir=bids,
        output_dir=tmp_path / "out",
        work_dir=tmp_path / "work",
        anatomy=AnatomySettings(output_spaces=("T1w", TEMPLATE_SPACE)),
    )


def methods(settings):
    return describe_methods(settings, ["florbetapir"], simulated=True)


def ensure(settings, **options):
    ensure_dataset(settings.output_dir, settings.bids_dir, methods=methods(settings), **options)


@pytest.mark.parametrize(
    ("session", "output", "options", "path"),
    [
        (Session("01", "1"), T1W, {}, "sub-01/ses-1/anat/sub-01_ses-1_desc-preproc_T1w.nii.gz"),
        (Session("01"), BRAIN_MASK, {}, "sub-01/anat/sub-01_desc-brain_mask.nii.gz"),
        (Session("01"), FLAIR, {}, "sub-01/anat/sub-01_space-T1w_desc-preproc_FLAIR.nii.gz"),
        (
            Session("01"),
            TO_TEMPLATE,
            {},
            "sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5",
        ),
        (
            Session("01"),
            FROM_TEMPLATE,
            {"extension": ".json"},
            "sub-01/anat/sub-01_from-MNI152NLin2009cAsym_to-T1w_mode-image_xfm.json",
        ),
        (
            Session("01", "1"),
            SYNTH_STD,
            {"tracer": "18FAV45", "space": "T1w"},
            "sub-01/ses-1/pet/sub-01_ses-1_trc-18FAV45_space-T1w_desc-synthstd_pet.nii.gz",
        ),
    ],
)
def test_each_output_has_its_name(session, output, options, path):
    assert Derivatives(Path("/out")).path(session, output, **options) == Path("/out", path)


labels = st.from_regex(r"[a-zA-Z0-9]+", fullmatch=True)


@given(labels, st.none() | labels, st.dictionaries(st.sampled_from(["trc", "space"]), labels))
def test_entities_can_be_read_back_from_a_name(subject, session, entities):
    record = Session(subject, session)
    name = Output("pet", "pet").name(record, **entities)
    *parts, suffix = name.removesuffix(".nii.gz").split("_")
    expected = {"sub": subject, "ses": session, **entities}
    assert dict(part.split("-") for part in parts) == {
        key: value for key, value in expected.items() if value is not None
    }
    assert suffix == "pet"


def test_the_summaries_of_a_person_are_those_of_their_sessions_alone(tmp_path):
    derivatives = Derivatives(tmp_path)
    for session in (Session("01", "2"), Session("01", "1"), Session("011", "1"), Session("02")):
        write_json(derivatives.summary(session), {})
    expected = [derivatives.summary(Session("01", label)) for label in ("1", "2")]
    assert derivatives.summaries("01") == expected
    assert derivatives.summaries("02") == [derivatives.summary(Session("02"))]


def test_uris_say_which_dataset_a_file_is_of():
    raw = Path("/bids/sub-01/anat/sub-01_T1w.nii.gz")
    assert raw_uri(raw, Path("/bids")) == "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    assert Derivatives(Path("/out")).uri(Path("/out/sub-01/a.nii.gz")) == "bids::sub-01/a.nii.gz"


def test_a_synthetic_image_cannot_be_mistaken_for_a_measured_one():
    sidecar = synth_sidecar(
        TRACERS["18FFDG"], SAMPLING, statistic="mean", sources=["bids:raw:x"], spatial_reference="y"
    )
    assert sidecar["Synthetic"] is True
    assert "Not a measurement" in sidecar["Description"]
    assert "simulated PET" in sidecar["Description"]
    assert (sidecar["Units"], sidecar["ReferenceRegion"]) == ("SUVR", "pons")
    assert (sidecar["TracerName"], sidecar["TracerRadionuclide"]) == ("fluorodeoxyglucose", "F18")
    assert sidecar["Model"]["SHA256"] == "0" * 64
    assert (sidecar["RandomSeed"], sidecar["SamplingSteps"], sidecar["Samples"]) == (0, 10, 4)
    assert sidecar["Sources"] == ["bids:raw:x"]


def test_a_model_of_real_data_brings_no_warning():
    real = replace(SAMPLING, simulated=False)
    sidecar = synth_sidecar(
        TRACERS["18FFDG"], real, statistic="std", sources=[], spatial_reference=None
    )
    assert "simulated" not in sidecar["Description"]
    assert "standard deviation" in sidecar["Description"]
    assert "SpatialReference" not in sidecar


def test_the_methods_cite_what_was_used_and_nothing_else(settings):
    text = methods(settings)
    keys = {reference.key for reference in text.references}
    assert {"rela_diffusion", "n4", "syn", "ants", "nipype", "pybids"} <= keys
    assert "deepbet" not in keys
    assert "(Tustison et al., 2010)" in text.markdown
    assert "@" not in text.markdown
    assert text.bibtex.count("@article{") == len(keys)


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_each_reference_has_balanced_bibtex(reference):
    assert reference.bibtex.count("{") == reference.bibtex.count("}")
    assert reference.address.startswith("https://")


def write_outputs(settings, session: Session, tracer: str = "18FAV45") -> None:
    """Small images and sidecars, as a run leaves them."""
    derivatives = Derivatives(settings.output_dir)
    raw = settings.bids_dir / session.folder / "anat" / f"{session.prefix}_T1w.nii.gz"
    sources = [raw_uri(raw, settings.bids_dir)]
    reference = derivatives.uri(derivatives.path(session, T1W))
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4))
    mask = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    preproc = preproc_sidecar(description="N4", skull_stripped=False, sources=sources)
    written = [
        (T1W, {}, image, preproc),
        (T1W, {"space": TEMPLATE_SPACE}, image, preproc),
        (FLAIR, {}, image, preproc | {"SpatialReference": reference}),
        (BRAIN_MASK, {}, mask, mask_sidecar(description="brain", sources=sources)),
    ]
    for space, spatial_reference in (("T1w", reference), (TEMPLATE_SPACE, None)):
        for output, statistic in ((SYNTH, "mean"), (SYNTH_STD, "std")):
            sidecar = synth_sidecar(
                TRACERS[tracer],
                SAMPLING,
                statistic=statistic,
                sources=sources,
                spatial_reference=spatial_reference,
            )
            written.append((output, {"tracer": tracer, "space": space}, image, sidecar))
    for output, options, content, sidecar in written:
        path = derivatives.path(session, output, **options)
        with write_atomically(path) as temporary:
            content.to_filename(temporary)
        write_json(derivatives.path(session, output, **options, extension=".json"), sidecar)
    for output in (TO_TEMPLATE, FROM_TEMPLATE):
        write_text(derivatives.path(session, output), "h5")
        sidecar = transform_sidecar(moving="T1w", fixed="x", kind="SyN", sources=sources)
        write_json(derivatives.path(session, output, extension=".json"), sidecar)
    write_json(derivatives.summary(session), {})
    (derivatives.summary(session).parent / "mask.webp").write_bytes(b"webp")
    write_text(derivatives.report(session.subject), "<html></html>")
    write_text(derivatives.settings("20260101-000000"), "verbose = 0")
    write_text(derivatives.crash_folder(session.subject, "20260101") / "crash.txt", "crash")
    write_text(derivatives.root / "models" / "mine" / "card.md", "card")


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno is not installed")
def test_the_validator_finds_no_error(settings):
    ensure(settings, work_dir=settings.output_dir / "work")
    write_text(settings.output_dir / "work" / "step" / "file.pklz", "x")
    for session in (Session("01", "1"), Session("01", "2"), Session("02")):
        write_outputs(settings, session)
    ran = subprocess.run(
        [VALIDATOR, "--json", settings.output_dir], capture_output=True, text=True, check=False
    )
    issues = json.loads(ran.stdout)["issues"]["issues"]
    errors = [issue for issue in issues if issue["severity"] == "error"]
    assert errors == []
    assert ran.returncode == 0


def test_the_description_links_to_the_inputs(settings):
    ensure(settings, environment={"APPTAINER_CONTAINER": "/images/rela_bids_0.1.sif"})
    description = json.loads((settings.output_dir / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["DatasetLinks"] == {"raw": settings.bids_dir.as_uri()}
    [generator] = description["GeneratedBy"]
    assert generator["Name"] == "rela_bids"
    assert generator["Container"]["Tag"] == "rela_bids_0.1.sif"


def test_outputs_within_the_inputs_are_linked_by_a_relative_path(settings):
    inside = settings.bids_dir / "derivatives" / "rela_bids"
    assert describe_dataset(inside, settings.bids_dir, {})["DatasetLinks"] == {"raw": "../.."}


def test_a_second_run_rewrites_nothing_and_keeps_what_others_added(settings):
    ensure(settings)
    ignore = settings.output_dir / ".bidsignore"
    ignore.write_text(ignore.read_text() + "mine\n")
    (settings.output_dir / "README.md").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in settings.output_dir.rglob("*.*")}
    ensure(settings)
    assert {path: path.stat().st_mtime_ns for path in settings.output_dir.rglob("*.*")} == before


def test_many_runs_at_once_leave_whole_files_and_nothing_else(settings):
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: ensure(settings), range(20)))
    names = {path.name for path in settings.output_dir.rglob("*") if path.is_file()}
    expected = {"dataset_description.json", ".bidsignore", "README.md", "CITATION.md"}
    assert names == expected | {"CITATION.bib"}
    json.loads((settings.output_dir / "dataset_description.json").read_text())


@pytest.mark.parametrize(
    "content", ['{"Name": "fMRIPrep", "GeneratedBy": [{"Name": "fMRIPrep"}]}', "{}", "{"]
)
def test_a_dataset_that_is_not_ours_is_left_alone(settings, content):
    settings.output_dir.mkdir()
    path = settings.output_dir / "dataset_description.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="output_dir"):
        ensure(settings)
    assert path.read_text() == content


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "image.nii.gz"
    path.write_text("old")

    def write_half():
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [file.name for file in tmp_path.iterdir()] == ["image.nii.gz"]
    assert path.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError, match="file/new"):
        write_text(tmp_path / "file" / "new", "text")


def test_a_full_disk_is_said_to_be_full():
    with pytest.raises(CannotWriteError, match="No space left"), write_atomically(Path("/tmp/x")):
        Path("/dev/full").write_text("x")


def test_a_copy_is_a_file_of_its_own(tmp_path):
    (tmp_path / "key").write_text("voxels")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    copied = copy(tmp_path / "link", tmp_path / "new" / "copy")
    assert not copied.is_symlink()
    assert copied.read_text() == "voxels"


def test_the_plan_names_inputs_outputs_and_what_is_left_out(settings):
    t1w = settings.bids_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    sessions = [Session("01", t1w=t1w), Session("02", left_out=("sub-02: no T1w image",))]
    plan = "\n".join(describe_plan(sessions, settings, ["18FAV45"]))
    assert f"read  {t1w}" in plan
    for space in settings.anatomy.output_spaces:
        assert f"sub-01_trc-18FAV45_space-{space}_desc-synth_pet.nii.gz" in plan
    assert "FLAIR.nii.gz" not in plan
    assert "synthstd" in plan
    assert "synthstd" not in "".join(describe_plan(sessions, settings, ["x"], with_std=False))
    assert "sub-02: no T1w image" in plan
    assert plan.endswith("Sessions to do: 1 (without FLAIR: 1); left out: 1")
    assert not settings.output_dir.exists()
