"""The way in from Python: MRI in memory or on disk in, synthetic PET in memory out; no BIDS.

The steps, and the functions that take them, are those of the participant level.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import nibabel as nib
import numpy as np

from rela_bids import brain_mask as masks
from rela_bids import registration, templates, transforms
from rela_bids.bids import sidecars
from rela_bids.head_templates import find_template, load_marked
from rela_bids.model.inference import Sampling, SyntheticPET
from rela_bids.settings import DEFAULT_MODEL, Device, SkullStrip, SynthesisSettings
from rela_bids.synthesis import SynthesisPlan, on_t1w, plan_synthesis, resolve_device, sample_pet
from rela_bids.transforms import Matrix
from rela_bids.volumes import Scan, load_volume, scan_name


@dataclass(frozen=True)
class SyntheticImages:
    """Synthetic PET of one tracer: a prediction, not a measurement.

    Attributes
    ----------
    tracer : label, such as ``18FAV45``.
    mean : mean of the samples, SUVR, on the grid of the T1w (its RAS+ affine), 0 outside the brain.
    std : standard deviation of the samples, SUVR, on the same grid; 0 everywhere of one sample.
    brain_mask : uint8, on the same grid.
    metadata : what the participant level writes beside the image: the model, what it was trained
        on, seed, steps, samples, reference region, and that the image is synthetic.
    """

    tracer: str
    mean: nib.Nifti1Image
    std: nib.Nifti1Image
    brain_mask: nib.Nifti1Image
    metadata: dict[str, Any]


@overload
def synthesize(
    t1w: Scan,
    flair: Scan | None = None,
    tracer: str = ...,
    *,
    model: str | Path = ...,
    n_samples: int | None = ...,
    sampling_steps: int | None = ...,
    seed: int = ...,
    device: Device = ...,
    skull_strip: SkullStrip = ...,
    brain_mask: Scan | None = ...,
    subject: str = ...,
    session: str = ...,
) -> SyntheticImages: ...


@overload
def synthesize(
    t1w: Scan,
    flair: Scan | None = None,
    tracer: Sequence[str] | None = None,
    *,
    model: str | Path = ...,
    n_samples: int | None = ...,
    sampling_steps: int | None = ...,
    seed: int = ...,
    device: Device = ...,
    skull_strip: SkullStrip = ...,
    brain_mask: Scan | None = ...,
    subject: str = ...,
    session: str = ...,
) -> dict[str, SyntheticImages]: ...


def synthesize(
    t1w: Scan,
    flair: Scan | None = None,
    tracer: str | Sequence[str] | None = None,
    *,
    model: str | Path = DEFAULT_MODEL,
    n_samples: int | None = None,
    sampling_steps: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    skull_strip: SkullStrip = "ants",
    brain_mask: Scan | None = None,
    subject: str = "",
    session: str = "",
) -> SyntheticImages | dict[str, SyntheticImages]:
    """Synthetic PET from one person's MRI.

    Parameters
    ----------
    t1w, flair : NIfTI files or nibabel images, whole head, as the scanner made them. The FLAIR
        need not be on the grid of the T1w, and may be left out.
    tracer : a label that the model knows, several, or None for all that it knows.
    model : name of a bundled model, a model file, or the folder of one. The default was trained on
        simulated PET and is for trying out the software.
    n_samples, sampling_steps : of the sampler; None takes the model's own.
    seed : of the noise.
    device : ``auto``, ``cpu``, ``cuda`` or ``mps``.
    skull_strip : ``ants``, ``deepbet``, or ``skip`` for MRI that is stripped already.
    brain_mask : of the brain in the space of the T1w, any grid; nothing is stripped then.
    subject, session : labels that the noise is seeded with, too. With those of a BIDS session, and
        the same seed and settings, the images are those of the participant level.

    Returns
    -------
    SyntheticImages
        Of `tracer`; a dictionary of them by label where `tracer` is not one label.

    Raises
    ------
    RelaBidsError
        With one line that says what is wrong and what to do: UsageError for a tracer or device that
        is not there, MissingInputError and BadDataError for files that are missing or unusable,
        and for a brain mask that is certainly wrong.
    """
    wanted = [tracer] if isinstance(tracer, str) else list(tracer or ())
    settings = SynthesisSettings(str(model), n_samples, sampling_steps, device, seed)
    plan = plan_synthesis(settings, wanted)
    plan = replace(plan, device=resolve_device(plan.device))
    if plan.simulated:
        warnings.warn(sidecars.SIMULATED_WARNING, stacklevel=2)
    anatomy = _prepare(t1w, flair, skull_strip, brain_mask)
    pets = _sample(anatomy, plan, (subject, session))
    images = {pet.tracer.label: _images(pet, anatomy, plan) for pet in pets}
    return images[tracer] if isinstance(tracer, str) else images


@dataclass(frozen=True)
class _Anatomy:
    """Bias-corrected T1w and, under ``flair``, FLAIR on the T1w's grid; `to_template` is affine."""

    mri: Mapping[str, nib.Nifti1Image]
    mask: nib.Nifti1Image
    to_template: Matrix


def _prepare(
    t1w: Scan, flair: Scan | None, skull_strip: SkullStrip, given_mask: Scan | None
) -> _Anatomy:
    """What `workflows.anatomical` does."""
    template: Any = nib.load(templates.brain_t1w())
    # The FLAIR is read before anything is computed: it may not be there.
    raw_flair = None if flair is None else load_volume(flair)
    head = registration.correct_bias(load_volume(t1w))
    if given_mask is None:
        mask = masks.make_mask(head, template, skull_strip, _marked_head(skull_strip))
    else:
        mask = masks.adopt_mask(given_mask, head)
    to_template = registration.align_brain(masks.strip(head, mask), template)
    quality = masks.mask_quality(head, mask, to_template, template)
    masks.require_usable(quality, scan_name(t1w))
    if quality.verdict == "warn":
        warnings.warn(f"the brain mask is doubtful: {quality.reason}", stacklevel=3)
    mri = {"t1w": head}
    if raw_flair is not None:
        moving = registration.correct_bias(raw_flair)
        mri["flair"] = transforms.resample(
            moving, head, registration.flair_to_t1w(moving, head, mask)
        )
    return _Anatomy(mri, mask, to_template)


def _marked_head(skull_strip: SkullStrip) -> tuple[nib.Nifti1Image, nib.Nifti1Image] | None:
    found = find_template() if skull_strip == "ants" else None
    return load_marked(found.t1w, found.mask) if found and found.whole_head else None


def _sample(anatomy: _Anatomy, plan: SynthesisPlan, names: tuple[str, str]) -> list[SyntheticPET]:
    """What `workflows.model_inputs` and the node ``sample_pet`` do."""
    import torch

    from rela_bids.model.checkpoint import load_model

    mri, inside = transforms.model_inputs(
        anatomy.mri, anatomy.mask, anatomy.to_template, plan.config.grid
    )
    sampling = Sampling(
        n_samples=plan.n_samples,
        steps=plan.sampling_steps,
        seed=plan.random_seed,
        names=names,
        device=plan.device,
    )
    threads = torch.get_num_threads()
    try:
        model = load_model(plan.path, device=plan.device)
        return list(
            sample_pet(model, mri["t1w"], mri.get("flair"), inside, list(plan.tracers), sampling)
        )
    finally:
        torch.set_num_threads(threads)


def _images(pet: SyntheticPET, anatomy: _Anatomy, plan: SynthesisPlan) -> SyntheticImages:
    head, inside = anatomy.mri["t1w"], np.asarray(anatomy.mask.dataobj) > 0
    given = [name for name, key in (("T1w", "t1w"), ("FLAIR", "flair")) if key in anatomy.mri]
    mean, std = (
        on_t1w(volume, anatomy.to_template, plan.config.grid, head, inside)
        for volume in (pet.mean, pet.std)
    )
    metadata = sidecars.synth_sidecar(
        pet.tracer,
        sidecars.Sampling.of(plan, given),
        statistic="mean",
        sources=(),
        spatial_reference=None,
    )
    return SyntheticImages(pet.tracer.label, mean, std, anatomy.mask, metadata)
