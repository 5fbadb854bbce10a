"""Which images are found for whom, what is left out, and what the reader is told."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rela_bids.bids.index import DATABASE_FILE
from rela_bids.bids.metadata import read_metadata
from rela_bids.bids.query import Session, read_sessions
from rela_bids.exceptions import (
    BadDataError,
    InvalidDatasetError,
    MissingInputError,
    NothingMatchedError,
    UsageError,
)
from rela_bids.settings import Selection

# Enough to see how time grows; a thousand may take 25 s.
PEOPLE = 200

DESCRIPTION = {"Name": "test", "BIDSVersion": "1.9.0"}


def make_dataset(root: Path, *files: str, description: object = DESCRIPTION) -> Path:
    """Empty files in their folders; ``01/anat/T1w`` stands for sub-01/anat/sub-01_T1w.nii.gz."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(json.dumps(description))
    for file in files:
        *labels, datatype, name = file.split("/")
        folders = [f"{key}-{label}" for key, label in zip(("sub", "ses"), labels, strict=False)]
        stem = "_".join([*folders, name])
        path = root.joinpath(*folders, datatype, stem if "." in name else f"{stem}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.fixture
def dataset(tmp_path):
    """Makes a dataset of the files that it is given."""
    return lambda *files, **options: make_dataset(tmp_path / "bids", *files, **options)


def read(bids: Path, **selection) -> list[Session]:
    return read_sessions(bids, Selection(**selection))


def names(session: Session) -> tuple[str | None, str | None]:
    """Names of the picked T1w and FLAIR, without what all names of the session begin with."""
    return tuple(
        path and path.name.removeprefix(f"{session.prefix}_").removesuffix(".nii.gz")
        for path in (session.t1w, session.flair)
    )


def test_a_dataset_may_have_sessions_none_or_both(dataset):
    bids = dataset("01/1/anat/T1w", "01/2/anat/T1w", "02/anat/T1w", "03/anat/T1w", "03/1/anat/T1w")
    labels = ["sub-01/ses-1", "sub-01/ses-2", "sub-02", "sub-03", "sub-03/ses-1"]
    assert [session.label for session in read(bids)] == labels
    assert all(session.t1w for session in read(bids))


def test_names_of_a_session_follow_from_its_labels():
    assert Session("01", "1").prefix == "sub-01_ses-1"
    assert Session("01", "1").folder == Path("sub-01/ses-1")
    assert Session("01").prefix == "sub-01"


def test_real_data_have_six_sessions_with_t1w_and_two_without(real_mri):
    sessions = read_sessions(real_mri, Selection())
    without = [session for session in sessions if session.t1w is None]
    assert len(sessions) - len(without) == 6
    assert [session.label for session in without] == ["sub-ms03/ses-1", "sub-synthsr"]
    assert all(session.label in session.left_out[0] for session in without)


def test_flair_named_as_a_t2w_is_found_in_real_names(wave_skeleton, tmp_path):
    bids = tmp_path / "wave"
    shutil.copytree(wave_skeleton, bids)
    for placeholder in bids.rglob("*.PLACEHOLDER"):
        placeholder.chmod(0o644)
        placeholder.rename(placeholder.with_suffix(""))
    sessions = read(bids)
    assert len(sessions) == 9
    assert all(session.t1w and session.flair for session in sessions)
    assert all("acq-FLAIR" in session.flair.name for session in sessions)
    assert {tracer for session in sessions for tracer in session.pets} == {"18FAV45", "18FAV1451"}
    pet = sessions[0].pets["18FAV45"][0]
    assert read_metadata(pet, bids)["TracerRadionuclide"] in ("F18", "18F")


@pytest.mark.parametrize("name", ["FLAIR", "acq-flair3d_T2w", "acq-3DFLAIR_run-2_T2w"])
def test_flair_is_known_by_suffix_or_acquisition_in_any_case(dataset, name):
    bids = dataset("01/anat/T1w", f"01/anat/{name}", "01/anat/acq-tse_T2w")
    assert names(read(bids)[0]) == ("T1w", name)


@pytest.mark.parametrize(
    ("picked", "other"),
    [
        ("run-1_T1w", "ce-gadolinium_T1w"),
        ("acq-MPRAGE_T1w", "T1w"),
        ("acq-mprage_run-2_T1w", "acq-tse_run-1_T1w"),
        ("T1w", "acq-tse_T1w"),
        ("rec-norm_T1w", "T1w"),
        ("T1w", "rec-defaced_T1w"),
        ("run-2_T1w", "run-10_T1w"),
        ("T1w", "run-1_T1w"),
        ("echo-1_T1w", "echo-2_T1w"),
    ],
)
def test_of_several_t1w_a_stated_rule_picks_one_and_names_the_other(dataset, picked, other):
    [session] = read(dataset(f"01/anat/{picked}", f"01/anat/{other}"))
    assert names(session)[0] == picked
    assert [other in line and picked in line for line in session.left_out] == [True]


def test_a_flair_by_suffix_goes_before_one_named_t2w(dataset):
    [session] = read(dataset("01/anat/T1w", "01/anat/acq-FLAIR_T2w", "01/anat/FLAIR"))
    assert names(session)[1] == "FLAIR"


def test_that_a_t2w_is_called_flair_does_not_count_as_a_special_acquisition(dataset):
    t2w = ("acq-FLAIR_run-2_T2w", "acq-2dFLAIR_run-1_T2w")
    [session] = read(dataset("01/anat/T1w", *(f"01/anat/{name}" for name in t2w)))
    assert names(session)[1] == "acq-FLAIR_run-2_T2w"


def test_phase_images_are_no_t1w(dataset):
    [session] = read(dataset("01/anat/part-phase_T1w", "01/anat/part-mag_T1w"))
    assert names(session)[0] == "part-mag_T1w"


def test_a_session_without_flair_stays(dataset):
    assert names(read(dataset("01/anat/T1w"))[0]) == ("T1w", None)


def test_links_are_followed_and_links_to_nothing_are_named(dataset, tmp_path):
    bids = dataset("01/anat/T1w", "02/anat/T1w")
    target = (bids / "sub-01/anat/sub-01_T1w.nii.gz").rename(tmp_path / "key")
    (bids / "sub-01/anat/sub-01_T1w.nii.gz").symlink_to(target)
    (bids / "sub-01/anat/sub-01_FLAIR.nii.gz").symlink_to("/annex/gone")
    (bids / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    (bids / "sub-02/anat/sub-02_T1w.nii.gz").symlink_to("/annex/gone")
    first, second = read(bids)
    assert names(first) == ("T1w", None)
    assert ["sub-01_FLAIR" in line and "datalad get" in line for line in first.left_out] == [True]
    assert second.t1w is None
    assert "sub-02" in second.left_out[0]
    assert "datalad get" in second.left_out[1]


def test_a_person_whose_folder_is_a_link_is_read(dataset, tmp_path):
    bids = dataset("01/anat/T1w")
    (bids / "sub-01").rename(tmp_path / "sub-01")
    (bids / "sub-01").symlink_to(tmp_path / "sub-01")
    assert names(read(bids)[0]) == ("T1w", None)


@pytest.mark.parametrize("above", ["sub-99", "ses-9", "with space", "ünïcode", "a#b%20", "[x]{y}"])
def test_the_path_above_the_dataset_does_not_matter(tmp_path, above):
    bids = make_dataset(tmp_path / above / "bids", "01/anat/T1w")
    [session] = read(bids)
    assert session.label == "sub-01"
    assert session.t1w == bids / "sub-01/anat/sub-01_T1w.nii.gz"


def test_pet_is_grouped_by_tracer_and_every_file_kept(dataset):
    bids = dataset(
        "01/anat/T1w",
        "01/pet/trc-18FAV45_run-1_pet",
        "01/pet/trc-18FAV45_run-2_pet",
        "01/pet/trc-11CPIB_pet",
    )
    [session] = read(bids)
    assert {tracer: len(files) for tracer, files in session.pets.items()} == {
        "11CPIB": 1,
        "18FAV45": 2,
    }
    assert list(read(bids, tracers=("11CPIB",))[0].pets) == ["11CPIB"]
    assert not read_sessions(bids, Selection(), pet=False)[0].pets


@pytest.mark.parametrize(
    ("name", "tracer"),
    [
        ("Florbetapir", "18FAV45"),
        ("[11C]PiB", "11CPIB"),
        ("18F-AV-1451", "18FAV1451"),
        ("FDG", "18FFDG"),
        ("11CPBR28", "11CPBR28"),
    ],
)
def test_pet_without_tracer_in_its_name_goes_by_its_sidecar(dataset, name, tracer):
    bids = dataset("01/anat/T1w", "01/pet/pet")
    (bids / "sub-01/pet/sub-01_pet.json").write_text(json.dumps({"TracerName": name}))
    assert list(read(bids)[0].pets) == [tracer]


@pytest.mark.parametrize("sidecar", ["{}", "{", '{"TracerName": "moonlight"}'])
def test_pet_of_which_nothing_says_the_tracer_is_named_as_left_out(dataset, sidecar):
    bids = dataset("01/anat/T1w", "01/pet/pet")
    (bids / "sub-01/pet/sub-01_pet.json").write_text(sidecar)
    [session] = read(bids)
    assert not session.pets
    assert "sub-01_pet.nii.gz" in session.left_out[0]


def test_labels_that_are_not_there_are_named_beside_some_that_are(dataset):
    bids = dataset("01/1/anat/T1w", "02/2/anat/T1w")
    with pytest.raises(NothingMatchedError, match=r"sub-99.*sub-01, sub-02"):
        read(bids, participants=("01", "99"))
    with pytest.raises(NothingMatchedError, match=r"ses-3.*ses-1, ses-2"):
        read(bids, sessions=("3",))
    with pytest.raises(NothingMatchedError, match="ses-2"):
        read(bids, participants=("01",), sessions=("2",))


def test_ten_thousand_labels_make_a_short_message_at_once(dataset):
    bids = dataset("01/anat/T1w")
    with pytest.raises(NothingMatchedError, match="and 9995 more") as raised:
        read(bids, participants=tuple(f"x{number}" for number in range(10_000)))
    assert len(str(raised.value)) < 500


def test_only_the_people_and_sessions_asked_for_are_read(dataset):
    bids = dataset("01/1/anat/T1w", "01/2/anat/T1w", "02/1/anat/T1w")
    assert [session.label for session in read(bids, participants=("02",))] == ["sub-02/ses-1"]
    assert [session.label for session in read(bids, sessions=("2",))] == ["sub-01/ses-2"]


@pytest.mark.parametrize(
    ("wanted", "picked"),
    [
        ({"acquisition": "b"}, "acq-b_rec-x_T1w"),
        ({"acquisition": ("c", "b")}, "acq-b_rec-x_T1w"),
        ({"acquisition": "*"}, "acq-a_run-01_T1w"),
        ({"acquisition": ""}, "T1w"),
        ({"run": 1}, "acq-a_run-01_T1w"),
        ({"suffix": "UNIT1"}, "UNIT1"),
        ({"extension": ".nii.gz", "reconstruction": "x"}, "acq-b_rec-x_T1w"),
    ],
)
def test_a_filter_chooses_among_images(dataset, wanted, picked):
    bids = dataset("01/anat/T1w", "01/anat/acq-a_run-01_T1w", "01/anat/acq-b_rec-x_T1w")
    make_dataset(bids, "01/anat/UNIT1")
    [session] = read(bids, filters={"t1w": wanted})
    assert names(session)[0] == picked


def test_a_filter_that_matches_nothing_ends_the_run(dataset):
    bids = dataset("01/anat/T1w", "01/anat/FLAIR", "01/pet/trc-11CPIB_pet")
    for image in ("t1w", "flair", "pet"):
        with pytest.raises(NothingMatchedError, match=f"{image}.*acquisition"):
            read(bids, filters={image: {"acquisition": "none"}})


def test_a_filter_on_flair_does_not_end_the_run_where_there_is_none(dataset):
    bids = dataset("01/anat/T1w")
    assert names(read(bids, filters={"flair": {"acquisition": "x"}})[0]) == ("T1w", None)


def test_a_filter_that_empties_one_session_is_said_there(dataset):
    bids = dataset("01/anat/acq-a_T1w", "02/anat/acq-b_T1w")
    first, second = read(bids, filters={"t1w": {"acquisition": "b"}})
    assert first.t1w is None
    assert any("filter for t1w" in line for line in first.left_out)
    assert second.t1w


def test_an_entity_that_does_not_exist_is_a_usage_error_with_the_right_name(dataset):
    with pytest.raises(UsageError, match="acquisition"):
        read(dataset("01/anat/T1w"), filters={"t1w": {"acq": "a"}})


@pytest.mark.parametrize("description", [{}, {"Name": "x"}, {"BIDSVersion": "1.9.0"}, [1], "x"])
def test_a_description_without_its_fields_is_an_invalid_dataset(dataset, description):
    with pytest.raises(InvalidDatasetError, match="dataset_description"):
        read(dataset("01/anat/T1w", description=description))


@pytest.mark.parametrize("content", [None, b"{", b"", '{"Name": "caf\xe9"}'.encode("latin-1")])
def test_a_description_that_cannot_be_read_matters_only_with_validation(dataset, content):
    bids = dataset("01/anat/T1w")
    path = bids / "dataset_description.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InvalidDatasetError, match="dataset_description"):
        read(bids)
    assert read_sessions(bids, Selection(), validate=False)[0].t1w


def test_a_derivative_dataset_can_be_read(dataset):
    bids = dataset("01/anat/T1w", description={**DESCRIPTION, "DatasetType": "derivative"})
    assert read(bids)[0].t1w


def test_a_folder_without_people_is_an_invalid_dataset(dataset):
    with pytest.raises(InvalidDatasetError, match="sub-"):
        read(dataset())
    bids = dataset()
    (bids / "Sub-01").mkdir()
    with pytest.raises(InvalidDatasetError, match="lower case"):
        read(bids)


def test_a_folder_that_is_not_there_is_a_missing_input(tmp_path):
    with pytest.raises(MissingInputError):
        read_sessions(tmp_path / "nowhere", Selection(), validate=False)


def test_labels_and_names_that_break_the_rules_are_left_out_by_name(dataset):
    bids = dataset("a-b/anat/T1w", "01/anat/T1w", "02/anat/T1w", "03/anat/ses-1_T1w")
    (bids / "sub-02/anat/sub-02_T1w.nii.gz").rename(bids / "sub-02/anat/sub-01_T1w.nii.gz")
    first, second, third, dashed = read(bids)
    assert first.t1w
    assert second.t1w is None
    assert any("not that of a file of sub-02" in line for line in second.left_out)
    assert third.t1w is None
    assert any("sub-03_ses-1_T1w" in line for line in third.left_out)
    assert dashed.t1w is None
    assert "a-b" in dashed.left_out[0]


def test_a_person_without_any_image_is_left_out_by_name(dataset):
    bids = dataset("01/anat/T1w")
    (bids / "sub-02").mkdir()
    assert "sub-02: no T1w" in read(bids)[1].left_out[0]


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A dataset of two people in a folder that is open to everybody, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        bids = make_dataset(Path(folder) / "bids", "01/anat/T1w", "02/anat/T1w")
        read(bids)  # what is imported late is imported while that is allowed
        yield bids
        for path in (bids, bids / "sub-01", bids / "sub-01" / "anat"):
            path.chmod(0o755)


@pytest.mark.parametrize("folder", ["sub-01", "sub-01/anat"])
def test_a_folder_that_may_not_be_read_is_named_and_the_others_are_read(
    guarded, folder, without_root
):
    (guarded / folder).chmod(0)
    with without_root():
        first, second = read(guarded)
    assert f"{folder} cannot be read" in first.left_out[0]
    assert second.t1w


def test_a_dataset_that_may_not_be_read_is_named(guarded, without_root):
    guarded.chmod(0)
    with without_root(), pytest.raises(InvalidDatasetError, match="Permission denied"):
        read(guarded)


def test_a_link_to_where_one_may_not_look_is_named(guarded, without_root):
    hidden = guarded.parent / "hidden"
    hidden.mkdir()
    hidden.chmod(0)
    (guarded / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz").symlink_to(hidden / "flair.nii.gz")
    with without_root(), pytest.raises(MissingInputError, match="sub-01_FLAIR"):
        read(guarded)


def test_a_database_is_made_once_and_serves_every_selection(dataset, tmp_path):
    bids = dataset("01/anat/T1w", "02/anat/T1w")
    database = tmp_path / "new" / "database"
    read_sessions(bids, Selection(participants=("01",)), database_dir=database)
    assert [path.name for path in database.iterdir()] == [DATABASE_FILE]
    made = (database / DATABASE_FILE).read_bytes()
    sessions = read_sessions(bids, Selection(), database_dir=database)
    assert all(session.t1w for session in sessions)
    assert len(sessions) == 2
    assert (database / DATABASE_FILE).read_bytes() == made


def test_people_who_came_after_the_database_are_still_found(dataset, tmp_path):
    bids = dataset("01/anat/T1w")
    read_sessions(bids, Selection(), database_dir=tmp_path / "db")
    make_dataset(bids, "02/anat/T1w")
    first, second = read_sessions(bids, Selection(), database_dir=tmp_path / "db")
    assert first.t1w
    assert second.t1w


def test_the_database_of_another_dataset_is_refused(dataset, tmp_path):
    read_sessions(dataset("01/anat/T1w"), Selection(), database_dir=tmp_path / "db")
    other = make_dataset(tmp_path / "other", "01/anat/T1w")
    with pytest.raises(UsageError, match="database of"):
        read_sessions(other, Selection(), database_dir=tmp_path / "db")


def test_a_broken_database_is_named(dataset, tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / DATABASE_FILE).write_text("not a database" * 100)
    with pytest.raises(BadDataError, match="db"):
        read_sessions(dataset("01/anat/T1w"), Selection(), database_dir=tmp_path / "db")


def test_metadata_are_inherited_and_the_nearest_wins(dataset):
    bids = dataset("01/1/pet/trc-11CPIB_run-1_pet", "01/1/pet/trc-18FAV45_pet")
    folder = bids / "sub-01" / "ses-1" / "pet"
    for path, content in (
        (bids / "pet.json", {"Units": "root", "Scanner": "root", "Age": 1}),
        (bids / "trc-11CPIB_pet.json", {"Scanner": "root of PIB"}),
        (bids / "trc-18FAV45_pet.json", {"Scanner": "of another tracer"}),
        (bids / "task-rest_pet.json", {"Scanner": "of a task"}),
        (bids / "sub-01" / "sub-01_pet.json", {"Units": "person"}),
        (folder / "sub-01_ses-1_trc-11CPIB_run-1_pet.json", {"Age": 2}),
        (folder / "sub-01_ses-1_trc-11CPIB_run-1_blood.json", {"Age": 3}),
    ):
        path.write_text(json.dumps(content))
    image = folder / "sub-01_ses-1_trc-11CPIB_run-1_pet.nii.gz"
    assert read_metadata(image, bids) == {"Units": "person", "Scanner": "root of PIB", "Age": 2}


def test_a_broken_sidecar_is_named(dataset):
    bids = dataset("01/pet/trc-11CPIB_pet")
    (bids / "pet.json").write_text("{")
    with pytest.raises(BadDataError, match=r"pet\.json"):
        read_metadata(bids / "sub-01/pet/sub-01_trc-11CPIB_pet.nii.gz", bids)


def test_one_of_many_people_is_read_at_once_and_all_within_the_bound(tmp_path):
    images = ("anat/T1w.nii.gz", "anat/FLAIR.nii.gz", "pet/trc-18FAV45_pet.nii.gz")
    others = ("func/task-rest_bold.nii.gz", "dwi/dwi.nii.gz", "anat/T1w.json", "pet/pet.json")
    files = [
        f"{person:04d}/{session}/{name}"
        for person in range(PEOPLE)
        for session in (1, 2)
        for name in (*images, *others)
    ]
    bids = make_dataset(tmp_path / "bids", *files)
    read(bids, participants=("0001",))  # pybids is imported
    started = time.process_time()
    assert len(read(bids, participants=("0100",))) == 2
    one = time.process_time() - started
    started = time.process_time()
    assert len(read(bids)) == 2 * PEOPLE
    everyone = time.process_time() - started
    assert one < 1
    assert everyone < 25 * PEOPLE / 1000
