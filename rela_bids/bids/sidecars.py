"""What is written beside an image: pure functions that return a sidecar's content.

No field of an acquisition is copied: a derivative was computed, not scanned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rela_bids.atlases import Atlas
from rela_bids.frames import PetPlan
from rela_bids.quantification import Agreement
from rela_bids.regional_table import describe_columns
from rela_bids.tracers import Conversion, Tracer

NOT_FOR = "Not for clinical use. MRI does not determine amyloid or tau."

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
        "Description": description + _simulated(sampling),
        "Synthetic": True,
        "Statistic": statistic,
        "Units": "SUVR",
        **_tracer(tracer),
        **_model(sampling),
        "SkullStripped": True,
    }
    return content | _provenance(sources, spatial_reference)


def _simulated(sampling: Sampling) -> str:
    return f" {SIMULATED_WARNING}" if sampling.simulated else ""


def _tracer(tracer: Tracer) -> dict[str, Any]:
    return {
        "ReferenceRegion": tracer.reference_region,
        "TracerName": tracer.name,
        "TracerRadionuclide": tracer.radionuclide,
    }


def _model(sampling: Sampling) -> dict[str, Any]:
    return {
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
    }


def measured_sidecar(
    tracer: Tracer, plan: PetPlan, *, sources: Sequence[str], spatial_reference: str
) -> dict[str, Any]:
    """Of a measured PET in SUVR on the T1w grid."""
    region = "as it was given" if plan.is_suvr else f"divided by the mean of {_the(tracer)}"
    content = {
        "Description": f"Measured {tracer.name} PET: the late frames averaged, aligned with the "
        f"T1w (rigid), {region}. 0 outside the PET's field of view.",
        "Synthetic": False,
        "Units": "SUVR",
        **_tracer(tracer),
        "SkullStripped": False,
    }
    return content | _frames(plan) | _provenance(sources, spatial_reference)


def _the(tracer: Tracer) -> str:
    return f"the {tracer.reference_region}"


def _frames(plan: PetPlan) -> dict[str, Any]:
    frames: dict[str, Any] = {"FramesUsed": [index + 1 for index in plan.frames]}
    if plan.minutes:
        frames["MinutesAfterInjection"] = [round(minutes, 3) for minutes in plan.minutes]
    return frames


def regions_sidecar(atlas: Atlas, *, t1w: str) -> dict[str, Any]:
    """Of a person's regions on the grid of the T1w, a URI, and of the table of their names."""
    return {
        "Description": f"Regions of the T1w: {atlas.source}",
        **_atlas(atlas),
        **_provenance([t1w], t1w),
    }


def _atlas(atlas: Atlas) -> dict[str, Any]:
    content = {"AtlasName": atlas.label, "AtlasSource": atlas.source}
    return content | ({"AtlasSHA256": atlas.sha256} if atlas.sha256 else {})


def suvr_table_sidecar(
    tracer: Tracer, atlas: Atlas, made_from: Sampling | PetPlan, *, sources: Sequence[str]
) -> dict[str, Any]:
    """Of a table of regional SUVR; `made_from` says whether of synthetic or measured PET."""
    synthetic = isinstance(made_from, Sampling)
    what = (
        f"Regional SUVR of synthetic {tracer.name} PET, predicted from "
        f"{' and '.join(made_from.inputs)} by a diffusion model. Not a measurement. {NOT_FOR}"
        + _simulated(made_from)
        if isinstance(made_from, Sampling)
        else f"Regional SUVR of measured {tracer.name} PET. Not for clinical use."
    )
    return {
        "Description": what,
        "Synthetic": synthetic,
        **_atlas(atlas),
        **_tracer(tracer),
        **(_model(made_from) if isinstance(made_from, Sampling) else _frames(made_from)),
        **(_conversion(tracer.conversion) if tracer.conversion else {}),
        **describe_columns(synthetic=synthetic, conversion=tracer.conversion),
        **_provenance(sources, None),
    }


def _conversion(conversion: Conversion) -> dict[str, Any]:
    return {
        "Approximate": True,
        "Conversion": {
            "Scale": conversion.scale,
            "Formula": conversion.formula,
            "Source": conversion.source,
            "Approximate": True,
            "ApproximateBecause": "The coefficients hold for the standard SPM pipeline and the "
            "published masks. This pipeline and its regions are not calibrated to them.",
        },
    }


def agreement_sidecar(
    tracer: Tracer, sampling: Sampling, *, sources: Sequence[str]
) -> dict[str, Any]:
    """Of the table that compares a synthetic PET with the measured one."""
    compared = (
        "in the brain mask, where the measured PET has seen it",
        "over the whole T1w grid, both images 0 outside the brain; it grows with the air around",
    )
    metrics = {
        "psnr": ("Peak signal-to-noise ratio, 10 log10(data_range^2 / mean squared error)", "dB"),
        "ssim": ("Structural similarity in 3-D, Gaussian window of 11 voxels, sigma 1.5", None),
        "mae": ("Mean absolute error", "SUVR"),
    }
    columns: dict[str, Any] = {}
    for metric, (meaning, unit) in metrics.items():
        for place, where in zip(("brain", "volume"), compared, strict=True):
            columns[f"{metric}_{place}"] = {"Description": f"{meaning}, {where}"}
            if unit:
                columns[f"{metric}_{place}"]["Units"] = unit
    columns["data_range"] = {
        "Description": "What PSNR and SSIM refer to; a constant of the tracer",
        "Units": "SUVR",
    }
    return {
        "Description": f"Synthetic against measured {tracer.name} PET of one session. {NOT_FOR}"
        + _simulated(sampling),
        **_tracer(tracer),
        **_model(sampling),
        **{field: columns[field] for field in Agreement.__dataclass_fields__},
        **_provenance(sources, None),
    }


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
