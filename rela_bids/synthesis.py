"""Synthetic PET from preprocessed MRI: arrays on the model grid in, SUVR out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from rela_bids.exceptions import UsageError
from rela_bids.model.description import describe_model
from rela_bids.model.inference import Sampling, SyntheticPET, sample_session
from rela_bids.templates import reference_region_on
from rela_bids.tracers import Tracer
from rela_bids.transforms import Matrix, from_model_grid
from rela_bids.volumes import Array, Grid

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


def check_weights(plan: SynthesisPlan) -> None:
    """Read the weights once, so that a bad file ends the run before any image is touched.

    Raises
    ------
    BadDataError
        If they are damaged or do not fit the network that the file describes.
    UsageError
        If the model cannot be sampled in as many steps.
    """
    from rela_bids.model.checkpoint import load_model
    from rela_bids.model.diffusion import Schedule

    Schedule(plan.config.diffusion).sampling_timesteps(plan.sampling_steps)
    load_model(plan.path)


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


def sample_pet(
    model: "Model",
    t1w: Array,
    flair: Array | None,
    mask: NDArray[np.bool_],
    tracers: Sequence[str],
    sampling: Sampling,
    on_pass: Callable[[int, int], None] = lambda done, total: None,
    on_sample: Callable[[str, Array], None] = lambda label, suvr: None,
) -> Iterator[SyntheticPET]:
    """`rela_bids.model.inference.sample_session` with the reference regions of the atlas."""
    return sample_session(
        model, t1w, flair, mask, tracers, sampling, reference_region_on, on_pass, on_sample
    )


def on_t1w(
    volume: Array,
    to_template: Matrix,
    grid: Grid,
    t1w: nib.Nifti1Image,
    mask: NDArray[np.bool_],
) -> nib.Nifti1Image:
    """`rela_bids.transforms.from_model_grid` as an image, float32, with the geometry of `t1w`."""
    data = from_model_grid(volume, to_template, grid, t1w, mask=mask)
    image = nib.Nifti1Image(data, t1w.affine, t1w.header)
    image.set_data_dtype(np.float32)
    image.header.set_slope_inter(1, 0)
    return image
