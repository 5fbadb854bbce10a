"""The checks on a dataset that cost nothing and need no internet."""

import os
from pathlib import Path
from typing import Any

from rela_bids.bids.metadata import read_json
from rela_bids.exceptions import BadDataError, InvalidDatasetError, MissingInputError

REMEDY = "mend it, or pass --skip-bids-validation"


def read_description(bids_dir: Path, *, validate: bool = True) -> dict[str, Any]:
    """What ``dataset_description.json`` holds; without `validate`, {} where it is unusable.

    Raises
    ------
    InvalidDatasetError
        If it is missing, no JSON object, or without Name or BIDSVersion, and `validate` is set.
    """
    path = bids_dir / "dataset_description.json"
    try:
        description = read_json(path)
    except (MissingInputError, BadDataError) as error:
        if not validate:
            return {}
        raise InvalidDatasetError(f"{error}; every BIDS dataset needs this file") from error
    if not isinstance(description, dict):
        # Also without `validate`, since pybids fails on it.
        raise InvalidDatasetError(f"{path} must hold a JSON object ({{...}}): mend it")
    missing = [name for name in ("Name", "BIDSVersion") if not description.get(name)]
    if validate and missing:
        raise InvalidDatasetError(f"{path} has no {' and no '.join(missing)}: {REMEDY}")
    return description


def list_participants(bids_dir: Path) -> list[str]:
    """The labels of the ``sub-`` folders, sorted.

    Raises
    ------
    MissingInputError
        If the dataset's folder is not there or may not be read.
    InvalidDatasetError
        If it has no such folder.
    """
    try:
        folders = list_folders(bids_dir)
    except OSError as error:
        raise MissingInputError(
            f"{bids_dir} cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    labels = sorted(name.removeprefix("sub-") for name in folders if name.startswith("sub-"))
    if labels:
        return labels
    miscased = [name for name in sorted(folders) if name.lower().startswith("sub-")]
    hint = f" ({miscased[0]}: the prefix is lower case)" if miscased else ""
    raise InvalidDatasetError(
        f"{bids_dir} has no sub-<label> folder{hint}: give the root of a BIDS dataset"
    )


def list_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; links to folders are among them."""
    # os.path, since Path.is_dir raises where the target of a link may not be looked at.
    return sorted(name for name in os.listdir(folder) if os.path.isdir(folder / name))  # noqa: PTH112, PTH208
