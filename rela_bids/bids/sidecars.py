"""What is written beside an image: pure functions that return a sidecar's content.

No field of an acquisition is copied: a derivative was computed, not scanned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rela_bids.tracers import Tracer

if TYPE_CHECKING:
    from rela_bids.synthesis import SynthesisPlan

SIMULATED_WARNING = (
    "The model was trained on simulated PET. It is for trying out the software; its images say "
    "nothing about a person."
)


@dataclass(frozen=True)
class Sampling:
    """How a synthetic PET came about.

    Attributes
    ----------
    inputs : the images the model saw, of ``"T1w"`` and ``"FLAIR"``.
    trained_on : the training data in words.
    simulated : whether the model learned from simulated PET.
    random_seed, sampling_steps, n_samples : of the sampler.
    """

    model: str
    model_sha256: str
    trained_on: str
    simulated: bool
    inputs: tuple[str, ...]
    random_seed: int
    sampling_steps: int
    n_samples: int

    @classmethod
    def of(cls, plan: "SynthesisPlan", given: Sequence[str]) -> "Sampling":
        """By a plan, of a session that has the images `given`."""
        return cls(
            model=plan.name,
            model_sha256=plan.sha256,
            trained_on=plan.trained_on,
            simulated=plan.simulated,
            inputs=tuple(image for image in given if image.lower() in plan.config.inputs),
            random_seed=plan.random_seed,
            sampling_steps=plan.sampling_steps,
            n_samples=plan.n_samples,
        )


def synth_sidecar(
    tracer: Tracer,
    sampling: Sampling,
    *,
    statistic: Literal["mean", "std"],
    sources: Sequence[str],
    spatial_reference: str | None,
) -> dict[str, Any]:
    """Of a synthetic PET (`statistic` mean) or of the spread of its samples (std), in SUVR.

    `sources` are BIDS URIs; `spatial_reference` is the URI of the image whose grid it is on, None
    in a standard space.
    """
    what = (
        f"mean of {sampling.n_samples} samples"
        if statistic == "mean"
        else f"standard deviation of {sampling.n_samples} samples"
    )
    description = (
        f"Synthetic {tracer.name} PET ({what}), predicted from {' and '.join(sampling.inputs)} "
        "by a diffusion model. Not a measurement."
    )
    content = {
        "Description": description + (f" {SIMULATED_WARNING}" if sampling.simulated else ""),
        "Synthetic": True,
        "Statistic": statistic,
        "Units": "SUVR",
        "ReferenceRegion": tracer.reference_region,
        "TracerName": tracer.name,
        "TracerRadionuclide": tracer.radionuclide,
        "Model": {
            "Name": sampling.model,
            "SHA256": sampling.model_sha256,
            "TrainedOn": sampling.trained_on,
            "TrainedOnSimulatedPET": sampling.simulated,
        },
        "Inputs": list(sampling.inputs),
        "RandomSeed": sampling.random_seed,
        "SamplingSteps": sampling.sampling_steps,
        "Samples": sampling.n_samples,
        "SkullStripped": True,
    }
    return content | _provenance(sources, spatial_reference)


def preproc_sidecar(
    *,
    description: str,
    skull_stripped: bool,
    sources: Sequence[str],
    spatial_reference: str | None = None,
) -> dict[str, Any]:
    """Of a T1w or FLAIR after bias correction and registration."""
    content = {"Description": description, "SkullStripped": skull_stripped}
    return content | _provenance(sources, spatial_reference)


def mask_sidecar(
    *, description: str, sources: Sequence[str], spatial_reference: str | None = None
) -> dict[str, Any]:
    """Of a brain mask."""
    content = {"Description": description, "Type": "Brain"}
    return content | _provenance(sources, spatial_reference)


def transform_sidecar(
    *, moving: str, fixed: str, kind: Literal["affine", "SyN"], sources: Sequence[str]
) -> dict[str, Any]:
    """Of a transform that resamples images of space `moving` onto space `fixed`."""
    return {
        "Description": f"Transform of images from {moving} to {fixed} ({kind}), for "
        "antsApplyTransforms",
        "Sources": list(sources),
    }


def _provenance(sources: Sequence[str], spatial_reference: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {"Sources": list(sources)}
    return content | ({"SpatialReference": spatial_reference} if spatial_reference else {})
