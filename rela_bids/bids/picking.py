"""Which image of several is used.

The rule, for T1w, FLAIR and PET alike. Of a session's images that pass ``--bids-filter-file`` and
can be read, the first by:

1. for FLAIR, the suffix ``FLAIR`` before ``acq-...FLAIR..._T2w``;
2. one without contrast agent (``ce-``) before one with it;
3. an ``acq-`` that names a volumetric sequence (MPRAGE, MP2RAGE, SPGR, BRAVO, TFE, SPACE, CUBE, 3D,
   iso, highres) before none, and none before another;
4. ``rec-norm`` (normalised by the scanner) before no ``rec-``, and that before another; PET without
   attenuation correction (``rec-nac``) last;
5. the lowest ``run-``, an image without ``run-`` first;
6. the name, alphabetically.

The rest are named as left out, with the point that decided. Of PET, every file is listed, the one
to use first.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VOLUMETRIC = re.compile(r"mp2?rage|spgr|bravo|tf[el]|space|cube|3d|iso|high-?res", re.IGNORECASE)

# Indices: run 1 is run 01. Labels are compared as they stand: sub-1 is not sub-01.
_INDICES = {"run", "echo", "flip", "inv", "chunk"}

_COMPLEX_PARTS = {"phase", "real", "imag"}


@dataclass(frozen=True)
class ImageFile:
    """An image and the entities of its name, by pybids' names (``acquisition``, ``tracer``)."""

    path: Path
    entities: Mapping[str, str]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def get(self, entity: str) -> str:
        """An entity's value, empty where the name does not have it."""
        return self.entities.get(entity, "")


def is_t1w(image: ImageFile) -> bool:
    """Whether a name says T1w."""
    return _is_magnitude(image) and image.get("suffix") == "T1w"


def is_flair(image: ImageFile) -> bool:
    """Whether a name says FLAIR: ``_FLAIR``, or ``acq-...FLAIR..._T2w`` in any case."""
    if not _is_magnitude(image):
        return False
    as_t2w = image.get("suffix") == "T2w" and "flair" in image.get("acquisition").lower()
    return as_t2w or image.get("suffix") == "FLAIR"


def is_pet(image: ImageFile) -> bool:
    """Whether a name says PET."""
    return image.get("datatype") == "pet" and image.get("suffix") == "pet"


def _is_magnitude(image: ImageFile) -> bool:
    return image.get("datatype") == "anat" and image.get("part") not in _COMPLEX_PARTS


IMAGE_KINDS: dict[str, Callable[[ImageFile], bool]] = {
    "t1w": is_t1w,
    "flair": is_flair,
    "pet": is_pet,
}


def candidates(
    images: Iterable[ImageFile], kind: str, wanted: Mapping[str, object]
) -> list[ImageFile]:
    """The images of a kind that pass a filter.

    A filter that names the suffix says itself what the kind is, as in fMRIPrep's filter files:
    ``{"flair": {"suffix": "T2w", "acquisition": "dark"}}``.
    """
    datatype = "pet" if kind == "pet" else "anat"
    if "suffix" in wanted:
        return [
            image for image in images if image.get("datatype") == datatype and passes(image, wanted)
        ]
    return [image for image in images if IMAGE_KINDS[kind](image) and passes(image, wanted)]


def passes(image: ImageFile, wanted: Mapping[str, object]) -> bool:
    """Whether an image has the entities that a filter asks for (see `settings.Selection`)."""
    return all(_agrees(image.get(entity), value, entity) for entity, value in wanted.items())


def _agrees(found: str, wanted: Any, entity: str) -> bool:
    if isinstance(wanted, tuple | list):
        return any(_agrees(found, value, entity) for value in wanted)
    if wanted == "*":
        return bool(found)
    text = str(wanted)
    if entity in _INDICES and found.isdecimal() and text.isdecimal():
        return int(found) == int(text)
    if entity == "extension":
        return found.lstrip(".") == text.lstrip(".")
    return found == text


_CRITERIA: tuple[tuple[str, Callable[[ImageFile], Any]], ...] = (
    ("its suffix is FLAIR", lambda image: image.get("suffix") == "T2w"),
    ("it has no contrast agent", lambda image: bool(image.get("ceagent"))),
    ("its acq- names a volumetric sequence, or it has none", lambda image: _acquisition(image)),
    ("it is the usual reconstruction", lambda image: _reconstruction(image)),
    ("its run is lower", lambda image: int(image.get("run") or 0)),
    ("its name comes first", lambda image: image.name),
)


def _acquisition(image: ImageFile) -> int:
    label = image.get("acquisition")
    # acq-FLAIR in the name of a T2w says what it is, not how it was acquired.
    label = re.sub("t2w?|flair", "", label, flags=re.IGNORECASE)
    if not label:
        return 1
    return 0 if _VOLUMETRIC.search(label) else 2


def _reconstruction(image: ImageFile) -> int:
    label = image.get("reconstruction").lower()
    if label.startswith("nac"):
        return 3
    return 0 if label == "norm" else 2 if label else 1


def ordered(images: Iterable[ImageFile]) -> list[ImageFile]:
    """Images by the rule above, the one to use first."""
    return sorted(images, key=lambda image: tuple(key(image) for _, key in _CRITERIA))


def pick(images: Iterable[ImageFile]) -> tuple[ImageFile | None, list[str]]:
    """The one image to use, by the rule above, and a line for each of the others."""
    in_order = ordered(images)
    if not in_order:
        return None, []
    picked, *others = in_order
    return picked, [
        f"{other.name} was not used: {picked.name} was picked, since {_reason(picked, other)}"
        for other in others
    ]


def _reason(picked: ImageFile, other: ImageFile) -> str:
    return next(reason for reason, key in _CRITERIA if key(picked) != key(other))
