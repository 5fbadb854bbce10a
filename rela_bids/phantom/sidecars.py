"""What the phantoms' BIDS sidecars and dataset descriptions say. Times are in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rela_bids import __version__
from rela_bids.phantom.person import MRI_SHARE
from rela_bids.tracers import Tracer

BIDS_VERSION = "1.10.0"

NOTICE = (
    "SIMULATED: a digital phantom made by rela_bids.phantom. No voxel of it was measured in a "
    "person; it is for trying out and testing software, not for conclusions about people."
)

HALF_LIFE = {"C11": 1221.8, "F18": 6586.2}

INJECTED_MBQ = 370.0
INJECTED_MICROGRAM = 2.0

README = f"""# Digital head phantoms

{NOTICE}

Each person is the ICBM 2009 template, deformed and aged at random, seen by a random scanner; the
PET is what each tracer's pattern gives in that head, blurred and noisy, in its own position. Of
the variance of each person's burden (amyloid, tau, inflammation, hypometabolism), {MRI_SHARE:.0%}
follows what the MRI shows (atrophy and lesions); the rest is chance.

Raw sidecars hold `SimulatedPointsToT1w`: a 4 x 4 matrix from RAS+ mm of that image to RAS+ mm of
the T1w of the same session. The truth (SUVR without and with blur, tissues, regions, brain) is the
derivative dataset `derivatives/truth`, on the T1w's grid.
"""

PARTICIPANTS = {
    "age": {"Description": "Simulated age (at the first session)", "Units": "year"},
    "sex": {"Description": "Simulated sex", "Levels": {"F": "female", "M": "male"}},
    "group": {
        "Description": "By the simulated amyloid burden",
        "Levels": {"control": "burden up to 0.5", "patient": "burden above 0.5"},
    },
    "atrophy": {"Description": "Simulated atrophy, standard normal, more is worse"},
    "lesions": {"Description": "Simulated load of white-matter lesions, standard normal"},
    "amyloid": {"Description": "Simulated amyloid burden, 0 to 1"},
    "tau": {"Description": "Simulated tau burden, 0 to 1"},
    "inflammation": {"Description": "Simulated inflammation, 0 to 1"},
    "hypometabolism": {"Description": "Simulated hypometabolism, 0 to 1"},
    "affinity": {"Description": "Simulated share of specific TSPO signal seen (rs6971)"},
}

TISSUE_LABELS = ((1, "grey matter"), (2, "white matter"), (3, "CSF"), (4, "lesion"))


def dataset_description(name: str, *, derivative: bool) -> dict[str, object]:
    """``dataset_description.json`` of the raw dataset or of the truth."""
    description: dict[str, object] = {
        "Name": f"{name} (SIMULATED, not measured)",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative" if derivative else "raw",
        "License": "CC0",
        "Authors": ["rela_bids.phantom, a program"],
        "GeneratedBy": [
            {"Name": "rela_bids.phantom", "Version": __version__, "Description": NOTICE}
        ],
    }
    if derivative:
        description["DatasetLinks"] = {"raw": "../.."}
        description["SourceDatasets"] = [{"URL": "../.."}]
    return description


def simulated(description: str, **fields: object) -> dict[str, object]:
    """A sidecar that says first what the file is not."""
    return {"Simulated": True, "Description": f"{description}. {NOTICE}", **fields}


def matrix(points_to_t1w: NDArray[np.float64]) -> list[list[float]]:
    """A 4 x 4 matrix for JSON."""
    return np.round(points_to_t1w, 6).tolist()


_SCANNER = {
    "Manufacturer": "none (simulated)",
    "ManufacturersModelName": "rela_bids.phantom",
    "MagneticFieldStrength": 3,
}


def t1w() -> dict[str, object]:
    """Sidecar of a T1w; its timing is nominal."""
    return simulated(
        "T1-weighted MRI of a digital phantom; field strength and timing are nominal",
        **_SCANNER,
        RepetitionTime=2.3,
        EchoTime=0.003,
        InversionTime=0.9,
        FlipAngle=9,
    )


def flair(points_to_t1w: NDArray[np.float64]) -> dict[str, object]:
    """Sidecar of a FLAIR, with its true position."""
    return simulated(
        "T2-FLAIR MRI of a digital phantom; field strength and timing are nominal",
        **_SCANNER,
        RepetitionTime=5.0,
        EchoTime=0.39,
        InversionTime=1.65,
        SimulatedPointsToT1w=matrix(points_to_t1w),
    )


def true_suvr(tracer: Tracer, name: str, fwhm: float) -> dict[str, object]:
    """Sidecar of a true SUVR map: ``"true"`` without, ``"seen"`` with the scanner's blur, mm."""
    kind = {
        "true": "True SUVR, neither blurred nor noisy",
        "seen": f"True SUVR at the simulated scanner's {fwhm:.2f} mm, without noise: what a "
        "perfect pipeline measures",
    }[name]
    return simulated(
        f"{kind}. Its mean in the reference region is 1",
        Units="SUVR",
        TracerName=tracer.name,
        TracerRadionuclide=tracer.radionuclide,
        ReferenceRegion=tracer.reference_region,
        SimulatedFWHM=round(fwhm, 2) if name == "seen" else 0,
        SkullStripped=False,
    )


@dataclass(frozen=True)
class Frames:
    """Start and length of each frame, seconds after injection."""

    start: tuple[float, ...]
    duration: tuple[float, ...]

    @classmethod
    def about_window(cls, tracer: Tracer, n: int) -> "Frames":
        """`n` frames that fill the tracer's window, and one like them before and after.

        >>> from rela_bids.tracers import TRACERS
        >>> Frames.about_window(TRACERS["18FAV45"], 4).start
        (2700.0, 3000.0, 3300.0, 3600.0, 3900.0, 4200.0)
        """
        begin, end = (60.0 * minute for minute in tracer.frame_window)
        length = (end - begin) / n
        return cls(tuple(begin + length * i for i in range(-1, n + 1)), tuple([length] * (n + 2)))

    def in_window(self, tracer: Tracer) -> list[bool]:
        """Which frames lie within the tracer's window."""
        begin, end = (60.0 * minute for minute in tracer.frame_window)
        spans = zip(self.start, self.duration, strict=True)
        return [start >= begin and start + length <= end for start, length in spans]


def pet(
    tracer: Tracer,
    frames: Frames,
    fwhm: float,
    points_to_t1w: NDArray[np.float64],
    frame_points_to_t1w: Sequence[NDArray[np.float64]],
) -> dict[str, object]:
    """Sidecar of a raw PET with all that BIDS requires; the scanner and the dose are nominal."""
    return simulated(
        f"PET of a digital phantom with {tracer.name}; scanner and dose are nominal",
        Manufacturer=_SCANNER["Manufacturer"],
        ManufacturersModelName=_SCANNER["ManufacturersModelName"],
        Units="Bq/mL",
        BodyPart="BRAIN",
        TracerName=tracer.name,
        TracerRadionuclide=tracer.radionuclide,
        InjectedRadioactivity=INJECTED_MBQ,
        InjectedRadioactivityUnits="MBq",
        InjectedMass=INJECTED_MICROGRAM,
        InjectedMassUnits="ug",
        SpecificRadioactivity=INJECTED_MBQ * 1e6 / INJECTED_MICROGRAM,
        SpecificRadioactivityUnits="Bq/ug",
        ModeOfAdministration="bolus",
        TimeZero="10:00:00",
        ScanStart=frames.start[0],
        InjectionStart=0,
        FrameTimesStart=list(frames.start),
        FrameDuration=list(frames.duration),
        AcquisitionMode="dynamic",
        ImageDecayCorrected=True,
        ImageDecayCorrectionTime=0,
        ReconMethodName="simulated: Gaussian blur and smooth noise",
        ReconMethodParameterLabels=["fwhm"],
        ReconMethodParameterUnits=["mm"],
        ReconMethodParameterValues=[round(fwhm, 2)],
        ReconFilterType="none",
        ReconFilterSize=0,
        AttenuationCorrection="none needed (simulated)",
        SimulatedPointsToT1w=matrix(points_to_t1w),
        SimulatedFramePointsToT1w=[matrix(m) for m in frame_points_to_t1w],
    )
