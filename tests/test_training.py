"""From prepared examples to a folder with a model, its card, its split and its scores."""

import csv
import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.model.budget import TrainSettings
from rela_bids.model.checkpoint import load_model
from rela_bids.model.dataset import Example, Record, read_manifest, write_example
from rela_bids.model.presets import PRESETS
from rela_bids.tracers import TRACERS
from rela_bids.training import (
    TrainingInterruptedError,
    TrainingPlan,
    people_per_tracer,
    read_split,
    split_subjects,
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
        write_example(folder, Example(f"{number:02d}", "a", t1w, given, mask, pets))
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


def test_a_person_is_on_one_side_of_the_split_only():
    manifest = [record(n, PIB, TAU, session=s) for n in range(20) for s in ("a", "b")]
    split = split_subjects(manifest, [PIB, TAU], seed=1)
    assert sorted(split) == [f"{n:02d}" for n in range(20)]
    assert list(split.values()).count("test") == 4
    assert split == split_subjects(manifest[::-1], [PIB, TAU], seed=1)
    assert split != split_subjects(manifest, [PIB, TAU], seed=2)


@pytest.mark.parametrize("seed", range(8))
def test_every_tracer_is_on_both_sides_of_the_split(seed):
    manifest = [record(n, PIB) for n in range(10)] + [record(n, TAU) for n in range(9, 11)]
    split = split_subjects(manifest, [PIB, TAU], seed=seed)
    for label in (PIB, TAU):
        assert {split[r.subject] for r in manifest if label in r.tracers} == {"train", "test"}


def test_a_split_is_read_from_any_table_with_participants(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text(
        "participant_id\tage\tpart\nsub-01\t70\ttrain\nsub-02\t71\ttest\nsub-03\t7\tn/a\n"
    )
    assert read_split(path, column="part") == {"01": "train", "02": "test"}
    with pytest.raises(BadDataError, match="columns participant_id and split"):
        read_split(path)
    path.write_text("participant_id\tsplit\nsub-01\tteach\n")
    with pytest.raises(BadDataError, match="sub-01 is in 'teach'; write one of train, validation"):
        read_split(path)
    with pytest.raises(MissingInputError, match="--split"):
        read_split(tmp_path / "none.tsv")


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
        people_per_tracer(manifest, [PIB, TAU])
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
    folder = train_model(manifest, plan(), tmp_path / "out")
    assert folder == tmp_path / "out" / "models" / "tiny"

    model = load_model(folder)
    assert model.config == plan().config
    assert list(model.tracers) == [PIB, TAU]
    assert model.provenance["trained_on"] == "six boxes of noise"
    assert model.provenance["people_per_tracer"] == {PIB: 6, TAU: 3}
    assert model.provenance["simulated"] is False
    json.dumps(model.provenance)

    split = {row["participant_id"]: row["split"] for row in rows_of(folder / "splits.tsv")}
    scores = rows_of(folder / "metrics.tsv")
    held_out = {subject for subject, part in split.items() if part == "test"}
    assert {row["participant_id"] for row in scores} == held_out
    for row in scores:
        with_flair = row["participant_id"] != "sub-00"
        assert np.isfinite(float(row["psnr"]))
        assert np.isfinite(float(row["psnr_mean_pet"]))
        assert (row["psnr_without_flair"] != "n/a") == with_flair

    card = (folder / "model_card.md").read_text()
    for said in ("six boxes of noise", "Not for clinical use", "does not determine", model.sha256):
        assert said in card
    assert any((folder / "tensorboard").iterdir())
    assert not list(folder.glob(".*"))


def test_the_same_seed_gives_the_same_files(tmp_path):
    manifest = prepared(tmp_path / "prepared")
    one, two = (train_model(manifest, plan(), tmp_path / name) for name in ("one", "two"))
    for name in ("model.safetensors", "metrics.tsv", "splits.tsv", "model_card.md"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


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
