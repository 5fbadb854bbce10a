"""What is known of a session when it has ended: the record that a person's report is made from."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from rela_bids.exceptions import BadDataError, RelaBidsError

T = TypeVar("T")

DONE, FAILED, LEFT_OUT = "done", "failed", "left out"

PACKAGES = ("rela_bids", "antspyx", "nipype", "pybids", "nibabel", "numpy", "monai", "torch")


@dataclass(frozen=True)
class ModelRecord:
    """The model and how it was sampled; `preset` is the name of its configuration."""

    name: str
    sha256: str
    trained_on: str
    simulated: bool
    preset: str
    sampling_steps: int
    n_samples: int
    random_seed: int


@dataclass(frozen=True)
class TracerRecord:
    """One synthetic PET: means over the brain mask, SUVR; `mean_std` is None for one sample."""

    label: str
    name: str
    target: str
    reference_region: str
    mean_suvr: float
    mean_std: float | None


@dataclass(frozen=True)
class FigureRecord:
    """A picture. `section` is ``mask``, ``registration`` or ``pet``; `file` lies by the summary."""

    section: str
    title: str
    caption: str
    alt: str
    file: str
    tracer: str = ""


@dataclass(frozen=True)
class LayerRecord:
    """Slices of one image in colour; SUVR `lower` and `upper` are at the ends of the colours."""

    tracer: str
    name: str
    kind: str
    upper: float
    file: str
    lower: float = 0.0


@dataclass(frozen=True)
class ViewerRecord:
    """What the page's slice viewer shows; sheets of slices, `columns` to a row, first the lowest.

    `width` and `height` are of one slice of the T1w sheet, pixels of 1 mm. Layers have the same
    slices, in fewer pixels.
    """

    slices: int
    columns: int
    width: int
    height: int
    t1w: str
    layers: tuple[LayerRecord, ...]


@dataclass(frozen=True)
class Results:
    """What the session's graph found.

    `mask_quality` as `brain_mask.MaskQuality.to_dict` has it, `likeness` as `likeness.Likeness`.
    """

    mask_quality: Mapping[str, Any]
    tracers: tuple[TracerRecord, ...]
    figures: tuple[FigureRecord, ...]
    viewer: ViewerRecord | None
    likeness: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Results":
        """The inverse of `dataclasses.asdict`."""
        viewer = content["viewer"]
        return cls(
            mask_quality=dict(content["mask_quality"]),
            likeness=dict(content["likeness"]),
            tracers=tuple(TracerRecord(**item) for item in content["tracers"]),
            figures=tuple(FigureRecord(**item) for item in content["figures"]),
            viewer=viewer
            and ViewerRecord(
                **{**viewer, "layers": tuple(LayerRecord(**item) for item in viewer["layers"])}
            ),
        )


@dataclass(frozen=True)
class RegionRecord:
    """SUVR in one region; `side` is ``left``, ``right`` or empty, numbers are None where not known.

    `std` is that of the samples' means.
    """

    region: str
    side: str
    volume_ml: float
    mean: float | None
    std: float | None
    measured: float | None


@dataclass(frozen=True)
class RegionalRecord:
    """Main regions of one tracer, and the global composite.

    Attributes
    ----------
    file : the whole table, relative to OUT.
    composite : its row in the table, ``measured`` beside it, or None.
    formula : how `composite` was brought on its scale; empty where it was not.
    """

    tracer: str
    atlas: str
    file: str
    regions: tuple[RegionRecord, ...]
    composite: Mapping[str, Any] | None
    formula: str

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RegionalRecord":
        """The inverse of `dataclasses.asdict`."""
        regions = tuple(RegionRecord(**item) for item in content["regions"])
        return cls(**{**content, "regions": regions})


@dataclass(frozen=True)
class MeasuredRecord:
    """A measured PET beside the synthetic one; see `rela_bids.reports.measured.draw_measured`."""

    tracer: str
    agreement: Mapping[str, float]
    pet: Mapping[str, Any]
    figures: tuple[FigureRecord, ...]
    layers: tuple[LayerRecord, ...]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "MeasuredRecord":
        """The inverse of `dataclasses.asdict`."""
        nested = {
            "figures": tuple(FigureRecord(**item) for item in content["figures"]),
            "layers": tuple(LayerRecord(**item) for item in content["layers"]),
        }
        return cls(**{**content, **nested})


@dataclass(frozen=True)
class SessionSummary:
    """One session of one person.

    Attributes
    ----------
    subject, session : labels without prefix.
    status : `DONE`, `FAILED` or `LEFT_OUT`; `error` says why a session failed.
    inputs : the files that were picked, by modality.
    left_out : lines on what was not picked and why.
    results : None where the session did not get as far as its pictures.
    regional, measured : by tracer, where regions and measured PET are.
    timings : seconds by step.
    methods : Markdown with the list of references.
    run : name of the run, as in ``OUT/logs``.
    """

    subject: str
    session: str | None
    status: str
    model: ModelRecord
    error: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    results: Results | None = None
    regional: tuple[RegionalRecord, ...] = ()
    measured: tuple[MeasuredRecord, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    methods: str = ""
    run: str = ""

    @property
    def label(self) -> str:
        """``ses-1``, or ``sub-01`` where the dataset has no sessions."""
        return f"sub-{self.subject}" if self.session is None else f"ses-{self.session}"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SessionSummary":
        """The inverse of `to_json`; KeyError, TypeError or AttributeError if it is not that."""
        nested = {
            "model": ModelRecord(**content["model"]),
            "results": content["results"] and Results.from_dict(content["results"]),
            "left_out": tuple(content["left_out"]),
            "warnings": tuple(content["warnings"]),
            "regional": tuple(RegionalRecord.from_dict(item) for item in content["regional"]),
            "measured": tuple(MeasuredRecord.from_dict(item) for item in content["measured"]),
        }
        return cls(**{**content, **nested})


def read_summary(path: Path) -> SessionSummary:
    """Read a session's summary.

    Raises
    ------
    BadDataError
        If the file is not one that this version wrote.
    """
    return _read(path, SessionSummary.from_json)


def results_path(summary: Path) -> Path:
    """Where a session's graph leaves its `Results`, until they are taken into the summary.

    >>> results_path(Path("sub-01_desc-summary.json")).name
    'sub-01_desc-results.json'
    """
    return summary.with_name(summary.name.replace("desc-summary", "desc-results"))


def read_results(path: Path) -> Results:
    """Read what a session's graph left; BadDataError as for `read_summary`."""
    return _read(path, Results.from_dict)


def read_measured(path: Path) -> MeasuredRecord:
    """Read what was drawn of a measured PET; BadDataError as for `read_summary`."""
    return _read(path, MeasuredRecord.from_dict)


def _read(path: Path, build: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise BadDataError(
            f"{path} is not a summary that this version of rela_bids wrote: delete it, and run "
            "its session again"
        ) from error


def read_summaries(
    paths: Sequence[Path],
) -> tuple[list[tuple[SessionSummary, Path]], list[str]]:
    """Each summary that can be read, with its folder, and a line on each that cannot."""
    summaries, problems = [], []
    for path in paths:
        try:
            summaries.append((read_summary(path), path.parent))
        except RelaBidsError as error:
            problems.append(str(error))
    return summaries, problems


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
