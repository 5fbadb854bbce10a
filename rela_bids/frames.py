"""Which frames of a PET are used, by its header and its sidecar alone: nothing is computed here.

Times are minutes after injection. BIDS counts ``FrameTimesStart``, ``InjectionStart`` and
``ScanStart`` in seconds from ``TimeZero``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib

from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.templates import REFERENCE_REGIONS
from rela_bids.tracers import Tracer
from rela_bids.volumes import UNREADABLE

# Seconds after injection within which a scan can begin and end.
EARLIEST, LATEST = -3600.0, 36000.0

# A frame is used if this share of it lies within the window, or if it holds this share of the
# window and no more than two thirds of it lie outside.
SHARE = 0.5
SHARE_OF_LONG_FRAME = 1 / 3

# The frames together hold at least this share of the window.
COVERAGE = 0.25

# Frames may overlap by their rounding: seconds, or this share of a frame.
OVERLAP = (1.0, 0.02)

# No time in seconds or milliseconds is as large; infinity and NaN are not below it.
LARGEST = 1e12

# Minutes by which the frames may miss the window's ends before that is worth a line.
WORTH_A_NOTE = 1.0


@dataclass(frozen=True)
class PetPlan:
    """What is done with one PET.

    Attributes
    ----------
    path : the image.
    frames : indices of the volumes that are averaged.
    durations : of these, minutes; empty where the sidecar does not say.
    minutes : from the start of the first to the end of the last of them, after injection.
    notes : lines for people, each naming the file.
    prepared : another pipeline corrected it for motion.
    in_t1w_space : it lies on the T1w already.
    is_suvr : it is divided by a reference region already.
    """

    path: Path
    frames: tuple[int, ...]
    durations: tuple[float, ...]
    minutes: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    prepared: bool = False
    in_t1w_space: bool = False
    is_suvr: bool = False


@dataclass(frozen=True)
class Timing:
    """Start and end of each frame, minutes after injection."""

    start: tuple[float, ...]
    end: tuple[float, ...]


def plan_pet(
    image: Path, tracer: Tracer, metadata: Mapping[str, Any], *, prepared: bool = False
) -> PetPlan:
    """Choose the frames of a PET that are averaged; reads no voxels.

    A frame is used if at least half of it lies within the tracer's window; a long one also if it
    holds at least half of the window, which is to be a third of the frame or more. Together they
    hold at least a quarter of the window. One volume without times is taken for the late image.

    Parameters
    ----------
    image : 3-D or 4-D NIfTI.
    metadata : of its sidecar. PETPrep does not repeat ``InjectionStart`` and ``ScanStart``: of its
        images, give the raw sidecar's fields where the derivative's has none.
    prepared : the image is a derivative that was corrected for motion, such as PETPrep's
        ``_desc-preproc_pet``; with ``space-T1w`` in its name it lies on the T1w, and with ``Units``
        of SUVR it keeps its scale.

    Raises
    ------
    BadDataError
        If header, times or space do not allow it.
    MissingInputError
        If the image is not there.
    UsageError
        If the tracer's reference region is unknown.
    """
    if tracer.reference_region not in REFERENCE_REGIONS:
        raise UsageError(
            f"the reference region of {tracer.label}, {tracer.reference_region}, is not known: "
            f"choose among {', '.join(REFERENCE_REGIONS)} in the file of --tracer-config"
        )
    n_volumes = count_volumes(image)
    space = re.search(r"_space-([A-Za-z0-9]+)_", image.name) if prepared else None
    if space and space[1] != "T1w":
        raise BadDataError(
            f"{image} lies in space {space[1]}, not on the T1w: give it with space-T1w, or the raw "
            "PET"
        )
    timing, notes = read_timing(metadata, n_volumes, image)
    frames: tuple[int, ...] = (0,)
    if timing is not None:
        frames = choose_frames(timing, tracer, image)
        notes += _uncovered(timing, frames, tracer, image)
    return PetPlan(
        path=image,
        frames=frames,
        durations=tuple(timing.end[i] - timing.start[i] for i in frames) if timing else (),
        minutes=(timing.start[frames[0]], timing.end[frames[-1]]) if timing else None,
        notes=tuple(notes),
        prepared=prepared,
        in_t1w_space=space is not None,
        is_suvr=prepared and str(metadata.get("Units", "")).strip().upper() == "SUVR",
    )


def count_volumes(image: Path) -> int:
    """How many volumes an image has, by its header.

    Raises
    ------
    BadDataError
        If it is no NIfTI of numbers in three or four dimensions.
    MissingInputError
    """
    try:
        header = nib.load(image)
        kind = header.get_data_dtype().kind
    except FileNotFoundError as error:
        raise MissingInputError(f"{image} is not there: check the path or get the file") from error
    except UNREADABLE as error:
        raise BadDataError(
            f"{image} cannot be read as an image ({error}): convert it again"
        ) from error
    shape = header.shape
    if len(shape) not in (3, 4) or min(shape[:3]) < 2 or min(shape) < 1 or kind not in "iuf":
        size = " x ".join(map(str, shape))
        raise BadDataError(
            f"{image} is {size} of {header.get_data_dtype()}, not a 3-D or 4-D image of numbers: "
            "convert it again, or leave the session out"
        )
    return shape[3] if len(shape) == 4 else 1


def read_timing(
    metadata: Mapping[str, Any], n_volumes: int, image: Path
) -> tuple[Timing | None, list[str]]:
    """The frames of a sidecar, and lines on what was taken to be meant.

    Milliseconds are recognised where seconds make no sense; frames without duration beyond the
    volumes are dropped; starts before ``ScanStart`` are counted from it.

    Returns
    -------
    None for one volume without times.

    Raises
    ------
    BadDataError
        If the times are missing, do not belong to the volumes or make no sense.
    """
    start = _numbers(metadata, "FrameTimesStart", image)
    if not start and n_volumes == 1:
        return None, [
            f"{image.name}: its sidecar has no FrameTimesStart, so that its one volume is taken "
            "for the late image"
        ]
    duration = _numbers(metadata, "FrameDuration", image)
    notes = _drop_empty(start, duration, n_volumes, image)
    _check_frames(start, duration, n_volumes, image)
    if not (injection := _numbers(metadata, "InjectionStart", image)):
        notes.append(f"{image.name}: its sidecar has no InjectionStart, which is taken to be 0")
    zero, scan = (injection or [0.0])[0], (_numbers(metadata, "ScanStart", image) or [0.0])[0]
    if scan - start[0] > 1:
        start = [s + scan for s in start]
        notes.append(f"{image.name}: FrameTimesStart is before ScanStart, so it counts from there")
    begin = [s - zero for s in start]
    end = [b + d for b, d in zip(begin, duration, strict=True)]
    unit = _unit(begin[0], end[-1], image)
    if unit != 1:
        notes.append(
            f"{image.name}: the times in its sidecar are read as milliseconds, since in seconds "
            f"the scan would end {end[-1] / 3600:.0f} hours after injection"
        )
    _check_overlap([b * unit for b in begin], [e * unit for e in end], image)
    in_minutes = (tuple(t * unit / 60 for t in times) for times in (begin, end))
    return Timing(*in_minutes), notes


def _numbers(metadata: Mapping[str, Any], key: str, image: Path) -> list[float]:
    value = metadata.get(key)
    if value is None or value == "n/a":
        return []
    values = list(value) if isinstance(value, list | tuple) else [value]
    # Comparing, since isfinite fails on whole numbers that no float can hold.
    if not all(type(v) in (int, float) and abs(v) < LARGEST for v in values):
        raise BadDataError(f"{image}: {key} in its sidecar is not numbers: mend the sidecar")
    return [float(v) for v in values]


def _drop_empty(
    start: list[float], duration: list[float], n_volumes: int, image: Path
) -> list[str]:
    """Take off frames without duration that no volume belongs to, as converters append them."""
    notes = []
    while len(start) == len(duration) > n_volumes and duration[-1] == 0:
        start.pop()
        duration.pop()
        notes = [f"{image.name}: its sidecar ends in a frame without duration, which is left out"]
    return notes


def _check_frames(start: list[float], duration: list[float], n_volumes: int, image: Path) -> None:
    mend = "mend the sidecar, or leave the session out"
    for key, values in (("FrameTimesStart", start), ("FrameDuration", duration)):
        if not values:
            raise BadDataError(f"{image}: its sidecar has no {key}: {mend}")
        if len(values) != n_volumes:
            raise BadDataError(
                f"{image} has {n_volumes} volumes, but {key} in its sidecar has {len(values)} "
                f"numbers: {mend}"
            )
    if min(duration) <= 0:
        raise BadDataError(f"{image}: FrameDuration in its sidecar is not above 0: {mend}")
    if any(later <= earlier for earlier, later in pairwise(start)):
        raise BadDataError(f"{image}: FrameTimesStart in its sidecar does not increase: {mend}")


def _unit(begin: float, end: float, image: Path) -> float:
    """Seconds in a unit of the sidecar: 1, or 0.001 where only that makes sense."""
    for unit in (1.0, 1e-3):
        if begin * unit >= EARLIEST and end * unit <= LATEST:
            return unit
    raise BadDataError(
        f"{image}: by its sidecar it was scanned {begin / 3600:.1f} to {end / 3600:.1f} hours "
        "after injection: mend FrameTimesStart, FrameDuration and InjectionStart, in seconds"
    )


def _check_overlap(begin: list[float], end: list[float], image: Path) -> None:
    for i in range(len(begin) - 1):
        allowed = max(OVERLAP[0], OVERLAP[1] * (end[i] - begin[i]))
        if end[i] - begin[i + 1] > allowed:
            raise BadDataError(
                f"{image}: by its sidecar frames {i + 1} and {i + 2} overlap: mend FrameTimesStart "
                "and FrameDuration, in seconds"
            )


def choose_frames(timing: Timing, tracer: Tracer, image: Path) -> tuple[int, ...]:
    """Indices of the frames of a tracer's window, by the rule of `plan_pet`.

    Raises
    ------
    BadDataError
        If the scan holds too little of the window.
    """
    first, last = tracer.frame_window
    chosen, held = [], 0.0
    for i, (start, end) in enumerate(zip(timing.start, timing.end, strict=True)):
        within = max(min(end, last) - max(start, first), 0.0) + 1e-6
        of_frame, of_window = within / (end - start), within / (last - first)
        if of_frame >= SHARE or (of_window >= SHARE and of_frame >= SHARE_OF_LONG_FRAME):
            chosen.append(i)
            held += of_window
    if held < COVERAGE:
        raise BadDataError(
            f"{image} covers {_span(timing.start[0], timing.end[-1])} after injection, too little "
            f"of the {_span(first, last)} wanted of {tracer.label}: mend FrameTimesStart and "
            "InjectionStart in its sidecar, give another frame_window with --tracer-config, or "
            "leave the session out"
        )
    return tuple(chosen)


def _uncovered(timing: Timing, frames: tuple[int, ...], tracer: Tracer, image: Path) -> list[str]:
    used = timing.start[frames[0]], timing.end[frames[-1]]
    missed = max(abs(a - b) for a, b in zip(used, tracer.frame_window, strict=True))
    if missed <= WORTH_A_NOTE:
        return []
    return [
        f"{image.name}: its frames of {_span(*used)} after injection are used for the "
        f"{_span(*tracer.frame_window)} of {tracer.label}"
    ]


def _span(first: float, last: float) -> str:
    return f"{round(first, 1):g} to {round(last, 1):g} min"
