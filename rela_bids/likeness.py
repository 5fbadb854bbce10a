"""Whether a session's MRI looks like what a model of this kind is trained on.

Measured on the model's grid, where the brain is aligned with the template, so that no statistics
of training data are needed: a T1w has white matter brighter than grey and grey brighter than CSF,
where the template has them; a FLAIR has dark CSF.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from rela_bids import templates
from rela_bids.transforms import to_model_grid
from rela_bids.volumes import Array, Grid

# Of the template's tissue maps, 0 to 255: this much is that tissue and nothing else.
PURE = 200

# Less than these is unlike a T1w or FLAIR; see benchmarks/likeness.py for what heads have.
LEAST_CORRELATION = 0.4
LEAST_T1W_CONTRAST = 0.3
LEAST_FLAIR_CONTRAST = 0.2


@dataclass(frozen=True)
class Likeness:
    """What is measured of a session's MRI in the brain; None where it has no FLAIR.

    Attributes
    ----------
    t1w_correlation : Pearson's r of T1w and template, -1 to 1.
    t1w_contrast : white minus grey matter, in interquartile ranges of the brain.
    flair_contrast : grey and white matter minus CSF, in interquartile ranges of the brain.
    """

    t1w_correlation: float
    t1w_contrast: float
    flair_contrast: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def measure_likeness(
    t1w: Array, flair: Array | None, mask: NDArray[np.bool_], grid: Grid
) -> Likeness:
    """Measure it; arrays (X, Y, Z) on the model grid, MRI in any unit."""
    brain = _on(grid, templates.brain_t1w())
    grey, white = (_on(grid, templates.tissue_probability(tissue)) for tissue in ("gm", "wm"))
    tissues = {"grey": grey > PURE, "white": white > PURE}
    tissues["csf"] = (255 - grey - white > PURE) & (brain > 0)
    tissues = {name: where & mask for name, where in tissues.items()}
    common = mask & (brain > 0)
    t1w_means = _means(t1w, mask, tissues)
    flair_contrast = None
    if flair is not None:
        means = _means(flair, mask, tissues)
        flair_contrast = (means["grey"] + means["white"]) / 2 - means["csf"]
    return Likeness(
        t1w_correlation=float(np.corrcoef(t1w[common], brain[common])[0, 1]),
        t1w_contrast=t1w_means["white"] - t1w_means["grey"],
        flair_contrast=flair_contrast,
    )


def _on(grid: Grid, path: Any) -> Array:
    return to_model_grid(nib.load(path), np.eye(4), grid)


def _means(
    data: Array, mask: NDArray[np.bool_], tissues: Mapping[str, NDArray[np.bool_]]
) -> dict[str, float]:
    """Median of each tissue, in interquartile ranges of the brain."""
    low, high = np.percentile(data[mask], [25, 75])
    spread = max(float(high - low), 1e-6)
    return {
        name: float(np.median(data[where])) / spread if where.any() else float("nan")
        for name, where in tissues.items()
    }


def unlike(found: Likeness) -> list[str]:
    """Lines for people on what is unlike a T1w or FLAIR; written so that NaN is unlike, too."""
    lines = []
    if not found.t1w_correlation >= LEAST_CORRELATION:
        lines.append(
            f"The T1w is unlike what models are trained on: in the brain it correlates with the "
            f"template's by {found.t1w_correlation:.2f}, where a T1w has {LEAST_CORRELATION:g} or "
            "more. Is it a T1w, and is it well aligned?"
        )
    elif not found.t1w_contrast >= LEAST_T1W_CONTRAST:
        lines.append(
            "The T1w is unlike what models are trained on: white matter is hardly brighter than "
            f"grey ({found.t1w_contrast:.2f} interquartile ranges, where a T1w has "
            f"{LEAST_T1W_CONTRAST:g} or more)."
        )
    flair = found.flair_contrast
    if flair is not None and not flair >= LEAST_FLAIR_CONTRAST:
        lines.append(
            "The FLAIR is unlike what models are trained on: CSF is not darker than tissue "
            f"({flair:.2f} interquartile ranges, where a FLAIR has {LEAST_FLAIR_CONTRAST:g} or "
            "more). Is it a T2w without inversion?"
        )
    return lines
