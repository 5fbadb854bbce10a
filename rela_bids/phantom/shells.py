"""What surrounds the brain: CSF, skull, scalp, and a stub of face and neck, in template mm."""

from collections.abc import Callable, Mapping

import numpy as np

from rela_bids.phantom.base import lattice_noise
from rela_bids.phantom.person import Person
from rela_bids.volumes import Array

# Ellipsoids: centre and half axes, template mm.
FACE = ((0.0, 42.0, -62.0), (60.0, 58.0, 72.0))
SINUSES = (
    ((0.0, 62.0, -52.0), (9.0, 24.0, 20.0)),
    ((24.0, 55.0, -66.0), (11.0, 14.0, 14.0)),
    ((-24.0, 55.0, -66.0), (11.0, 14.0, 14.0)),
    ((0.0, 20.0, -84.0), (9.0, 30.0, 10.0)),
)
EYES = (((33.0, 62.0, -40.0), (12.0,) * 3), ((-33.0, 62.0, -40.0), (12.0,) * 3))
ORBIT_MARGIN = 5.0
JAW = ((0.0, 58.0, -112.0), (34.0, 26.0, 8.0))
# Upright elliptic cylinders that go down from the brain: centre (x, y) and half axes.
NECK, NECK_TOP = ((0.0, -32.0), (58.0, 60.0)), -50.0
CORD_CENTRE, CORD_TOP = (0.0, -46.0), -68.0
CORD_RADIUS, CANAL_RADIUS, VERTEBRA_RADIUS = 6.0, 10.0, 22.0
SKIN = 2.0
SKULL_BASE = -15.0
LEAST_CSF, LEAST_SKULL = 0.7, 3.0


def draw_thickness(rng: np.random.Generator, person: Person) -> Mapping[str, Array]:
    """Thickness of each shell, mm, and the face's own texture, on the lattice."""

    def shell(mean: float, spread: float, least: float) -> Array:
        own = mean * np.exp(0.15 * rng.standard_normal())
        return np.maximum(own + spread * lattice_noise(rng, 60.0), least)

    return {
        "csf": shell(2.0 + 0.6 * max(person.atrophy, 0.0), 0.8, 0.6),
        "skull": shell(7.0, 1.2, 3.0),
        "scalp": shell(7.0, 1.2, 3.5),
        "flesh": lattice_noise(rng, 14.0),
        "marrow": 0.6 + 0.25 * lattice_noise(rng, 20.0),
    }


def shells(
    points: Array,
    depth: Array,
    hull: Array,
    thickness: Mapping[str, Array],
    voxel_size: float,
    *,
    whole: bool,
) -> dict[str, Array]:
    """Fractions of each voxel outside the brain, by tissue.

    Parameters
    ----------
    points : template mm, (3, X, Y, Z).
    depth : signed distance to the brain's surface, mm, positive outside.
    hull : the same to the brain with its furrows filled.
    thickness : of `draw_thickness`, at the voxels.
    whole : with face and neck.
    """

    def within(distance: Array) -> Array:
        return np.clip(0.5 - distance / voxel_size, 0, 1)

    # The skull follows the hull, and leaves room for the brain where a person's bulges out of it.
    csf = within(np.minimum(hull - thickness["csf"], depth - LEAST_CSF))
    skull_depth = np.minimum(
        hull - thickness["csf"] - thickness["skull"], depth - LEAST_CSF - LEAST_SKULL
    )
    cranium = np.maximum(within(skull_depth), csf)
    body = skull_depth - thickness["scalp"]
    if whole:
        body = np.minimum(body, np.minimum(_ellipsoid(points, FACE), _neck(points)))
    head = within(body)
    skin = head - within(body + SKIN)
    # Diploe: the middle of the skull where it is thick enough to have one.
    middle = np.abs(skull_depth + thickness["skull"] / 2)
    marrow = within(middle - (thickness["skull"] / 2 - 2.2)) * np.clip(thickness["marrow"], 0, 1)
    fraction = {
        "csf": csf,
        "bone": (cranium - csf) * (1 - marrow),
        "marrow": (cranium - csf) * marrow,
    }
    flesh = np.maximum(head - cranium - skin, 0)
    # Scalp is mostly fat; below the skull base muscle and fat are mixed.
    share = 1.2 * thickness["flesh"] + np.where(points[2] > SKULL_BASE, 1.5, 0.5)
    fat = np.clip(share, 0.05, 0.95).astype(np.float32)
    fraction["fat"] = flesh * fat
    fraction["muscle"] = flesh * (1 - fat) + np.maximum(skin, 0) * (1 - cranium)
    return _face_and_spine(points, fraction, within) if whole else fraction


def _face_and_spine(
    points: Array, fraction: dict[str, Array], within: Callable[[Array], Array]
) -> dict[str, Array]:
    flesh = 1 - fraction["csf"] - fraction["bone"] - fraction["marrow"]
    for shape in EYES:
        distance = _ellipsoid(points, shape)
        _carve(fraction, within(distance - ORBIT_MARGIN) * flesh, "fat")
        _carve(fraction, within(distance) * flesh, "eye")
    for shape in SINUSES:
        _carve(fraction, within(_ellipsoid(points, shape)) * flesh, None)
    _carve(fraction, within(_ellipsoid(points, JAW)) * flesh, "bone")
    radius = np.hypot(points[0] - CORD_CENTRE[0], points[1] - CORD_CENTRE[1])
    below = within(points[2] - CORD_TOP)
    _carve(fraction, within(radius - VERTEBRA_RADIUS) * below * flesh, "bone")
    _carve(fraction, within(radius - CANAL_RADIUS) * below, "csf")
    _carve(fraction, within(radius - CORD_RADIUS) * below, "white")
    return fraction


def _carve(fraction: dict[str, Array], share: Array, tissue: str | None) -> None:
    """Give `share` of each voxel to `tissue`, or to air, taking from all others alike."""
    for name in fraction:
        fraction[name] = fraction[name] * (1 - share)
    if tissue is not None:
        fraction[tissue] = fraction.get(tissue, 0) + share


def _ellipsoid(points: Array, shape: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    """About the signed distance to an ellipsoid's surface, mm, negative inside."""
    squares = [((axis - c) / a) ** 2 for axis, c, a in zip(points, shape[0], shape[1], strict=True)]
    return (np.sqrt(sum(squares)) - 1) * min(shape[1])


def _neck(points: Array) -> Array:
    squares = [
        ((axis - c) / a) ** 2 for axis, c, a in zip(points[:2], NECK[0], NECK[1], strict=True)
    ]
    return np.maximum((np.sqrt(sum(squares)) - 1) * min(NECK[1]), points[2] - NECK_TOP)
