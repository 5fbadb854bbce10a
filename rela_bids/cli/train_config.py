"""The settings of a training run: the preset, the file of ``--train-config``, the options."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rela_bids.exceptions import BadDataError
from rela_bids.settings import Settings, TrainingSettings, build, read_toml

if TYPE_CHECKING:
    from rela_bids.model.budget import TrainSettings
    from rela_bids.model.presets import ModelConfig

OPTION = "--train-config"

# The table of the file that is no setting of the model.
TRAINER = "trainer"

# Settings of the trainer that have options of their own.
OPTIONS = {
    "seed": "--random-seed",
    "epochs": "--epochs",
    "max_seconds": "--max-time",
    "device": "--device",
    "devices": "--devices",
    "num_nodes": "--num-nodes",
}


def read_changes(path: Path) -> dict[str, Any]:
    """What a ``--train-config`` file holds; what it says is checked by `model_config` and others.

    Raises
    ------
    MissingInputError, BadDataError
        As `read_toml`.
    """
    return read_toml(path, OPTION)


def model_config(training: TrainingSettings) -> "ModelConfig":
    """The preset with the changes asked for.

    ``[grid]`` with a ``voxel_size`` alone keeps the field of view.

    Raises
    ------
    BadDataError
        If a setting is unknown or has a bad value.
    """
    from rela_bids.model.presets import PRESETS, override

    preset = PRESETS[training.preset]
    changes = {name: value for name, value in training.changes.items() if name != TRAINER}
    grid = changes.pop("grid", None)
    if training.batch_size is not None:
        optimiser = changes.get("optimiser", {})
        changes["optimiser"] = {**_table(optimiser, "optimiser"), "batch_size": training.batch_size}
    try:
        config = override(preset, changes)
        if grid is None:
            return config
        if set(_table(grid, "grid")) == {"voxel_size"}:
            voxel_size = _positive(grid["voxel_size"])
            same_view = config.grid.with_voxel_size(voxel_size, multiple_of=config.network.stride)
            return replace(config, grid=same_view)
        return override(config, {"grid": grid})
    except BadDataError as error:
        raise BadDataError(f"{OPTION}: {error}") from error


def trainer_settings(settings: Settings) -> "TrainSettings":
    """How long, on what, and how often to look.

    Raises
    ------
    BadDataError
        If ``[trainer]`` has an unknown setting or a bad value.
    """
    from rela_bids.model.budget import TrainSettings

    training = settings.training
    asked = _table(training.changes.get(TRAINER, {}), TRAINER)
    for name, option in OPTIONS.items():
        if name in asked:
            raise BadDataError(f"{OPTION}: {TRAINER}.{name} is set by {option}: take it out")
    trainer = build(TrainSettings, asked, f"{OPTION}: {TRAINER}")
    return replace(
        trainer,
        seed=settings.synthesis.random_seed,
        epochs=training.epochs,
        max_seconds=training.max_seconds,
        device=settings.synthesis.device,
        devices=training.devices,
        num_nodes=training.num_nodes,
        # Preprocessing is over when training begins, so that its processors are free.
        threads=trainer.threads or max(1, settings.resources.nprocs // training.devices),
    )


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadDataError(f"{name} is {value!r}: write settings under [{name}]")
    return value


def _positive(value: Any) -> float:
    if type(value) not in (int, float) or not value > 0:
        raise BadDataError(f"grid.voxel_size is {value!r}: give the edge of a voxel in mm")
    return float(value)
