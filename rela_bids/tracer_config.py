"""Tracers from TOML files: those that the table does not have, and changes to those that it has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rela_bids.exceptions import BadDataError
from rela_bids.settings import read_toml
from rela_bids.tracers import TRACERS, Conversion, Tracer

OPTION = "--tracer-config"

NAMES = tuple(field.name for field in fields(Tracer))

# What may be left out of a tracer that is not in the table.
DEFAULTS: Mapping[str, Any] = {"target": "not stated", "conversion": None}

# No minute and no SUVR is as large; infinity and numbers that no float holds are larger.
LARGEST = 1e6

SHORT = {"scale": "suvr_scale"}


def read_tracers(paths: Sequence[Path]) -> dict[str, Tracer]:
    """`TRACERS` with those of TOML files added or, where the label is known, changed.

    A file holds one tracer, or several as tables ``[[tracer]]``, with the attributes of `Tracer`;
    of a tracer that is in the table, ``label`` and what differs are enough. With another reference
    region, a published conversion is dropped unless the file gives one.

    Raises
    ------
    MissingInputError
        If a file is not there.
    BadDataError
        If one is not TOML, or lacks or misspells something.
    """
    known = dict(TRACERS)
    for path in paths:
        for values in _read_tables(path):
            tracer = _read_tracer(values, known, f"{OPTION} {path}")
            known[tracer.label] = tracer
    return known


def toml_of(label: str) -> str:
    """What to write into a file for a tracer that is not known: TOML on one line.

    >>> import tomllib
    >>> tomllib.loads(toml_of("11CMK1"))["tracer"][0]["radionuclide"]
    'C11'
    """
    isotope = re.match(r"(\d+)([A-Z][a-z]?)(?=[A-Z0-9])", label)
    return (
        f'tracer = [{{label = "{label}", name = "its name", '
        f'radionuclide = "{isotope[2] + isotope[1] if isotope else "F18"}", '
        'reference_region = "whole cerebellum", frame_window = [50, 70], suvr_scale = 3.0}]'
    )


def _read_tables(path: Path) -> list[Mapping[str, Any]]:
    content = read_toml(path, OPTION)
    tables = content.get("tracer", [content])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise BadDataError(f"{OPTION} {path}: write each tracer under [[tracer]]")
    return tables


def _read_tracer(values: Mapping[str, Any], known: Mapping[str, Tracer], where: str) -> Tracer:
    label = values.get("label")
    if not isinstance(label, str) or not re.fullmatch("[a-zA-Z0-9]+", label):
        raise BadDataError(f"{where} needs a label of letters and digits, as after trc- in names")
    given = {SHORT.get(name, name): value for name, value in values.items()}
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise BadDataError(f"{where}: {unknown[0]} of {label} is none of {', '.join(NAMES)}")
    merged = {**(asdict(known[label]) if label in known else DEFAULTS), **given}
    if label in known and merged["reference_region"] != known[label].reference_region:
        # A scale is of SUVR by the region that it was published with.
        merged["conversion"] = given.get("conversion")
    missing = sorted(set(NAMES) - set(merged))
    if missing:
        raise BadDataError(f"{where}: {label} lacks {', '.join(missing)}: {toml_of(label)}")
    return _build(merged, f"{where}: {label}")


def _build(values: Mapping[str, Any], where: str) -> Tracer:
    window, scale = values["frame_window"], values["suvr_scale"]
    numbers = [*window, scale] if isinstance(window, list | tuple) else []
    if len(numbers) != 3 or not all(
        type(number) in (int, float) and abs(number) < LARGEST for number in numbers
    ):
        raise BadDataError(
            f"{where} needs frame_window = [start, end], minutes, and suvr_scale, a number"
        )
    if not 0 <= window[0] < window[1] or not scale > 0:
        raise BadDataError(
            f"{where} has frame_window {list(window)} and suvr_scale {scale}: the window is in "
            "minutes after injection and ends after it starts, the scale is above 0"
        )
    texts = ("name", "radionuclide", "target", "reference_region")
    if not all(isinstance(values[name], str) for name in texts):
        raise BadDataError(f"{where}: {', '.join(texts)} are texts in quotes")
    return Tracer(
        **{
            **values,
            "frame_window": (float(window[0]), float(window[1])),
            "suvr_scale": float(scale),
            "conversion": _conversion(values["conversion"], where),
        }
    )


def _conversion(values: Mapping[str, Any] | None, where: str) -> Conversion | None:
    if values is None:
        return None
    try:
        conversion = Conversion(**values)
        return Conversion(
            str(conversion.scale),
            float(conversion.slope),
            float(conversion.intercept),
            str(conversion.source),
        )
    except (TypeError, ValueError) as error:
        raise BadDataError(
            f"{where}: its conversion needs scale, slope, intercept and source"
        ) from error
