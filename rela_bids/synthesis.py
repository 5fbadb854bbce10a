"""Synthetic PET from preprocessed MRI: arrays on the model grid in, SUVR out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rela_bids.exceptions import UsageError
from rela_bids.model.description import describe_model
from rela_bids.templates import reference_region_on
from rela_bids.tracers import Tracer
from rela_bids.volumes import Array, scale_mri, unit_to_suvr

if TYPE_CHECKING:
    from rela_bids.model.checkpoint import Model
    from rela_bids.model.presets import ModelConfig
    from rela_bids.settings import SynthesisSettings


@dataclass(frozen=True)
class SynthesisPlan:
    """The synthesis settings with the model's own filled in.

    Attributes
    ----------
    path, name, sha256, config, provenance : of the model.
    tracers : those to synthesise, by label.
    """

    path: Path
    name: str
    sha256: str
    config: "ModelConfig"
    provenance: Mapping[str, Any]
    tracers: Mapping[str, Tracer]
    n_samples: int
    sampling_steps: int
    random_seed: int
    device: str

    @property
    def simulated(self) -> bool:
        """The model was trained on simulated PET."""
        return bool(self.provenance.get("simulated"))

    @property
    def trained_on(self) -> str:
        """What the model was trained on, in words."""
        return str(self.provenance.get("trained_on", "unknown data"))


def plan_synthesis(settings: "SynthesisSettings", tracers: Sequence[str]) -> SynthesisPlan:
    """Read the model and settle what is to be sampled; no `tracers` means all that it knows.

    Raises
    ------
    UsageError
        If the model does not know a tracer.
    MissingInputError, BadDataError
        If the model's file is not there or cannot be used.
    """
    model = describe_model(settings.model)
    for label in tracers:
        model.tracer_index(label)
    return SynthesisPlan(
        path=model.path,
        name=model.name,
        sha256=model.sha256,
        config=model.config,
        provenance=model.provenance,
        tracers={label: model.tracers[label] for label in tracers or model.tracers},
        n_samples=settings.n_samples or model.config.n_samples,
        sampling_steps=settings.sampling_steps or model.config.sampling_steps,
        random_seed=settings.random_seed,
        device=settings.device,
    )


def resolve_device(device: str) -> str:
    """``auto`` to the best device that this machine has.

    Raises
    ------
    UsageError
        If the device asked for is not there.
    """
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there.get(device, False):
        raise UsageError(f"--device {device}: this machine has none; use auto or cpu")
    return device


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled.

    Attributes
    ----------
    n_samples : K, of which mean and standard deviation are taken.
    steps : passes of the denoiser for one sample.
    seed : of the run; `names` are added to it, so that a session's noise is its own.
    names : subject and session, whatever tells this session from all others.
    device : a torch device.
    threads : CPU threads of torch.
    """

    n_samples: int
    steps: int
    seed: int
    names: tuple[str, ...]
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class SyntheticPET:
    """Mean and standard deviation over samples, SUVR, (X, Y, Z) on the model grid.

    The standard deviation of one sample is 0 everywhere.
    """

    tracer: Tracer
    mean: Array
    std: Array


def synthesise(
    model: "Model",
    t1w: Array,
    flair: Array | None,
    mask: NDArray[np.bool_],
    tracers: Sequence[str],
    sampling: Sampling,
    on_pass: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[SyntheticPET]:
    """Sample each tracer's PET, conditioned on MRI.

    Parameters
    ----------
    t1w, flair, mask : (X, Y, Z) on the model grid; MRI in any intensity unit.
    tracers : labels, each of which the model must know.
    on_pass : called after each pass of the denoiser with passes done and passes in all.

    Raises
    ------
    UsageError
        If the model does not know a tracer.
    """
    import torch

    from rela_bids.model.diffusion import Schedule
    from rela_bids.model.sampling import noise_generator, sample_with_features

    torch.set_num_threads(sampling.threads)
    schedule = Schedule(model.config.diffusion)
    mri = mri_channels(t1w, flair, mask, model.config.inputs, model.config.intensity)
    passes = _Counter(len(tracers) * sampling.n_samples * sampling.steps, on_pass)
    with torch.inference_mode():
        features = model.network.encode(torch.from_numpy(mri)[None].to(sampling.device))
        for label in tracers:
            samples = (
                sample_with_features(
                    model.network,
                    features,
                    mask.shape,
                    model.tracer_index(label),
                    schedule,
                    sampling.steps,
                    noise_generator(sampling.seed, *sampling.names, label, number),
                    passes,
                )
                for number in range(sampling.n_samples)
            )
            tracer = model.tracers[label]
            suvr = (
                _to_suvr(unit[0, 0].cpu().numpy(), tracer, mask, model.config) for unit in samples
            )
            yield SyntheticPET(tracer, *mean_and_std(suvr))


def mri_channels(
    t1w: Array,
    flair: Array | None,
    mask: NDArray[np.bool_],
    inputs: Sequence[str],
    intensity: str,
) -> Array:
    """T1w and FLAIR as the network takes them, (2, X, Y, Z); one that is missing is 0."""
    given = {"t1w": t1w, "flair": flair}
    channels = np.zeros((2, *mask.shape), np.float32)
    for channel, (kind, data) in zip(channels, given.items(), strict=True):
        if data is not None and kind in inputs:
            channel[:] = scale_mri(data, mask, intensity)
    return channels


def mean_and_std(volumes: Iterator[Array]) -> tuple[Array, Array]:
    """Mean and population standard deviation, one volume in memory at a time (Welford 1962)."""
    mean, squares, count = np.float32(0), np.float32(0), 0
    for count, volume in enumerate(volumes, start=1):
        difference = volume - mean
        mean = mean + difference / np.float32(count)
        squares = squares + difference * (volume - mean)
    return np.asarray(mean), np.sqrt(squares / np.float32(max(count, 1)))


def _to_suvr(unit: Array, tracer: Tracer, mask: NDArray[np.bool_], config: object) -> Array:
    """The network's output in SUVR, 0 outside the brain.

    A model that scales each image by its own range has lost SUVR; what is left of it, the ratio to
    the reference region, is measured in the output itself.
    """
    suvr = np.where(mask, unit_to_suvr(unit, tracer.suvr_scale), np.float32(0))
    if config.intensity == "minmax":
        region = reference_region_on(tracer.reference_region, config.grid) & mask
        suvr = suvr / max(float(suvr[region].mean()), 1e-3) if region.any() else suvr
    return suvr


class _Counter:
    """Counts passes of the denoiser over all tracers and samples."""

    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        self.done, self.total, self.tell = 0, total, tell

    def __call__(self, step: int, clean: object) -> None:
        self.done += 1
        self.tell(self.done, self.total)
