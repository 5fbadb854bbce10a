"""The command line: what it understands, what it refuses, and how fast it answers."""

import json
import subprocess
import sys

import pytest

from rela_bids import __version__
from rela_bids.cli.parser import parse
from rela_bids.exceptions import BadDataError, ExitCode, MissingInputError, UsageError
from rela_bids.settings import Resources, Settings, TrainingSettings, available_cpus
from rela_bids.templates import TEMPLATE_SPACE


@pytest.fixture
def bids(tmp_path, monkeypatch):
    """An empty input folder, with the current folder beside it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bids"
    folder.mkdir()
    return folder


def parse_with(bids, *options: str) -> Settings:
    return parse([str(bids), str(bids.parent / "out"), "participant", *options])


def test_three_arguments_are_enough(bids):
    settings = parse_with(bids)
    assert settings == Settings(
        bids_dir=bids,
        output_dir=bids.parent / "out",
        work_dir=bids.parent / "work",
        command=(str(bids), str(bids.parent / "out"), "participant"),
    )
    assert settings.synthesis.model == "phantom"
    assert settings.anatomy.output_spaces == ("T1w",)
    assert settings.resources == Resources(available_cpus(), 1, None)


@pytest.mark.parametrize("option", ["--participant-label", "--participant_label"])
def test_labels_are_taken_with_and_without_prefix_and_once(bids, option):
    settings = parse_with(bids, option, "sub-01", "02", "sub-02", "--session_label", "ses-1", "2")
    assert settings.selection.participants == ("01", "02")
    assert settings.selection.sessions == ("1", "2")


def test_an_option_given_twice_adds_up(bids):
    settings = parse_with(bids, "--tracer-label", "trc-18FAV45", "--tracer-label", "11CPIB")
    assert settings.selection.tracers == ("18FAV45", "11CPIB")


def test_every_option_reaches_its_setting(bids):
    settings = parse_with(
        bids,
        *("--output-spaces", TEMPLATE_SPACE, "--skull-strip", "skip"),
        *("--model", "m.pt", "--n-samples", "3", "--sampling-steps", "7", "--device", "cuda"),
        *("--random-seed", "9", "--nprocs", "5", "--omp-nthreads", "2", "--mem", "8000M"),
        *("-w", "elsewhere", "--stop-on-first-crash", "--dry-run", "-vv"),
        *("--skip-bids-validation", "--bids-database-dir", "db"),
    )
    assert settings.anatomy.output_spaces == ("T1w", TEMPLATE_SPACE)
    assert settings.anatomy.skull_strip == "skip"
    synthesis = settings.synthesis
    assert (synthesis.model, synthesis.n_samples, synthesis.sampling_steps) == ("m.pt", 3, 7)
    assert (synthesis.device, synthesis.random_seed) == ("cuda", 9)
    assert settings.resources == Resources(5, 2, 8.0)
    assert settings.work_dir == bids.parent / "elsewhere"
    assert settings.bids_database_dir == bids.parent / "db"
    assert settings.stop_on_first_crash
    assert settings.dry_run
    assert settings.skip_bids_validation
    assert settings.verbose == 2


def test_every_option_of_training_reaches_its_setting(bids):
    for name in ("a", "b"):
        (bids.parent / name).mkdir()
    config = bids.parent / "train.toml"
    config.write_text("[loss]\nadversarial = 'none'")
    settings = parse(
        [
            *(str(bids), str(bids.parent / "out"), "group", "--train", "--preset", "paper"),
            *("--model-name", "mine", "--epochs", "3", "--max-time", "01:30:05"),
            *("--batch-size", "2", "--train-config", str(config), "--split", "part", "--resume"),
            *("--devices", "2", "--num-nodes", "3", "-d", "a", "b", "--tracer-config", "t.toml"),
        ]
    )
    assert settings.train
    assert settings.training == TrainingSettings(
        preset="paper",
        model_name="mine",
        epochs=3,
        max_seconds=5405.0,
        batch_size=2,
        changes={"loss": {"adversarial": "none"}},
        split="part",
        resume=True,
        devices=2,
        num_nodes=3,
    )
    assert settings.derivatives == (bids.parent / "a", bids.parent / "b")
    assert [path.name for path in settings.tracer_files] == ["t.toml"]


@pytest.mark.parametrize(
    ("level", "options", "named"),
    [
        ("participant", ["--train"], "--train"),
        ("participant", ["--epochs", "3"], "--epochs"),
        ("group", ["--split", "x"], "--split"),
        ("group", ["--train", "--n-samples", "3"], "--n-samples"),
        ("group", ["--train", "--model-name", "../x"], "--model-name"),
        ("group", ["--train", "--max-time", "90"], "--max-time"),
        ("group", ["--train", "--max-time", "00:00:00"], "--max-time"),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(bids, level, options, named):
    with pytest.raises(UsageError, match=named):
        parse([str(bids), str(bids.parent / "out"), level, *options])


def test_the_number_of_threads_does_not_follow_that_of_processes(bids):
    assert parse_with(bids, "--nprocs", "7").resources.omp_nthreads == 1


@pytest.mark.parametrize(
    ("text", "gigabytes"), [("16", 16), ("16G", 16), ("16GB", 16), ("500m", 0.5), ("1.5T", 1500)]
)
def test_memory_is_in_gigabytes_unless_it_says_otherwise(bids, text, gigabytes):
    assert parse_with(bids, "--mem", text).resources.mem_gb == pytest.approx(gigabytes)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--n-samples", "0"], "--n-samples"),
        (["--sampling-steps", "-3"], "--sampling-steps"),
        (["--random-seed", "-1"], "--random-seed"),
        (["--random-seed", str(2**32)], "--random-seed"),
        (["--nprocs", "two"], "--nprocs"),
        (["--mem", "0"], "--mem"),
        (["--mem", "lots"], "--mem"),
        (["--device", "tpu"], "--device"),
        (["--skull-strip", "knife"], "--skull-strip"),
        (["--output-spaces", "MNI_2mm"], "--output-spaces"),
        (["--participant-label", "../01"], "--participant-label"),
        (["--participant-label", "a-b"], "--participant-label"),
        (["--participant-label"], "--participant-label"),
        (["--no-such-option"], "--no-such-option"),
        (["--work-dir", "bids/work"], "--work-dir"),
        (["--work-dir", "out"], "--work-dir"),
    ],
)
def test_a_bad_option_is_named_in_one_line_with_the_exit_code_for_usage(bids, options, named):
    with pytest.raises(UsageError, match=named) as raised:
        parse_with(bids, *options)
    assert raised.value.exit_code == ExitCode.USAGE
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("arguments", [[], ["bids"], ["bids", "out", "person"]])
def test_missing_arguments_are_a_usage_error(bids, arguments):
    with pytest.raises(UsageError):
        parse(arguments)


@pytest.mark.parametrize("out", [".", "bids", "bids/out", "bids/sub-01", "bids/derivatives"])
def test_outputs_may_not_mix_with_inputs(bids, out):
    with pytest.raises(UsageError, match="output_dir"):
        parse(["bids", out, "participant"])


def test_outputs_may_lie_in_the_datasets_derivatives(bids):
    settings = parse(["bids", "bids/derivatives/rela_bids", "participant"])
    assert settings.output_dir == bids / "derivatives" / "rela_bids"


def test_links_do_not_hide_that_folders_are_the_same(bids):
    (bids.parent / "link").symlink_to(bids)
    with pytest.raises(UsageError, match="output_dir"):
        parse(["bids", "link", "participant"])


def test_an_output_folder_that_is_a_file_is_refused(bids):
    (bids.parent / "out").touch()
    with pytest.raises(UsageError, match="is a file"):
        parse_with(bids)


def test_a_dataset_that_is_not_there_is_a_missing_input(tmp_path):
    with pytest.raises(MissingInputError, match="nowhere") as raised:
        parse([str(tmp_path / "nowhere"), str(tmp_path / "out"), "participant"])
    assert raised.value.exit_code == ExitCode.MISSING_INPUT


def test_a_name_too_long_for_the_file_system_is_a_missing_input(tmp_path):
    with pytest.raises(MissingInputError):
        parse(["x" * 5000, str(tmp_path / "out"), "participant"])


def write_filters(bids, content: bytes) -> list[str]:
    path = bids.parent / "filters.json"
    path.write_bytes(content)
    return ["--bids-filter-file", str(path)]


def test_a_filter_file_is_read_as_fmriprep_does(bids):
    content = {
        "t1w": {"acquisition": ["mprage", "spgr"], "run": 1, "reconstruction": None},
        "bold": {"task": "rest"},
    }
    settings = parse_with(bids, *write_filters(bids, json.dumps(content).encode()))
    assert settings.selection.filters == {
        "t1w": {"acquisition": ("mprage", "spgr"), "run": 1, "reconstruction": ""}
    }


def test_a_byte_order_mark_does_not_matter(bids):
    options = write_filters(bids, '{"t1w": {"run": 1}}'.encode("utf-8-sig"))
    assert parse_with(bids, *options).selection.filters == {"t1w": {"run": 1}}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"",
        b"[1]",
        '{"t1w": {"acquisition": "caf\xe9"}}'.encode("latin-1"),
        b'{"t1w": "mprage"}',
        b'{"t1w": {"run": 1.5}}',
        b'{"t1w": {"run": {"from": 1}}}',
        b"[" * 100_000,
    ],
)
def test_a_filter_file_that_cannot_be_used_is_named(bids, content):
    with pytest.raises(BadDataError, match=r"filters\.json"):
        parse_with(bids, *write_filters(bids, content))


def test_a_filter_file_that_is_not_there_is_named(bids):
    with pytest.raises(MissingInputError, match="nowhere"):
        parse_with(bids, "--bids-filter-file", "nowhere.json")


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"rela_bids {__version__}\n"


def test_parsing_imports_nothing_heavy():
    heavy = ("torch", "nipype", "pandas", "nibabel", "numpy", "ants", "bids")
    code = (
        "import sys, rela_bids.cli.run, rela_bids.cli.parser\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
