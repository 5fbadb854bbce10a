"""The training loop, on Lightning Fabric.

Whatever is random in step n depends on (seed, n) alone, and a checkpoint holds everything else, so
that on a CPU a run that was killed and resumed ends with the same bytes as one that was not.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from rela_bids.atomic import write_atomically
from rela_bids.exceptions import BadDataError, ExitCode, RelaBidsError, UsageError
from rela_bids.model.budget import Budget, TrainSettings, rate_factor
from rela_bids.model.curve import TrainingCurve
from rela_bids.model.dataset import PreparedDataset
from rela_bids.model.denoiser import Denoiser
from rela_bids.model.evaluation import validate
from rela_bids.model.objective import RelaDiffusion
from rela_bids.model.presets import to_dict
from rela_bids.model.runtime import StopSignals, cpu_threads, start_fabric
from rela_bids.model.sampling import noise_generator
from rela_bids.volumes import Array

CHECKPOINT = "checkpoint.pt"
Objective = Callable[..., RelaDiffusion]


class TrainingDivergedError(RelaBidsError):
    """A loss or a gradient is not finite."""

    exit_code = ExitCode.BAD_DATA


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished` its budget or was interrupted; `main` in the first process."""

    step: int
    seconds: float
    finished: bool
    main: bool
    failure: str | None = None


def fit(
    train: PreparedDataset,
    held_out: PreparedDataset,
    folder: Path,
    settings: TrainSettings,
    *,
    resume: bool = False,
    objective: Objective = RelaDiffusion,
    start: Mapping[str, Tensor] | None = None,
) -> Outcome:
    """Train on `train`, watch `held_out`, and keep curve and checkpoint in `folder`.

    SIGTERM and Ctrl-C write a checkpoint and end with ``finished=False``. `resume` goes on from
    the checkpoint, or begins where there is none yet. `start` are weights for the denoiser to begin
    with, of the same network on any grid, with or without refinement. The averaged weights are
    read by `averaged_weights`.

    Raises
    ------
    TrainingDivergedError
        On a loss or gradient that is not finite; the last whole checkpoint is left as it was.
    UsageError
        On resuming a run that had other settings or data.
    """
    fabric = start_fabric(settings.device, settings.devices, settings.num_nodes)
    checkpoint = _load(folder / CHECKPOINT) if resume else None
    if checkpoint and checkpoint["identity"] != _identity(train, settings):
        raise UsageError(
            f"{folder / CHECKPOINT} was made with other settings or data: resume with the same "
            "ones, or train under another name"
        )
    arguments = (train, held_out, folder, settings, checkpoint, objective, start)
    # Bound by partial, and returned as a dictionary: Fabric takes apart what it passes to and from
    # other processes, and stumbles over frozen dataclasses.
    outcome = Outcome(**fabric.launch(partial(_launched, arguments=arguments)))
    if outcome.failure:
        raise TrainingDivergedError(outcome.failure)
    return outcome


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the denoiser in the checkpoint of `folder`."""
    checkpoint = _load(folder / CHECKPOINT)
    if checkpoint is None:
        raise BadDataError(f"{folder / CHECKPOINT} is missing: train first")
    weights: dict[str, Tensor] = checkpoint["average"]
    return weights


def _load(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadDataError(f"{path} cannot be read ({error}): remove it and train anew") from error
    return checkpoint


def _identity(train: PreparedDataset, settings: TrainSettings) -> dict[str, Any]:
    """What must not change between a run and its resumption: learning rates, say, may."""
    config = to_dict(train.config)
    config["optimiser"] = config["optimiser"]["batch_size"]
    return {
        "config": config,
        "tracers": train.labels,
        "pairs": [f"{record.name} {label}" for record, label in train.pairs],
        "seed": settings.seed,
    }


def _begin_with(denoiser: nn.Module, start: Mapping[str, Tensor]) -> None:
    """A denoiser with a refinement may begin with the weights of one without."""
    missing, unexpected = denoiser.load_state_dict(start, strict=False)
    strange = [*unexpected, *(name for name in missing if not name.startswith("refinement."))]
    if strange:
        raise BadDataError(
            f"the weights to start from are of another network ({', '.join(strange[:3])}): "
            "start from a model of the same network"
        )


def _launched(fabric: Fabric, arguments: tuple[Any, ...]) -> dict[str, Any]:
    settings = arguments[3]
    with cpu_threads(settings.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return asdict(_Run(fabric, *arguments).run())


class _Run:
    """One process of a training run."""

    def __init__(
        self,
        fabric: Fabric,
        train: PreparedDataset,
        held_out: PreparedDataset,
        folder: Path,
        settings: TrainSettings,
        checkpoint: dict[str, Any] | None,
        objective: Objective,
        start: Mapping[str, Tensor] | None,
    ):
        self.fabric, self.settings, self.folder = fabric, settings, folder
        self.train, self.held_out, self.config = train, held_out, train.config
        self.step, self.seconds_before = 0, 0.0
        self.objective = objective(self.config, len(train.labels))
        if start is None and not checkpoint:
            self.objective.begin(torch.from_numpy(train.mean_unit()))
        if start is not None:
            _begin_with(self.objective.networks["denoiser"], start)
        self.average = fabric.to_device(deepcopy(self.objective.networks["denoiser"]))
        self.average.eval().requires_grad_(False)
        self.networks, self.optimisers = {}, {}
        for name, network in self.objective.networks.items():
            optimiser = torch.optim.Adam(
                network.parameters(),
                lr=self.objective.learning_rates[name],
                betas=self.config.optimiser.betas,
            )
            self.networks[name], self.optimisers[name] = fabric.setup(network.train(), optimiser)
        if checkpoint:
            self._restore(checkpoint)
        self.batch_size = self.config.optimiser.batch_size * fabric.world_size
        self.steps_per_epoch = math.ceil(len(train) / self.batch_size)
        self.budget = Budget.of(settings, self.config.optimiser, self.steps_per_epoch)
        self.started = time.monotonic()

    # What is kept.

    def _state(self) -> dict[str, Any]:
        return {
            "identity": _identity(self.train, self.settings),
            "step": self.step,
            "seconds": self._seconds(),
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "average": self.average.state_dict(),
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "random_state": torch.get_rng_state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.seconds_before = state["step"], state["seconds"]
        self.average.load_state_dict(state["average"])
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
            self.optimisers[name].load_state_dict(state["optimisers"][name])
        torch.set_rng_state(state["random_state"])

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            with write_atomically(self.folder / CHECKPOINT) as temporary:
                torch.save(self._state(), temporary)

    # Where in its budget the run is.

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _agree(self, *values: float) -> list[float]:
        """The largest of each value over all processes, which must do the same thing."""
        if self.fabric.world_size == 1:
            return list(values)
        return self._reduce(values, "max")

    def _reduce(self, values: Iterable[float], how: str) -> list[float]:
        together = self.fabric.to_device(torch.tensor(list(values), dtype=torch.float32))
        reduced: Any = self.fabric.all_reduce(together, reduce_op=how)
        return [float(value) for value in reduced]

    # The loop.

    def run(self) -> Outcome:
        """Train until the budget is spent, a signal comes, or something is not finite."""
        last_checkpoint = time.monotonic()
        with self._curve() as curve, StopSignals() as signals, self._batches() as batches:
            while True:
                seconds, stop = self._agree(self._seconds(), signals.received)
                progress = self.budget.progress(self.step, seconds)
                if progress >= 1 or stop:
                    break
                failure = self._train_step(next(batches), progress, curve)
                if failure:
                    return self._outcome(finished=False, failure=failure)
                self.step += 1
                curve.advance()
                self._watch(progress, curve)
                if time.monotonic() - last_checkpoint > self.settings.checkpoint_seconds:
                    self._save()
                    last_checkpoint = time.monotonic()
            self._save()
        return self._outcome(finished=progress >= 1)

    def _outcome(self, *, finished: bool, failure: str | None = None) -> Outcome:
        main = self.fabric.is_global_zero
        return Outcome(self.step, self._seconds(), finished, main, failure)

    def _train_step(
        self, batch: dict[str, Any], progress: float, curve: TrainingCurve
    ) -> str | None:
        """Update every network; returns what is wrong where something is not finite."""
        names = batch.pop("names")
        batch = self.fabric.to_device(batch)
        adversarial = progress >= self.config.loss.warmup_fraction
        losses = self.objective.losses(self.networks, batch, adversarial=adversarial)
        while True:
            with self.fabric.autocast():
                name, terms = next(losses, (None, {}))
            if name is None:
                break
            norm = self._descend(name, terms["total"], progress)
            # Gradients are shared, so that all processes see what went wrong in one of them.
            if not (math.isfinite(norm) and bool(torch.isfinite(terms["total"]))):
                return self._failure(name, names, terms)
            curve.add({f"{name}_{term}": value for term, value in terms.items()})
        self._update_average()
        return None

    def _descend(self, name: str, loss: Tensor, progress: float) -> float:
        """One optimiser step unless the gradient is not finite; returns the gradient's norm."""
        optimiser, network = self.optimisers[name], self.networks[name]
        optimiser.zero_grad()
        self.fabric.backward(loss)
        clip = self.config.optimiser.gradient_clip if name == "denoiser" else 0.0
        norm: Any = self.fabric.clip_gradients(
            network, optimiser, max_norm=clip or math.inf, error_if_nonfinite=False
        )
        factor = rate_factor(self.config.optimiser.schedule, progress)
        for group in optimiser.param_groups:
            group["lr"] = self.objective.learning_rates[name] * factor
        if math.isfinite(norm):
            optimiser.step()
        return float(norm)

    def _failure(self, name: str, examples: list[str], terms: dict[str, Tensor]) -> str:
        values = ", ".join(f"{term} {value.item():.3g}" for term, value in terms.items())
        return (
            f"training diverged at step {self.step + 1} (loss of the {name}: {values}; examples: "
            f"{', '.join(examples)}): look at these examples, or lower the learning rates in "
            "--train-config and resume"
        )

    def _update_average(self) -> None:
        """Exponential moving average, shorter at the start, where weights are still far off."""
        decay = min(self.config.optimiser.ema_decay, (1 + self.step) / (10 + self.step))
        current = self.objective.networks["denoiser"].state_dict()
        for key, averaged in self.average.state_dict().items():
            if averaged.is_floating_point():
                averaged.lerp_(current[key].to(averaged.dtype), 1 - decay)
            else:
                averaged.copy_(current[key])

    # Batches, made one ahead while the network is at work.

    @contextmanager
    def _batches(self) -> Iterator[Iterator[dict[str, Any]]]:
        with ThreadPoolExecutor(1) as pool:

            def batches() -> Iterator[dict[str, Any]]:
                step = self.step
                coming = pool.submit(self._batch, step)
                while True:
                    step += 1
                    ready, coming = coming, pool.submit(self._batch, step)
                    yield ready.result()

            yield batches()

    def _batch(self, step: int) -> dict[str, Any]:
        per_process = self.config.optimiser.batch_size
        first = step * self.batch_size + self.fabric.global_rank * per_process
        numbers = range(first, first + per_process)
        seed = self.settings.seed
        indices = [self.train.balanced_index(seed, n) for n in numbers]
        items = [
            self.train.training_item(i, np.random.default_rng([seed, 2, n]))
            for i, n in zip(indices, numbers, strict=True)
        ]
        return {
            "pet": torch.from_numpy(np.stack([item["pet"] for item in items])),
            "mri": torch.from_numpy(np.stack([item["mri"] for item in items])),
            "tracer": torch.tensor([item["tracer"] for item in items]),
            "names": [
                f"{record.name} {label}" for record, label in (self.train.pairs[i] for i in indices)
            ],
            **self.objective.draw([noise_generator(seed, "training", n) for n in numbers]),
        }

    # Watching.

    def _curve(self) -> TrainingCurve:
        columns = [*self.objective.terms]
        for label in self.train.labels:
            columns += [f"psnr_{label}", f"mean_pet_psnr_{label}"]
        return TrainingCurve(
            self.folder, columns, self.step, self.budget.steps, active=self.fabric.is_global_zero
        )

    def _watch(self, progress: float, curve: TrainingCurve) -> None:
        validating = self.step % self.settings.validate_every == 0
        if not validating and self.step % self.settings.log_every:
            return
        values = curve.means()
        if self.fabric.world_size > 1:
            values = dict(zip(values, self._reduce(values.values(), "mean"), strict=True))
        if validating and self.fabric.is_global_zero:
            values |= validate(
                self.objective,
                cast(Denoiser, self.average),
                self.held_out,
                self._mean_pet,
                self._upper_bounds,
                seed=self.settings.seed,
                steps=min(self.config.sampling_steps, self.settings.validation_steps),
                volumes=self.settings.validation_volumes,
            )
        factor = rate_factor(self.config.optimiser.schedule, progress)
        place = {
            "epoch": self.step / self.steps_per_epoch,
            "seconds": self._seconds(),
            "learning_rate": self.objective.learning_rates["denoiser"] * factor,
        }
        curve.write(self.step, place | values)

    @cached_property
    def _mean_pet(self) -> dict[str, Array]:
        return self.train.mean_pet()

    @cached_property
    def _upper_bounds(self) -> dict[str, float]:
        return self.train.upper_bounds()
