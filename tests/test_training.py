"""From prepared examples to a folder with a model, its card, its split and its scores."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rela_bids.exceptions import BadDataError, UsageError
from rela_bids.model.budget import TrainSettings
from rela_bids.model.checkpoint import load_model
from rela_bids.model.dataset import Example, Record, read_manifest, write_example
from rela_bids.model.inference import Sampling
from rela_bids.model.presets import PRESETS
from rela_bids.synthesis import sample_pet
from rela_bids.tracers import TRACERS
from rela_bids.training import (
    TrainedModel,
    TrainingInterruptedError,
    TrainingPlan,
    check_new,
    data_sha256,
    train_model,
)
from rela_bids.volumes import Grid

SHAPE = (16, 24, 16)
PIB, TAU = "11CPIB", "18FAV1451"


def record(subject: int, *tracers: str, session: str | None = None) -> Record:
    return Record(f"{subject:02d}", f"{subject:02d}", session, SHAPE, True, tracers, Path())


def prepared(folder: Path, people: int = 6) -> list[Record]:
    mask = np.zeros(SHAPE, bool)
    mask[2:14, 2:22, 2:14] = True
    for number in range(people):
        rng = np.random.default_rng(number)
        t1w, flair, one, two = (
            rng.uniform(1, 2, SHAPE).astype(np.float32) * mask for _ in range(4)
        )
        pets = {PIB: one, TAU: two} if number % 2 else {PIB: one}
        given = flair if number else None
        example = Example(f"{number:02d}", "a", t1w, given, mask, pets)
        write_example(folder, example)
        if number == 3:
            write_example(folder, replace(example, session="b", pets={TAU: one}))
    return read_manifest(folder)


def plan(**changes: object) -> TrainingPlan:
    fast = PRESETS["fast"]
    config = replace(
        fast,
        grid=Grid.about((0, 0, 0), SHAPE, 8.0),
        network=replace(fast.network, channels=(8, 16)),
        discriminator=replace(fast.discriminator, channels=4, layers=1),
        diffusion=replace(fast.diffusion, noise_octaves=1),
        n_samples=2,
    )
    made = TrainingPlan(
        name="tiny",
        config=config,
        tracers={label: TRACERS[label] for label in (PIB, TAU)},
        settings=TrainSettings(seed=1, max_steps=4, device="cpu", threads=1),
        trained_on="six boxes of noise",
    )
    return replace(made, **changes)


@pytest.fixture
def interrupt():
    """SIGTERM for this very process, as soon as the training listens to it."""

    def send() -> None:
        while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize(
    ("manifest", "fault"),
    [
        ([], "nothing to train on"),
        ([record(1, PIB), record(2, PIB)], f"{TAU} has nobody"),
        ([record(1, PIB, TAU), record(2, PIB)], rf"{TAU} has one person only \(sub-01\)"),
    ],
)
def test_too_few_people_end_in_one_line_and_nothing_written(tmp_path, manifest, fault):
    with pytest.raises(BadDataError, match=fault):
        train_model(manifest, plan(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_split_without_anybody_to_learn_from_or_to_test_on_is_refused(tmp_path):
    manifest = prepared(tmp_path / "prepared", people=4)
    everybody = [r.subject for r in manifest]
    with pytest.raises(BadDataError, match="nobody is held out"):
        train_model(manifest, plan(split=dict.fromkeys(everybody, "train")), tmp_path)
    with pytest.raises(BadDataError, match=f"{PIB} has nobody in the training part"):
        train_model(manifest, plan(split=dict.fromkeys(everybody, "test")), tmp_path)


def test_training_leaves_a_model_that_loads_with_all_that_belongs_to_it(tmp_path):
    manifest = prepared(tmp_path / "prepared")
    split = {"00": "test", "01": "train", "02": "validation", "03": "test", "05": "train"}
    folder = train_model(manifest, plan(split=split), tmp_path / "out")
    assert folder == tmp_path / "out" / "models" / "tiny"

    model = load_model(folder)
    assert model.config == plan().config
    assert list(model.tracers) == [PIB, TAU]
    told = model.provenance
    assert told["trained_on"] == "six boxes of noise"
    assert told["people"][PIB] == {"train": 2, "validation": 1, "test": 2}
    assert told["people"][TAU] == {"train": 2, "validation": 0, "test": 1}
    assert told["sessions"][TAU] == {"train": 2, "validation": 0, "test": 2}
    assert told["simulated"] is False
    json.dumps(told)

    assert {row["participant_id"]: row["split"] for row in rows_of(folder / "splits.tsv")} == {
        f"sub-{subject}": part for subject, part in split.items()
    }
    scores = rows_of(folder / "metrics.tsv")
    assert [(row["participant_id"], row["session_id"], row["tracer"]) for row in scores] == [
        ("sub-00", "ses-a", PIB),
        ("sub-03", "ses-a", PIB),
        ("sub-03", "ses-a", TAU),
        ("sub-03", "ses-b", TAU),
    ]
    for row in scores:
        with_flair = row["participant_id"] != "sub-00"
        for column in ("psnr", "ssim", "mae_suvr"):
            assert np.isfinite(float(row[column]))
            assert np.isfinite(float(row[f"{column}_mean_pet"]))
        assert (row["psnr_without_flair"] != "n/a") == with_flair

    card = (folder / "model_card.md").read_text()
    said = ("six boxes of noise", "Not for clinical use", "does not determine", model.sha256)
    for part in (*said, told["data_sha256"], "1 (2 sessions)", "max_steps 4", "numpy"):
        assert part in card
    assert any((folder / "tensorboard").iterdir())
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("intensity", ["suvr", "minmax"])
def test_a_model_is_judged_by_the_pet_that_its_users_will_get(tmp_path, intensity):
    manifest = prepared(tmp_path / "prepared")
    made = plan(config=replace(plan().config, intensity=intensity))
    folder = train_model(manifest, made, tmp_path)
    model, row = load_model(folder), rows_of(folder / "metrics.tsv")[0]
    judged = next(r for r in manifest if f"sub-{r.subject}" == row["participant_id"])
    t1w, mask, measured = (judged.load(k) for k in ("t1w", "mask", f"pet-{row['tracer']}"))
    flair = judged.load("flair") if judged.flair else None
    config = model.config
    sampling = Sampling(
        config.n_samples, config.sampling_steps, 1, (judged.subject, judged.session)
    )
    (pet,) = sample_pet(model, t1w, flair, np.array(mask), [row["tracer"]], sampling)
    scale = model.tracers[row["tracer"]].suvr_scale
    psnr = 10 * np.log10(scale**2 / np.mean((pet.mean - measured)[mask] ** 2))
    assert float(row["psnr"]) == pytest.approx(psnr, abs=0.01)


def test_the_same_seed_gives_the_same_files(tmp_path):
    manifest = prepared(tmp_path / "prepared")
    one, two = (train_model(manifest, plan(), tmp_path / name) for name in ("one", "two"))
    for name in ("model.safetensors", "metrics.tsv", "splits.tsv"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    cards = [(folder / "model_card.md").read_text().splitlines() for folder in (one, two)]
    first, second = ([line for line in card if "time of training" not in line] for card in cards)
    assert first == second


def test_the_hash_of_the_data_is_that_of_its_files(tmp_path):
    manifest = prepared(tmp_path, people=2)
    kinds = {"00": ("mask", "t1w", f"pet-{PIB}"), "01": ("mask", "t1w", "flair", f"pet-{PIB}")}
    lines = "".join(
        f"{r.name} {kind} {hashlib.sha256((r.folder / f'{kind}.npy').read_bytes()).hexdigest()}\n"
        for r in manifest
        for kind in kinds[r.subject]
    )
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert data_sha256(manifest[::-1], [PIB]) == expected
    other = np.load(manifest[0].folder / "t1w.npy") + 1
    np.save(manifest[0].folder / "t1w.npy", other)
    assert data_sha256(manifest, [PIB]) != expected


def test_what_was_scored_is_told_before_the_model_has_its_name(tmp_path):
    told: list[TrainedModel] = []

    def listen(folder: Path, trained: TrainedModel) -> None:
        assert (folder / "metrics.tsv").exists()
        assert (folder / "model_card.md").exists()
        assert not (folder / "model.safetensors").exists()
        told.append(trained)

    folder = train_model(prepared(tmp_path / "prepared"), plan(), tmp_path, on_scored=listen)
    (trained,) = told
    assert trained.sha256 == load_model(folder).sha256
    assert len(trained.scores) == len(rows_of(folder / "metrics.tsv"))
    for case in trained.held_out:
        assert case.mask.any()
        for volume in (case.t1w, case.measured, case.synthetic, case.std):
            assert volume.shape == SHAPE
            assert volume.dtype == np.float32
            assert (volume[~case.mask] == 0).all()


def test_a_report_that_fails_leaves_no_model_and_can_be_had_later(tmp_path):
    manifest = prepared(tmp_path / "prepared")

    def fail(folder: Path, trained: TrainedModel) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        train_model(manifest, plan(), tmp_path, on_scored=fail)
    folder = tmp_path / "models" / "tiny"
    assert not (folder / "model.safetensors").exists()
    heard = []
    train_model(manifest, plan(), tmp_path, resume=True, on_scored=lambda *a: heard.append(a))
    assert len(heard) == 1
    assert load_model(folder).provenance["steps"] == 4


def test_a_folder_with_a_model_is_known_before_anything_is_prepared(tmp_path):
    assert check_new(tmp_path, "tiny", resume=False) == tmp_path / "models" / "tiny"
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "checkpoint.pt").touch()
    with pytest.raises(UsageError, match="add --resume"):
        check_new(tmp_path, "tiny", resume=False)
    assert check_new(tmp_path, "tiny", resume=True).exists()


TWO_PROCESSES = """
import os, sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import rela_bids.training as training
from rela_bids.model.dataset import read_manifest
from test_training import plan

folder = Path(sys.argv[2])
rank, write_text = os.environ["RANK"], training.write_text

def watched(path, text):
    (folder / f"{path.name} written by {rank}").touch()
    return write_text(path, text)

training.write_text = watched
training.train_model(
    read_manifest(folder / "prepared"),
    plan(settings=replace(plan().settings, devices=2)),
    folder,
    on_scored=lambda *_: (folder / f"told in {rank}").touch(),
)
"""


@pytest.mark.slow
def test_of_several_processes_the_first_alone_writes(tmp_path):
    prepared(tmp_path / "prepared")
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*command, script, Path(__file__).parent, tmp_path], check=True)
    assert (tmp_path / "models" / "tiny" / "model.safetensors").exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert {name for name in names if " in " in name or " by " in name} == {
        "told in 0",
        *(f"{name} written by 0" for name in ("splits.tsv", "metrics.tsv", "model_card.md")),
    }


def test_a_model_is_not_overwritten_and_an_unfinished_one_is_finished(tmp_path):
    manifest = prepared(tmp_path / "prepared")
    folder = train_model(manifest, plan(), tmp_path)
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="add --resume"):
        train_model(manifest, plan(), tmp_path)
    (folder / "model.safetensors").unlink()
    train_model(manifest, plan(), tmp_path, resume=True)
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(UsageError, match="another split"):
        train_model(manifest[1:], plan(), tmp_path, resume=True)


@pytest.mark.usefixtures("interrupt")
def test_an_interrupted_training_says_how_to_go_on_and_leaves_no_model(tmp_path):
    manifest = prepared(tmp_path / "prepared")
    settings = replace(plan().settings, max_steps=100_000)
    with pytest.raises(TrainingInterruptedError, match="--resume"):
        train_model(manifest, plan(settings=settings), tmp_path)
    assert not (tmp_path / "models" / "tiny" / "model.safetensors").exists()
    assert (tmp_path / "models" / "tiny" / "checkpoint.pt").exists()
