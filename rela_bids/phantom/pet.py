"""The uptake of each tracer in a head, and what a PET scanner makes of it.

A tracer's pattern is data: to add a tracer, add a `Pattern` to `PATTERNS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids import templates
from rela_bids.exceptions import UsageError
from rela_bids.phantom.anatomy import Head
from rela_bids.phantom.base import smooth_on
from rela_bids.phantom.person import Person
from rela_bids.phantom.regions import CORTICAL_GROUPS, GROUPS, SUBCORTICAL_GROUPS, lookup
from rela_bids.tracers import Tracer
from rela_bids.transforms import FWHM
from rela_bids.volumes import Array

# How sharply a region fills up as the burden passes its onset, and how much onsets differ.
STAGE_WIDTH = 0.07
ONSET_JITTER = 0.06

# Smooth variation within regions that no table knows of, relative standard deviation.
LOCAL_VARIATION = 0.03


@dataclass(frozen=True)
class Spread:
    """How a burden shows in one group of regions: a sigmoid of the burden.

    Attributes
    ----------
    gain : change of SUVR at full burden.
    onset : burden at which half of it is reached.
    """

    gain: float
    onset: float = 0.5


@dataclass(frozen=True)
class Pattern:
    """SUVR of one tracer by tissue and region, before it is scaled to its reference region.

    Attributes
    ----------
    burden : the attribute of `Person` that drives `spread`.
    grey : SUVR of grey matter and deep structures without burden; `cortex` where not named.
    spread : what the burden adds, by group.
    cortex, white, cerebellar_white, csf, lesion : SUVR of what the groups do not name.
    outside : SUVR of soft tissue around the brain; bone has `bone`.
    affinity : whether the person's affinity scales what is above and below 1 (TSPO genotype).
    between_people : standard deviation of each group's SUVR without burden, relative.
    """

    burden: str
    cortex: float
    grey: Mapping[str, float]
    spread: Mapping[str, Spread]
    white: float
    cerebellar_white: float
    csf: float
    lesion: float
    outside: float
    bone: float
    affinity: bool = False
    between_people: float = 0.04


def _amyloid(scale: float) -> dict[str, Spread]:
    """Precuneus and cingulate first and most; primary cortex and medial temporal lobe spared."""
    early, late = 0.4, 0.55
    gains = {
        "precuneus": (1.1, early),
        "posterior cingulate": (1.1, early),
        "anterior cingulate": (1.0, early),
        "prefrontal": (0.95, early),
        "parietal": (0.85, late),
        "lateral temporal": (0.8, late),
        "inferior temporal": (0.75, late),
        "insula": (0.7, late),
        "lateral occipital": (0.45, late),
        "medial occipital": (0.3, 0.7),
        "sensorimotor": (0.25, 0.7),
        "entorhinal": (0.2, 0.7),
        "caudate": (0.7, 0.6),
        "putamen": (0.6, 0.6),
        "hippocampus": (0.15, 0.7),
        "amygdala": (0.2, 0.7),
        "thalamus": (0.2, 0.7),
    }
    return {group: Spread(scale * gain, onset) for group, (gain, onset) in gains.items()}


PATTERNS: dict[str, Pattern] = {
    "11CPIB": Pattern(
        burden="amyloid",
        cortex=1.1,
        grey={
            "thalamus": 1.35,
            "pallidum": 1.45,
            "brain stem": 1.5,
            "putamen": 1.2,
            "ventral diencephalon": 1.45,
            "cerebellum": 0.95,
        },
        spread=_amyloid(1.2),
        white=1.5,
        cerebellar_white=1.25,
        csf=0.4,
        lesion=1.25,
        outside=0.4,
        bone=0.2,
    ),
    "18FAV45": Pattern(
        burden="amyloid",
        cortex=1.1,
        grey={
            "thalamus": 1.4,
            "pallidum": 1.55,
            "brain stem": 1.65,
            "putamen": 1.3,
            "ventral diencephalon": 1.6,
            "cerebellum": 0.92,
        },
        spread=_amyloid(0.75),
        white=1.75,
        cerebellar_white=1.35,
        csf=0.45,
        lesion=1.4,
        outside=0.5,
        bone=0.45,
    ),
    "18FFBB": Pattern(
        burden="amyloid",
        cortex=1.1,
        grey={
            "thalamus": 1.4,
            "pallidum": 1.5,
            "brain stem": 1.7,
            "putamen": 1.25,
            "ventral diencephalon": 1.6,
            "cerebellum": 0.92,
        },
        spread=_amyloid(0.8),
        white=1.7,
        cerebellar_white=1.35,
        csf=0.4,
        lesion=1.35,
        outside=0.45,
        bone=0.4,
    ),
    "18FAV1451": Pattern(
        burden="tau",
        cortex=1.05,
        grey={
            "caudate": 1.35,
            "putamen": 1.5,
            "pallidum": 1.65,
            "thalamus": 1.25,
            "brain stem": 1.15,
            "ventral diencephalon": 1.35,
            "hippocampus": 1.15,
            "choroid plexus": 1.6,
            "cerebellum": 1.0,
        },
        # Braak stages: I-II, III-IV, V, VI.
        spread={
            "entorhinal": Spread(1.1, 0.25),
            "hippocampus": Spread(0.5, 0.3),
            "amygdala": Spread(0.9, 0.3),
            "inferior temporal": Spread(1.6, 0.4),
            "lateral temporal": Spread(1.4, 0.5),
            "posterior cingulate": Spread(1.3, 0.55),
            "precuneus": Spread(1.4, 0.55),
            "parietal": Spread(1.4, 0.6),
            "insula": Spread(0.7, 0.6),
            "lateral occipital": Spread(1.1, 0.65),
            "prefrontal": Spread(1.0, 0.7),
            "anterior cingulate": Spread(0.7, 0.7),
            "medial occipital": Spread(0.6, 0.85),
            "sensorimotor": Spread(0.5, 0.85),
        },
        white=1.0,
        cerebellar_white=1.05,
        csf=0.5,
        lesion=1.05,
        outside=0.5,
        bone=0.6,
    ),
    "11CPBR28": Pattern(
        burden="inflammation",
        cortex=1.08,
        grey={
            "thalamus": 1.35,
            "brain stem": 1.3,
            "pallidum": 1.0,
            "putamen": 1.05,
            "caudate": 0.95,
            "hippocampus": 1.1,
            "ventral diencephalon": 1.2,
            "medial occipital": 1.1,
            "choroid plexus": 1.4,
            "cerebellum": 1.03,
        },
        spread={
            group: Spread(gain)
            for group, gain in {
                **dict.fromkeys(CORTICAL_GROUPS, 0.25),
                "lateral temporal": 0.4,
                "inferior temporal": 0.4,
                "parietal": 0.35,
                "entorhinal": 0.35,
                "hippocampus": 0.35,
                "thalamus": 0.35,
                "brain stem": 0.2,
            }.items()
        },
        white=0.82,
        cerebellar_white=0.9,
        csf=0.35,
        lesion=1.3,
        outside=0.7,
        bone=0.7,
        affinity=True,
        between_people=0.05,
    ),
    "18FFDG": Pattern(
        burden="hypometabolism",
        cortex=1.9,
        grey={
            "prefrontal": 1.95,
            "sensorimotor": 1.83,
            "precuneus": 2.01,
            "posterior cingulate": 2.06,
            "medial occipital": 2.12,
            "lateral occipital": 1.89,
            "inferior temporal": 1.65,
            "entorhinal": 1.3,
            "hippocampus": 1.36,
            "amygdala": 1.3,
            "thalamus": 1.89,
            "caudate": 1.95,
            "putamen": 2.12,
            "pallidum": 1.25,
            "ventral diencephalon": 1.15,
            "brain stem": 1.0,
            "cerebellum": 1.53,
            "choroid plexus": 0.5,
        },
        spread={
            "posterior cingulate": Spread(-0.72, 0.45),
            "precuneus": Spread(-0.6, 0.45),
            "parietal": Spread(-0.6, 0.5),
            "lateral temporal": Spread(-0.48, 0.55),
            "inferior temporal": Spread(-0.48, 0.55),
            "entorhinal": Spread(-0.24, 0.4),
            "hippocampus": Spread(-0.24, 0.4),
            "prefrontal": Spread(-0.36, 0.75),
        },
        white=0.85,
        cerebellar_white=0.9,
        csf=0.3,
        lesion=0.65,
        outside=0.4,
        bone=0.25,
    ),
}


def pattern_of(label: str) -> Pattern:
    """The pattern of a tracer; raises UsageError for a tracer without one."""
    if label not in PATTERNS:
        raise UsageError(
            f"phantoms have no uptake pattern for the tracer {label}: choose among "
            f"{', '.join(PATTERNS)}"
        )
    return PATTERNS[label]


def true_suvr(seed: Sequence[int], head: Head, person: Person, tracer: Tracer) -> Array:
    """SUVR without blur or noise, its mean in the tracer's reference region 1; (X, Y, Z).

    `seed` and the tracer's label decide the chance in it, so that a person's map does not depend
    on which other tracers are made.
    """
    rng = tracer_generator(seed, tracer)
    pattern = pattern_of(tracer.label)
    regional = _regional(rng, person, pattern)
    deep = {group: regional[group] for group in SUBCORTICAL_GROUPS}
    white = deep | {"cerebellum": pattern.cerebellar_white}
    # The atlas' choroid plexus lies within what the tissue maps call CSF.
    csf = {"choroid plexus": regional["choroid plexus"]}
    suvr = (
        head.tissues["grey"] * lookup(head.labels, regional, pattern.cortex)
        + head.tissues["white"] * lookup(head.labels, white, pattern.white)
        + head.tissues["lesion"] * pattern.lesion
        + head.tissues["csf"] * lookup(head.labels, csf, pattern.csf)
    )
    if pattern.affinity:
        suvr = suvr + (person.affinity - 1) * (suvr - 1) * (suvr > 1)
    soft = sum(head.tissues[name] for name in ("fat", "muscle", "eye") if name in head.tissues)
    suvr = suvr + pattern.outside * soft
    suvr += pattern.bone * (head.tissues["bone"] + head.tissues["marrow"])
    suvr *= 1 + LOCAL_VARIATION * smooth_on(rng, suvr.shape, 8.0 / head.grid.voxel_size)
    return scaled_to_reference(suvr, head, tracer)


def tracer_generator(seed: Sequence[int], tracer: Tracer) -> np.random.Generator:
    """Chance that is the tracer's own."""
    return np.random.default_rng([*seed, crc32(tracer.label.encode())])


def _regional(rng: np.random.Generator, person: Person, pattern: Pattern) -> dict[str, float]:
    burden = getattr(person, pattern.burden)
    suvr = {}
    for group in GROUPS:
        own = pattern.grey.get(group, pattern.cortex)
        own *= 1 + pattern.between_people * rng.standard_normal()
        spread = pattern.spread.get(group, Spread(0.0))
        onset = spread.onset + ONSET_JITTER * rng.standard_normal()
        suvr[group] = own + spread.gain / (1 + np.exp(-(burden - onset) / STAGE_WIDTH))
    return suvr


def reference_mask(head: Head, tracer: Tracer) -> NDArray[np.bool_]:
    """The tracer's reference region in the head, from the atlas that was deformed with it."""
    region = templates.REFERENCE_REGIONS[tracer.reference_region]
    return region(head.atlas, head.template_z)


def scaled_to_reference(image: Array, head: Head, tracer: Tracer) -> Array:
    """`image` divided by its mean in the tracer's reference region."""
    return image / image[reference_mask(head, tracer)].mean()


def seen_by_scanner(suvr: Array, head: Head, tracer: Tracer, fwhm: float) -> Array:
    """`suvr` at the scanner's resolution (`fwhm`, mm), scaled again to the reference region."""
    blurred = ndimage.gaussian_filter(suvr, fwhm / FWHM / head.grid.voxel_size, truncate=3.0)
    return scaled_to_reference(blurred, head, tracer)


def noise(rng: np.random.Generator, image: Array, level: float, sigma: float) -> Array:
    """`image` with noise of a reconstruction: smooth (`sigma` voxels), stronger where it is hot.

    `level` is the standard deviation relative to an image value of 1.
    """
    field = smooth_on(rng, image.shape, sigma)
    return np.maximum(image + level * np.sqrt(np.maximum(image, 0)) * field, 0)
