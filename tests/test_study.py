"""What a training run is made of, and what it refuses before anything is computed or written."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rela_bids.cli.study import plan_study
from rela_bids.exceptions import BadDataError, NothingMatchedError, UsageError
from rela_bids.settings import Selection, Settings, TrainingSettings

TIMES = {
    "TracerName": "x",
    "TimeZero": "10:00:00",
    "InjectionStart": 0,
    "FrameTimesStart": [3000, 3600],
    "FrameDuration": [600, 600],
    "Units": "Bq/mL",
}


class Dataset:
    """A BIDS dataset in the making: T1w with a header alone, PET of two frames."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        description = {"Name": "A study", "BIDSVersion": "1.10.0"}
        (root / "dataset_description.json").write_text(json.dumps(description))

    def path(self, name: str) -> Path:
        subject, *rest = name.split("_")
        folder = self.root / subject
        if rest[0].startswith("ses-"):
            folder /= rest[0]
        path = folder / ("pet" if name.endswith("pet") else "anat") / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def mri(self, *names: str) -> "Dataset":
        for name in names:
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), "u1"), np.eye(4)), self.path(name))
        return self

    def pet(self, *names: str, **changes: object) -> "Dataset":
        for name in names:
            path = self.path(name)
            nib.save(nib.Nifti1Image(np.ones((2, 2, 2, 2), "f4"), np.eye(4)), path)
            sidecar = {key: value for key, value in (TIMES | changes).items() if value is not None}
            path.with_name(f"{name}.json").write_text(json.dumps(sidecar))
        return self

    def people(self, n: int, tracer: str = "18FAV45") -> "Dataset":
        for number in range(1, n + 1):
            self.mri(f"sub-{number:02d}_T1w", f"sub-{number:02d}_FLAIR")
            self.pet(f"sub-{number:02d}_trc-{tracer}_pet")
        return self


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return Dataset(tmp_path / "bids")


def settings(dataset: Dataset, tracers=(), derivatives=(), tracer_files=(), **training) -> Settings:
    folder = dataset.root.parent
    return Settings(
        dataset.root,
        folder / "out",
        folder / "work",
        level="group",
        train=True,
        selection=Selection(tracers=tuple(tracers)),
        training=TrainingSettings(**training),
        derivatives=tuple(derivatives),
        tracer_files=tuple(tracer_files),
    )


def test_sessions_with_mri_and_pet_take_part_and_the_others_are_named(dataset):
    dataset.people(3).mri("sub-04_T1w").pet("sub-05_trc-18FAV45_pet")
    study = plan_study(settings(dataset))
    assert [session.subject for session in study.sessions] == ["01", "02", "03"]
    assert sorted(study.split.values()) == ["test", "train", "train"]
    lines = "\n".join(study.left_out)
    assert "sub-04  left out: no PET" in lines
    assert "sub-05  left out: no T1w" in lines
    assert study.trained_on == "PET and MRI of 3 people in 3 sessions of A study"
    assert not (dataset.root.parent / "out").exists()


def test_people_with_some_of_the_tracers_are_the_normal_case(dataset):
    dataset.people(4).pet(
        "sub-01_trc-18FFDG_pet", "sub-02_trc-18FFDG_pet", FrameTimesStart=[1800, 2400]
    )
    study = plan_study(settings(dataset))
    assert list(study.tracers) == ["18FAV45", "18FFDG"]
    assert {label: sorted(plans) for label, plans in study.targets.items()} == {
        "sub-01": ["18FAV45", "18FFDG"],
        "sub-02": ["18FAV45", "18FFDG"],
        "sub-03": ["18FAV45"],
        "sub-04": ["18FAV45"],
    }
    assert {study.split["01"], study.split["02"]} == {"train", "test"}


def test_only_the_tracers_asked_for_are_learned(dataset):
    dataset.people(3).pet("sub-01_trc-18FFDG_pet", FrameTimesStart=None)
    assert list(plan_study(settings(dataset, ["18FAV45"])).tracers) == ["18FAV45"]


def test_simulated_pet_is_known_by_its_sidecar(dataset):
    dataset.people(2).pet("sub-01_trc-18FAV45_pet", Simulated=True)
    study = plan_study(settings(dataset))
    assert study.simulated
    assert "simulated" in study.trained_on


def test_a_tracer_that_is_not_known_ends_with_the_lines_to_write(dataset):
    dataset.people(3, "18FMK6240")
    with pytest.raises(BadDataError, match=r"--tracer-config.*label = .18FMK6240"):
        plan_study(settings(dataset))


def test_a_tracer_of_a_file_is_learned_like_others(dataset):
    dataset.people(3, "18FMK6240")
    path = dataset.root.parent / "tracer.toml"
    path.write_text(
        'label = "18FMK6240"\nname = "MK-6240"\nradionuclide = "F18"\n'
        'reference_region = "pons"\nframe_window = [60, 70]\nsuvr_scale = 4'
    )
    study = plan_study(settings(dataset, tracer_files=[path]))
    assert study.targets["sub-01"]["18FMK6240"].frames == (1,)


def test_one_person_alone_has_a_tracer(dataset):
    dataset.people(3).pet("sub-01_trc-18FFDG_pet", FrameTimesStart=[1800, 2400])
    with pytest.raises(BadDataError, match=r"18FFDG has one person only \(sub-01\)"):
        plan_study(settings(dataset))


def test_no_pairs_at_all(dataset):
    dataset.mri("sub-01_T1w", "sub-02_T1w")
    with pytest.raises(BadDataError, match="no session has both"):
        plan_study(settings(dataset))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"FrameTimesStart": [0, 60], "FrameDuration": [60, 60]}, "50"),
        ({"FrameTimesStart": None}, "FrameTimesStart"),
        ({"FrameDuration": [600]}, "FrameDuration"),
    ],
)
def test_frames_that_do_not_serve_end_with_the_file(dataset, changes, named):
    dataset.people(3).pet("sub-02_trc-18FAV45_pet", **changes)
    with pytest.raises(BadDataError, match=f"sub-02_trc-18FAV45_pet.*{named}") as raised:
        plan_study(settings(dataset))
    assert "\n" not in str(raised.value)


def test_of_several_runs_the_one_whose_frames_serve_is_used(dataset):
    dataset.people(3)
    dataset.pet("sub-02_trc-18FAV45_run-1_pet", FrameTimesStart=[0, 60], FrameDuration=[60, 60])
    dataset.path("sub-02_trc-18FAV45_pet").unlink()
    dataset.pet("sub-02_trc-18FAV45_run-2_pet")
    study = plan_study(settings(dataset))
    assert study.targets["sub-02"]["18FAV45"].path.name == "sub-02_trc-18FAV45_run-2_pet.nii.gz"
    assert any("run-1_pet.nii.gz was not used" in line for line in study.left_out)


def test_a_broken_sidecar_ends_with_its_name(dataset):
    dataset.people(3)
    dataset.path("sub-02_trc-18FAV45_pet").with_name("sub-02_trc-18FAV45_pet.json").write_text("{")
    with pytest.raises(BadDataError, match=r"sub-02_trc-18FAV45_pet\.json is not valid JSON"):
        plan_study(settings(dataset))


def test_pet_that_another_pipeline_prepared_comes_first(dataset, tmp_path):
    dataset.people(2)
    petprep = Dataset(tmp_path / "petprep")
    petprep.pet("sub-01_trc-18FAV45_space-T1w_desc-preproc_pet", InjectionStart=None)
    study = plan_study(settings(dataset, derivatives=[petprep.root]))
    assert study.targets["sub-01"]["18FAV45"].in_t1w_space
    assert not study.targets["sub-02"]["18FAV45"].in_t1w_space


def test_a_split_is_a_file_or_a_column_of_participants(dataset, tmp_path):
    dataset.people(4)
    text = "participant_id\tpart\tsplit\n" + "".join(
        f"sub-{n:02d}\t{part}\t{part}\n"
        for n, part in enumerate(("test", "train", "train", "n/a"), start=1)
    )
    (dataset.root / "participants.tsv").write_text(text)
    (tmp_path / "table.tsv").write_text(text)
    expected = {"01": "test", "02": "train", "03": "train"}
    for given in ("part", str(tmp_path / "table.tsv")):
        study = plan_study(settings(dataset, split=given))
        assert study.split == expected
        assert [session.subject for session in study.sessions] == ["01", "02", "03"]
    with pytest.raises(BadDataError, match="nowhere"):
        plan_study(settings(dataset, split="nowhere"))


def test_a_name_that_is_taken_is_refused_before_anything_is_prepared(dataset, tmp_path):
    dataset.people(2)
    model = tmp_path / "out" / "models" / "fast" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.touch()
    with pytest.raises(UsageError, match="--model-name"):
        plan_study(settings(dataset))
    assert (
        plan_study(settings(dataset, model_name="other"))
        .plan(settings(dataset, model_name="other"))
        .name
        == "other"
    )


def test_a_filter_that_leaves_no_pet_is_said(dataset):
    dataset.people(2)
    filtered = replace(settings(dataset), selection=Selection(filters={"pet": {"run": 7}}))
    with pytest.raises(NothingMatchedError, match="pet"):
        plan_study(filtered)
