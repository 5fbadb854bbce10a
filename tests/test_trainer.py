"""The training loop, on volumes of 16 x 24 x 16 whose PET is a function of their MRI."""

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
import torch

from rela_bids.exceptions import UsageError
from rela_bids.model.budget import TrainSettings
from rela_bids.model.curve import CURVE, read_curve
from rela_bids.model.dataset import Example, PreparedDataset, read_manifest, write_example
from rela_bids.model.presets import PRESETS, ModelConfig, override
from rela_bids.model.trainer import CHECKPOINT, TrainingDivergedError, averaged_weights, fit
from rela_bids.tracers import TRACERS
from rela_bids.volumes import Grid

SHAPE = (16, 24, 16)
LABELS = ("18FAV45", "18FAV1451")
SETTINGS = TrainSettings(
    seed=3, max_steps=8, device="cpu", threads=1, log_every=1, validate_every=100
)


def tiny_config(preset: str = "fast", **changes: object) -> ModelConfig:
    config = PRESETS[preset]
    return replace(
        config,
        grid=Grid.about((0, 0, 0), SHAPE, 8.0),
        network=replace(config.network, channels=(8, 16)),
        discriminator=replace(config.discriminator, channels=4, layers=1),
        diffusion=replace(config.diffusion, noise_octaves=min(2, config.diffusion.noise_octaves)),
        **changes,
    )


def toy_example(number: int, labels: tuple[str, ...] = LABELS) -> Example:
    """T1w and FLAIR with a slope of their own; the PET follows the T1w."""
    rng = np.random.default_rng(number)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = np.ones(SHAPE, bool)  # at 8 mm a rounder brain would be mostly edge
    slopes = rng.normal(size=(2, 3))
    slopes *= 60 / np.linalg.norm(slopes, axis=1, keepdims=True)
    t1w, flair = (100 + a * x + b * y + c * z for a, b, c in slopes)
    pets = {label: np.maximum(t1w / 60, 0) for label in labels}
    return Example(f"{number:02d}", None, *(a.astype(np.float32) for a in (t1w, flair)), mask, pets)


def toy_data(folder: Path, config: ModelConfig, people: int = 6) -> tuple[PreparedDataset, ...]:
    for number in range(people):
        write_example(folder, toy_example(number, LABELS if number % 3 else LABELS[:1]))
    manifest = read_manifest(folder)
    tracers = {label: TRACERS[label] for label in LABELS}
    return (
        PreparedDataset(manifest[:-2], config, tracers),
        PreparedDataset(manifest[-2:], config, tracers),
    )


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_loss_falls_and_held_out_people_are_better_than_the_mean_pet(tmp_path):
    config = tiny_config(modality_dropout=0.0, augmentation=False)
    changes = {
        "optimiser": {"generator_lr": 3e-3, "batch_size": 4},
        "loss": {"warmup_fraction": 0.0},
    }
    config = override(config, changes)
    train, held_out = toy_data(tmp_path / "data", config, people=24)
    settings = replace(SETTINGS, max_steps=60, validate_every=60, validation_volumes=4)
    outcome = fit(train, held_out, tmp_path / "model", settings)
    rows = read_curve(tmp_path / "model" / CURVE)
    assert outcome.finished
    losses = [float(row["denoiser_energy"]) for row in rows]
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    for label in LABELS:
        assert float(rows[-1][f"psnr_{label}"]) > float(rows[-1][f"mean_pet_psnr_{label}"]) + 2


def test_the_discriminator_is_trained_after_the_warm_up_only(tmp_path):
    config = override(tiny_config(), {"loss": {"warmup_fraction": 0.2}})
    train, held_out = toy_data(tmp_path / "data", config)
    fit(train, held_out, tmp_path / "model", replace(SETTINGS, max_steps=10))
    rows = read_curve(tmp_path / "model" / CURVE)
    assert [row["discriminator_r1"] == "n/a" for row in rows] == [True] * 2 + [False] * 8
    assert [row["denoiser_adversarial"] == "n/a" for row in rows] == [True] * 2 + [False] * 8


def test_the_denoiser_learns_the_mean_before_the_spread(tmp_path):
    config = override(tiny_config(), {"loss": {"warmup_fraction": 0.2}})
    train, held_out = toy_data(tmp_path / "data", config)
    fit(train, held_out, tmp_path / "model", replace(SETTINGS, max_steps=10))
    rows = read_curve(tmp_path / "model" / CURVE)
    assert [row["denoiser_energy"] == "n/a" for row in rows] == [True] * 2 + [False] * 8
    assert [row["denoiser_l1"] == "n/a" for row in rows] == [False] * 2 + [True] * 8


def test_a_run_is_repeated_to_the_byte_whatever_is_watched(tmp_path):
    train, held_out = toy_data(tmp_path / "data", tiny_config())
    fit(train, held_out, tmp_path / "once", SETTINGS)
    fit(train, held_out, tmp_path / "again", replace(SETTINGS, validate_every=2, log_every=3))
    assert same(averaged_weights(tmp_path / "once"), averaged_weights(tmp_path / "again"))
    fit(train, held_out, tmp_path / "other", replace(SETTINGS, seed=4))
    assert not same(averaged_weights(tmp_path / "once"), averaged_weights(tmp_path / "other"))


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from test_trainer import *
folder = Path(sys.argv[2])
train, held_out = toy_data(folder / "data", tiny_config())
fit(train, held_out, folder / "killed", replace(SETTINGS, max_steps=40, checkpoint_seconds=0))
"""


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    settings = replace(SETTINGS, max_steps=40)
    train, held_out = toy_data(tmp_path / "data", tiny_config())
    checkpoint = tmp_path / "killed" / CHECKPOINT
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if checkpoint.exists() and torch.load(checkpoint, weights_only=True)["step"] >= 12:
            process.kill()
        time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert 12 <= step < 40
    fit(train, held_out, tmp_path / "killed", settings, resume=True)
    fit(train, held_out, tmp_path / "whole", settings)
    killed, whole = (
        torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("killed", "whole")
    )
    assert same(killed["average"], whole["average"])
    for network in ("denoiser", "discriminator"):
        assert same(killed["networks"][network], whole["networks"][network])
    rows = read_curve(tmp_path / "killed" / CURVE)
    assert [int(row["step"]) for row in rows] == list(range(1, 41))


def test_sigterm_writes_a_checkpoint_and_stops(tmp_path):
    train, held_out = toy_data(tmp_path / "data", tiny_config())

    def interrupt() -> None:
        while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    outcome = fit(train, held_out, tmp_path / "model", replace(SETTINGS, max_steps=100_000))
    assert not outcome.finished
    checkpoint = torch.load(tmp_path / "model" / CHECKPOINT, weights_only=True)
    assert checkpoint["step"] == outcome.step > 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_time_alone_is_a_budget(tmp_path):
    train, held_out = toy_data(tmp_path / "data", tiny_config())
    settings = replace(SETTINGS, max_steps=None, max_seconds=1.5)
    outcome = fit(train, held_out, tmp_path / "model", settings)
    assert outcome.finished
    assert 1.5 <= outcome.seconds < 6
    assert fit(train, held_out, tmp_path / "model", settings, resume=True).step == outcome.step


def test_a_loss_that_is_not_finite_ends_with_the_examples_named(tmp_path):
    config = override(tiny_config(), {"optimiser": {"generator_lr": 1e30, "gradient_clip": 0.0}})
    train, held_out = toy_data(tmp_path / "data", config)
    with pytest.raises(TrainingDivergedError, match=r"sub-0\d 18FAV.*learning rate") as caught:
        fit(train, held_out, tmp_path / "model", replace(SETTINGS, max_steps=100))
    assert caught.value.exit_code == 65
    assert not (tmp_path / "model" / CHECKPOINT).exists()


def test_a_run_on_other_data_is_not_resumed(tmp_path):
    train, held_out = toy_data(tmp_path / "data", tiny_config())
    fit(train, held_out, tmp_path / "model", replace(SETTINGS, max_steps=1))
    with pytest.raises(UsageError, match="other settings or data"):
        fit(held_out, train, tmp_path / "model", SETTINGS, resume=True)


def test_the_published_networks_are_trained_by_the_same_loop(tmp_path):
    train, held_out = toy_data(tmp_path / "data", tiny_config("paper"))
    outcome = fit(train, held_out, tmp_path / "model", replace(SETTINGS, max_steps=3))
    rows = read_curve(tmp_path / "model" / CURVE)
    assert outcome.finished
    assert all(np.isfinite(float(row["denoiser_denoising"])) for row in rows)
    state = torch.load(tmp_path / "model" / CHECKPOINT, weights_only=True)
    assert same(state["average"], state["networks"]["denoiser"]), "the last weights, as published"


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    losses = []
    for batch_size, devices in ((2, 1), (1, 2)):
        changes = {"optimiser": {"batch_size": batch_size}, "loss": {"warmup_fraction": 0.0}}
        train, held_out = toy_data(tmp_path / "data", override(tiny_config(), changes))
        folder = tmp_path / f"devices{devices}"
        settings = replace(SETTINGS, max_steps=None, epochs=1, devices=devices)
        fit(train, held_out, folder, settings)
        rows = read_curve(folder / CURVE)
        terms = ("denoiser_energy", "denoiser_adversarial", "discriminator_r1")
        losses.append(np.mean([[float(row[term]) for term in terms] for row in rows], axis=0))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
