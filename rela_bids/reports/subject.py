"""A person's report: one HTML file with everything in it, from the summaries of all sessions."""

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from rela_bids.atomic import write_text
from rela_bids.reports.comparison import DIFFERENCE_COLOURS
from rela_bids.reports.figures import PET_COLOURS, STD_COLOURS
from rela_bids.reports.page import data_uri, render_page
from rela_bids.reports.summary import SessionSummary, read_summaries
from rela_bids.reports.viewer import colour_bar

T = TypeVar("T", bound=Hashable)

VERDICTS = {"ok": "passes checks", "warn": "doubtful", "fail": "fails checks"}
BARS = {
    "mean": PET_COLOURS,
    "std": STD_COLOURS,
    "measured": PET_COLOURS,
    "difference": DIFFERENCE_COLOURS,
}
LAYER_NAMES = {
    "mean": "synthetic: mean of the samples",
    "std": "synthetic: uncertainty (standard deviation)",
    "measured": "measured",
    "difference": "synthetic minus measured",
}
KINDS = {".webp": "webp", ".svg": "svg+xml"}


def write_report(path: Path, subject: str, summaries: Sequence[Path]) -> Path:
    """Write the report of a person.

    Parameters
    ----------
    path : the HTML file.
    subject : label without prefix.
    summaries : JSON files of `SessionSummary`, each in one folder with its pictures. One that
        cannot be read is named in the report.

    Raises
    ------
    CannotWriteError
        If the report cannot be written.
    """
    sessions, problems = read_summaries(summaries)
    return write_text(path, render_report(subject, sessions, problems))


def render_report(
    subject: str, sessions: Sequence[tuple[SessionSummary, Path]], problems: Sequence[str] = ()
) -> str:
    """The HTML of a person's report.

    Parameters
    ----------
    sessions : each with the folder of its pictures.
    problems : lines on sessions that cannot be shown.
    """
    return render_page(
        "subject.html",
        script="viewer.js",
        title=f"sub-{subject}: synthetic PET",
        subject=subject,
        sessions=sessions,
        problems=problems,
        models=_by_value((item.model, item.label) for item, _ in sessions),
        methods=_by_value((item.methods, item.label) for item, _ in sessions),
        simulated=any(item.model.simulated for item, _ in sessions),
        verdicts=VERDICTS,
        bars={kind: data_uri(colour_bar(colours), "png") for kind, colours in BARS.items()},
        layer_names=LAYER_NAMES,
        embed=_embedded,
    )


def _by_value(pairs: Iterable[tuple[T, str]]) -> list[tuple[T, list[str]]]:
    """Each different value once, with the labels of the sessions that have it."""
    labels: dict[T, list[str]] = {}
    for value, label in pairs:
        labels.setdefault(value, []).append(label)
    return list(labels.items())


def _embedded(folder: Path, name: str) -> str:
    """A picture as an address with its content, or nothing if it is not there."""
    path = folder / name
    return data_uri(path.read_bytes(), KINDS[path.suffix]) if path.is_file() else ""
