"""The training loop, on volumes of 16 x 24 x 16 whose PET is a function of their MRI."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from rela_bids.exceptions import UsageError
from rela_bids.model.budget import TrainSettings
from rela_bids.model.curve import read_curve
from rela_bids.model.dataset import Example, PreparedDataset, read_manifest, write_example
from rela_bids.model.presets import PRESETS, ModelConfig
from rela_bids.model.trainer import (
    CHECKPOINT,
    TrainingDivergedError,
    averaged_weights,
    fit,
)
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
    """A T1w and a FLAIR of smooth blobs; the first tracer follows T1w, the second FLAIR."""
    rng = np.random.default_rng(number)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = x**2 + y**2 + z**2 < 0.9
    t1w, flair = (
        (100 + 400 * gaussian_filter(rng.standard_normal(SHAPE), 2)) * mask for _ in range(2)
    )
    follows = {"18FAV45": t1w, "18FAV1451": flair}
    pets = {label: (0.4 + follows[label] / 100) * mask for label in labels}
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
