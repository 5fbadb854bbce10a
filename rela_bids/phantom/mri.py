"""What a random scanner makes of a head: T1w and FLAIR.

Intensities are relative to white matter (T1w) or grey matter (FLAIR); the scanner's own units are
a random factor on top.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from rela_bids.phantom.anatomy import Head
from rela_bids.phantom.base import smooth_on
from rela_bids.phantom.regions import SUBCORTICAL_GROUPS, lookup
from rela_bids.transforms import FWHM
from rela_bids.volumes import Array


@dataclass(frozen=True)
class Contrast:
    """Signal by tissue, how much of the template's texture shows, and each region's own shift."""

    tissues: Mapping[str, float]
    texture: float
    regions: Mapping[str, float]


@dataclass(frozen=True)
class Acquisition:
    """How a contrast is sampled.

    Attributes
    ----------
    bias : standard deviation of the logarithm of the bias field.
    noise : standard deviation relative to white matter, before any blur of interpolation.
    resolution : full width of the point spread, mm.
    slices : axis and thickness, mm, of a 2-D acquisition; None for a 3-D one.
    units : the scanner's factor.
    """

    bias: float
    noise: float
    resolution: float
    slices: tuple[int, float] | None
    units: float


def draw_t1w_contrast(rng: np.random.Generator) -> Contrast:
    """An inversion-prepared gradient echo, or a spin echo with its weaker contrast."""
    prepared = rng.random() < 0.65
    grey = rng.uniform(0.62, 0.78) if prepared else rng.uniform(0.78, 0.93)
    csf = rng.uniform(0.18, 0.42) if prepared else rng.uniform(0.3, 0.55)
    tissues = {
        "white": 1.0,
        "grey": grey,
        "csf": csf,
        "lesion": grey + (1 - grey) * rng.uniform(-0.3, 0.9),
        "bone": rng.uniform(0.05, 0.15),
        "marrow": rng.uniform(0.5, 1.1),
        "fat": rng.uniform(0.9, 1.5),
        "muscle": rng.uniform(0.4, 0.65),
        "eye": csf * rng.uniform(0.9, 1.2),
    }
    return Contrast(tissues, rng.uniform(0.5, 1.0) * (1 - csf), _regional(rng, 0.06 * (1 - csf)))


def draw_flair_contrast(rng: np.random.Generator) -> Contrast:
    """Grey matter at least as bright as white, CSF dark, lesions bright."""
    white = rng.uniform(0.72, 0.95)
    tissues = {
        "white": white,
        "grey": 1.0,
        "csf": rng.uniform(0.08, 0.35),
        "lesion": rng.uniform(1.2, 1.75),
        "bone": rng.uniform(0.05, 0.15),
        "marrow": rng.uniform(0.4, 0.9),
        "fat": rng.uniform(0.6, 1.3),
        "muscle": rng.uniform(0.35, 0.6),
        "eye": rng.uniform(0.1, 0.35),
    }
    return Contrast(tissues, rng.uniform(-0.3, 0.1), _regional(rng, 0.05))


def _regional(rng: np.random.Generator, spread: float) -> dict[str, float]:
    return {group: spread * rng.standard_normal() for group in SUBCORTICAL_GROUPS}


def draw_acquisition(rng: np.random.Generator, *, bias: float, may_be_2d: bool) -> Acquisition:
    """A scanner's sampling at random; `bias` 1 is raw data, less is what correction left."""
    slices = None
    if may_be_2d and rng.random() < 0.5:
        slices = (int(rng.choice(3, p=(0.1, 0.1, 0.8))), rng.uniform(2.5, 4.5))
    return Acquisition(
        bias=bias * rng.uniform(0.05, 0.2),
        noise=rng.uniform(0.01, 0.06),
        resolution=rng.uniform(0.8, 1.4),
        slices=slices,
        units=float(np.exp(rng.uniform(np.log(200), np.log(2000)))),
    )


def contrast_image(head: Head, contrast: Contrast) -> Array:
    """The noiseless signal of `contrast` in `head`, on its grid."""
    signal = sum(contrast.tissues[name] * fraction for name, fraction in head.tissues.items())
    solid = head.tissues["white"] + head.tissues["grey"]
    shift = contrast.texture * head.texture + lookup(head.labels, contrast.regions, 0.0)
    return signal + shift * solid * head.brain


def acquire(
    rng: np.random.Generator, signal: Array, voxel_size: float, acquisition: Acquisition
) -> Array:
    """`signal` as the scanner gives it: blurred, cut into slices, biased and noisy (Rician)."""
    fine = smooth_on(rng, signal.shape, 2.0 / voxel_size)
    patchy = smooth_on(rng, signal.shape, 6.0 / voxel_size)
    varied = signal * (1 + 0.025 * fine + 0.025 * patchy)
    blur = acquisition.resolution / FWHM / voxel_size
    image = ndimage.gaussian_filter(varied, blur, truncate=3.0) if blur > 0.25 else varied
    image = image * np.exp(acquisition.bias * smooth_on(rng, signal.shape, 32.0 / voxel_size))
    if acquisition.slices is not None:
        axis, thickness = acquisition.slices
        return _in_slices(rng, image, axis, thickness / voxel_size, acquisition)
    return acquisition.units * _rician(rng, image, acquisition.noise)


def _in_slices(
    rng: np.random.Generator, image: Array, axis: int, thickness: float, acquisition: Acquisition
) -> Array:
    """Thick slices, their noise, and back on the fine grid by linear interpolation."""
    size = image.shape[axis]
    thick = ndimage.gaussian_filter1d(image, max(thickness / FWHM, 0.3), axis=axis)
    centres = np.arange(rng.uniform(0, thickness), size, thickness)
    slices = _along(thick, centres, axis)
    # Interleaved slices differ a little in gain.
    gain = 1 + 0.01 * rng.standard_normal(len(centres))
    slices = slices * np.expand_dims(gain, tuple(a for a in range(3) if a != axis))
    noisy = _rician(rng, slices.astype(np.float32), acquisition.noise)
    back = (np.arange(size) - centres[0]) / thickness
    return acquisition.units * _along(noisy, np.clip(back, 0, len(centres) - 1), axis)


def _along(image: Array, positions: Array, axis: int) -> Array:
    """`image` at fractional `positions` on one axis, linear."""
    low = np.minimum(np.floor(positions).astype(int), image.shape[axis] - 1)
    high = np.minimum(low + 1, image.shape[axis] - 1)
    weight = np.expand_dims(
        (positions - low).astype(np.float32), tuple(a for a in range(3) if a != axis)
    )
    return np.take(image, low, axis) * (1 - weight) + np.take(image, high, axis) * weight


def _rician(rng: np.random.Generator, image: Array, sigma: float) -> Array:
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.hypot(real, imaginary)
