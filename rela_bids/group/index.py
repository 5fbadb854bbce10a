"""The tables read so far, in one file, so that a run over many sessions reads only what is new."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from rela_bids.atomic import write_atomically
from rela_bids.exceptions import RelaBidsError
from rela_bids.group.records import Layout, Scan, ScanFiles, ScanKey, Variant, find_scans, read_scan
from rela_bids.settings import Selection

T = TypeVar("T")

# Of the file's layout: an index of another is not used.
FORMAT = 1

State = tuple[tuple[str, int, int], ...]
Known = dict[ScanKey, tuple[State, Scan]]


@dataclass(frozen=True)
class Gathered:
    """The scans of an OUT; `problems` are lines on those that cannot be used, `read` how many
    were read now and not known from before.
    """

    scans: list[Scan]
    problems: list[str]
    read: int


def gather(root: Path, selection: Selection, index: Path) -> Gathered:
    """The scans of `root`; those whose files have not changed since `index` was written are
    taken from there, and `index` is written anew.

    Raises
    ------
    MissingInputError
        If `root` cannot be listed.
    CannotWriteError
        If the index cannot be written.
    """
    known = load_index(index)
    current: Known = {}
    problems: list[str] = []
    fresh = 0
    for files in find_scans(root, selection):
        state, scan = known.get(files.key, (None, None))
        if scan is None or state != files.state:
            fresh += 1
            scan = _read(files, problems)
        if scan is not None:
            current[files.key] = (files.state, scan)
    selected = selection.participants or selection.sessions or selection.tracers
    after = known | current if selected else current
    if fresh or after.keys() != known.keys():
        save_index(index, after)
    return Gathered([scan for _, scan in current.values()], problems, fresh)


def _read(files: ScanFiles, problems: list[str]) -> Scan | None:
    try:
        return read_scan(files)
    except RelaBidsError as error:
        problems.append(f"{files.key.label}: {error}")
        return None


def save_index(path: Path, known: Known) -> None:
    """Write scans with the state of their files."""
    variants, layouts = (
        _numbered(s.variant for _, s in known.values()),
        _numbered(s.layout for _, s in known.values()),
    )
    rows = [
        {
            "key": asdict(key),
            "state": state,
            "variant": variants[scan.variant],
            "layout": layouts[scan.layout],
            "tracer_name": scan.tracer_name,
            "reference_region": scan.reference_region,
            "scale": scan.scale,
            "on_scale": [None if math.isnan(value) else value for value in scan.on_scale],
            "agreement": scan.agreement,
        }
        for key, (state, scan) in known.items()
    ]
    head = {
        "format": FORMAT,
        "variants": [asdict(variant) for variant in variants],
        "layouts": [asdict(layout) for layout in layouts],
        "scans": rows,
    }
    values = [scan.values for _, scan in known.values()] or [np.empty((0, 4))]
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            head=np.frombuffer(json.dumps(head).encode(), np.uint8),
            values=np.concatenate(values),
        )


def load_index(path: Path) -> Known:
    """The scans of an index; none where it is not there or cannot be used."""
    try:
        with np.load(path) as stored:
            head, values = json.loads(stored["head"].tobytes()), stored["values"]
        return _scans(head, values) if head["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return {}


def _scans(head: Mapping[str, Any], values: np.ndarray) -> Known:
    variants = [Variant(**item) for item in head["variants"]]
    layouts = [Layout(tuple(item["regions"]), tuple(item["indices"])) for item in head["layouts"]]
    known: Known = {}
    start = 0
    for row in head["scans"]:
        key, layout = ScanKey(**row["key"]), layouts[row["layout"]]
        stop = start + len(layout.regions)
        state = tuple((kind, size, time) for kind, size, time in row["state"])
        synthetic, measured = (math.nan if v is None else v for v in row["on_scale"])
        scan = Scan(
            key=key,
            variant=variants[row["variant"]],
            tracer_name=row["tracer_name"],
            reference_region=row["reference_region"],
            layout=layout,
            values=values[start:stop],
            scale=row["scale"],
            on_scale=(synthetic, measured),
            agreement=row["agreement"],
        )
        known[key] = (state, scan)
        start = stop
    return known


def _numbered(values: Iterable[T]) -> dict[T, int]:
    """Each different value once, with its place."""
    numbers: dict[T, int] = {}
    for value in values:
        numbers.setdefault(value, len(numbers))
    return numbers
