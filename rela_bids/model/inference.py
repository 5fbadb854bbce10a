"""A model's PET of one session, in SUVR: what users get, and what a model is judged by.

torch is imported in the function, so that what only plans a synthesis need not wait for it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rela_bids.tracers import Tracer
from rela_bids.volumes import Array, Grid, scale_mri, unit_to_suvr

if TYPE_CHECKING:
    from rela_bids.model.checkpoint import Model

Mask = NDArray[np.bool_]
Region = Callable[[str, Grid], Mask]


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


def sample_session(
    model: "Model",
    t1w: Array,
    flair: Array | None,
    mask: Mask,
    tracers: Sequence[str],
    sampling: Sampling,
    region: Region,
    on_pass: Callable[[int, int], None] = lambda done, total: None,
    on_sample: Callable[[str, Array], None] = lambda label, suvr: None,
) -> Iterator[SyntheticPET]:
    """Sample each tracer's PET, conditioned on MRI.

    Parameters
    ----------
    t1w, flair, mask : (X, Y, Z) on the model grid; MRI in any intensity unit.
    tracers : labels, each of which the model must know.
    region : the mask of a reference region, by its name, on a grid; see `to_suvr`.
    on_pass : called after each pass of the denoiser with passes done and passes in all.
    on_sample : called with the tracer's label and each of its samples, SUVR, (X, Y, Z).

    Raises
    ------
    UsageError
        If the model does not know a tracer.
    """
    import torch

    from rela_bids.model.diffusion import Schedule
    from rela_bids.model.runtime import half_precision, sampling_on
    from rela_bids.model.sampling import sample_noise, sample_with_features

    torch.set_num_threads(sampling.threads)
    config = model.config
    schedule = Schedule(config.diffusion)
    mri = mri_channels(t1w, flair, mask, config.inputs, config.intensity)
    passes = _Counter(len(tracers) * sampling.n_samples * sampling.steps, on_pass)
    with sampling_on(sampling.device, half_precision(sampling.device)):
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
                    sample_noise(schedule, number, sampling.seed, *sampling.names, label),
                    passes,
                )
                for number in range(sampling.n_samples)
            )
            tracer = model.tracers[label]
            minmax = config.intensity == "minmax"
            reference = region(tracer.reference_region, config.grid) if minmax else None
            suvr = (
                to_suvr(unit[0, 0].float().cpu().numpy(), tracer.suvr_scale, mask, reference)
                for unit in samples
            )
            yield SyntheticPET(tracer, *mean_and_std(_told(suvr, label, on_sample)))


def mri_channels(
    t1w: Array, flair: Array | None, mask: Mask, inputs: Sequence[str], intensity: str
) -> Array:
    """T1w and FLAIR as the network takes them, (2, X, Y, Z); one that is missing is 0."""
    given = {"t1w": t1w, "flair": flair}
    channels = np.zeros((2, *mask.shape), np.float32)
    for channel, (kind, data) in zip(channels, given.items(), strict=True):
        if data is not None and kind in inputs:
            channel[:] = scale_mri(data, mask, intensity)
    return channels


def to_suvr(unit: Array, scale: float, mask: Mask, reference: Mask | None) -> Array:
    """The network's output in SUVR, 0 outside the brain; `scale` is the SUVR that its 1 stands for.

    A model that scales each image by its own range (``minmax``) has lost SUVR. What is left of it,
    the ratio to the reference region, is measured in the output itself: there, `reference` is the
    mask of that region, and else None.
    """
    suvr: Array = np.where(mask, unit_to_suvr(unit, scale), np.float32(0))
    if reference is None or not (reference & mask).any():
        return suvr
    return suvr / np.float32(max(float(suvr[reference & mask].mean()), 1e-3))


def mean_and_std(volumes: Iterator[Array]) -> tuple[Array, Array]:
    """Mean and population standard deviation, one volume in memory at a time (Welford 1962)."""
    mean, squares, count = np.zeros((), np.float32), np.zeros((), np.float32), 0
    for count, volume in enumerate(volumes, start=1):
        difference = volume - mean
        mean = mean + difference / np.float32(count)
        squares = squares + difference * (volume - mean)
    return mean, np.sqrt(squares / np.float32(max(count, 1)))


def _told(
    volumes: Iterator[Array], label: str, tell: Callable[[str, Array], None]
) -> Iterator[Array]:
    for volume in volumes:
        tell(label, volume)
        yield volume


class _Counter:
    """Counts passes of the denoiser over all tracers and samples."""

    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        self.done, self.total, self.tell = 0, total, tell

    def __call__(self, step: int, clean: object) -> None:
        self.done += 1
        self.tell(self.done, self.total)
