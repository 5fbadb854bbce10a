"""The filter file, as fMRIPrep's: which entities the images of a kind must have."""

from pathlib import Path
from typing import Any

from rela_bids.bids.metadata import read_json_object
from rela_bids.exceptions import BadDataError

FILTERED_IMAGES = ("t1w", "flair", "pet")


def read_filters(path: Path) -> dict[str, dict[str, Any]]:
    """The filters that concern us, by pybids' entity names; null becomes ``""``, no such entity.

    Raises
    ------
    MissingInputError
        If the file cannot be read.
    BadDataError
        If it is not JSON in UTF-8, or a filter that concerns us is not entities and their values.
    """
    content = read_json_object(path)
    wanted = {image: content[image] for image in FILTERED_IMAGES if image in content}
    for image, entities in wanted.items():
        if not isinstance(entities, dict):
            raise BadDataError(
                f'--bids-filter-file {path}: {image} must hold entities, as in {{"acquisition": '
                '"mprage"}'
            )
    return {
        image: {entity: _filter_value(value, path) for entity, value in entities.items()}
        for image, entities in wanted.items()
    }


def _filter_value(value: Any, path: Path) -> Any:
    if value is None:
        return ""
    if isinstance(value, list):
        return tuple(_filter_value(item, path) for item in value)
    if isinstance(value, str) or type(value) is int:
        return value
    raise BadDataError(
        f"--bids-filter-file {path}: {value!r} is no value of an entity: write a string, a whole "
        "number, null, or a list of them"
    )
