"""JSON as found in BIDS datasets: files, and sidecars with what they inherit."""

import json
import os
from pathlib import Path
from typing import Any

from rela_bids.exceptions import BadDataError, MissingInputError


def read_json(path: Path) -> Any:
    """What a JSON file holds. A byte order mark is passed over.

    Raises
    ------
    MissingInputError
        If the file is not there, is a link to nothing, or may not be read.
    BadDataError
        If it is not JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path} is not in UTF-8: save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"{path} is not valid JSON ({error}): mend it") from error
    except OSError as error:
        # os.path, since Path.is_symlink raises where access is denied.
        annexed = os.path.islink(path)  # noqa: PTH114
        remedy = "get it with `datalad get`" if annexed else "check the path and its permissions"
        raise MissingInputError(f"{path} cannot be read ({error.strerror}): {remedy}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """As `read_json`, for a file that must hold an object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise BadDataError(f"{path} must hold a JSON object ({{...}}): mend it")
    return content


def read_metadata(path: Path, bids_dir: Path) -> dict[str, Any]:
    """The metadata of an image by BIDS' inheritance principle.

    A sidecar applies when it has the image's suffix, lies in the image's folder or above it within
    `bids_dir`, and has no entity that the image does not have. The nearer overrides the farther;
    in one folder, the one with more entities overrides the one with fewer.

    Raises
    ------
    MissingInputError, BadDataError
        As for `read_json`, for a sidecar that applies.
    """
    folders = [bids_dir.joinpath(*path.relative_to(bids_dir).parts[:n]) for n in range(9)]
    metadata: dict[str, Any] = {}
    for folder in dict.fromkeys(folder for folder in folders if folder != path):
        for sidecar in sorted(_applicable(path, folder), key=lambda file: len(_parts(file)[0])):
            metadata |= read_json_object(sidecar)
    return metadata


def _applicable(path: Path, folder: Path) -> list[Path]:
    entities, suffix = _parts(path)
    found = []
    for sidecar in folder.glob(f"*{suffix}.json"):
        its_entities, its_suffix = _parts(sidecar)
        if its_suffix == suffix and its_entities <= entities:
            found.append(sidecar)
    return found


def _parts(path: Path) -> tuple[frozenset[str], str]:
    """``sub-01_run-1_pet.nii.gz`` -> ({"sub-01", "run-1"}, "pet")."""
    *entities, suffix = path.name.split(".")[0].split("_")
    return frozenset(entities), suffix
