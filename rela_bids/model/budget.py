"""How long a training run lasts, and what follows from how far it has come."""

import math
from dataclasses import dataclass

from rela_bids.model.presets import OptimiserConfig


@dataclass(frozen=True)
class TrainSettings:
    """How to train, as far as it is no property of the model.

    Attributes
    ----------
    seed : of the weights, the order of examples, the noise, the augmentation.
    epochs, max_steps, max_seconds : the budget. Steps or epochs make a run that can be repeated;
        with seconds alone, learning rates and the warm-up follow the clock. Given none of them,
        the configuration's epochs hold; seconds beside one of the others only cut it short.
    device : ``auto``, ``cpu``, ``cuda`` or ``mps``.
    devices, num_nodes : processes on each node, and nodes; those of several nodes are started by
        torchrun or srun.
    threads : of each process on the CPU; None leaves PyTorch's own.
    checkpoint_seconds : time between checkpoints.
    log_every, validate_every : steps between rows of the curve, between validations.
    validation_volumes, validation_steps : what a validation costs: volumes, and the most sampling
        steps for each.
    """

    seed: int = 1
    epochs: int | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    threads: int | None = None
    checkpoint_seconds: float = 300.0
    log_every: int = 10
    validate_every: int = 200
    validation_volumes: int = 6
    validation_steps: int = 8


@dataclass(frozen=True)
class Budget:
    """The steps of a run, None where only seconds limit it, and its seconds."""

    steps: int | None
    seconds: float | None

    @classmethod
    def of(
        cls, settings: TrainSettings, optimiser: OptimiserConfig, steps_per_epoch: int
    ) -> "Budget":
        """What the settings ask for, or else the epochs of the configuration."""
        epochs = settings.epochs
        if epochs is None and settings.max_steps is None and settings.max_seconds is None:
            epochs = optimiser.epochs
        steps = [settings.max_steps, None if epochs is None else epochs * steps_per_epoch]
        return cls(min((n for n in steps if n is not None), default=None), settings.max_seconds)

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 when the budget is spent.

        >>> Budget(100, None).progress(25, 1e6), Budget(None, 60).progress(25, 30)
        (0.25, 0.5)
        >>> Budget(100, 60).progress(25, 30), Budget(100, 60).progress(25, 60)
        (0.25, 1.0)
        """
        if self.seconds is not None and (self.steps is None or seconds >= self.seconds):
            return min(1.0, seconds / max(self.seconds, 1e-9))
        return min(1.0, step / self.steps) if self.steps else 1.0


def rate_factor(schedule: str, progress: float) -> float:
    """What the learning rates are multiplied by when `progress` of the budget is spent.

    >>> rate_factor("constant", 0.5), round(rate_factor("cosine", 0.5), 3)
    (1.0, 0.5)
    """
    if schedule == "constant":
        return 1.0
    rise = min(1.0, max(progress, 0.001) / 0.02)
    return rise * 0.5 * (1 + math.cos(math.pi * progress))
