"""All that the group level finds in an OUT, and the tables that it leaves there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rela_bids.exceptions import MissingInputError, NothingMatchedError
from rela_bids.group import tables
from rela_bids.group.comparison import Comparison, compare
from rela_bids.group.index import Gathered, gather
from rela_bids.group.outcomes import Outcome, read_outcomes
from rela_bids.group.participants import read_ages
from rela_bids.group.positivity import Positivity, parse_cutoff, positivity_of
from rela_bids.group.records import find_scans
from rela_bids.group.statistics import Group, groups_of
from rela_bids.group.tables import Row
from rela_bids.group.training_people import training_people
from rela_bids.settings import Selection, Settings

INDEX = Path("logs", "group_index.npz")


@dataclass(frozen=True)
class Findings:
    """What is in an OUT.

    Attributes
    ----------
    problems : lines on scans that could not be used.
    statistics : the rows of ``group_statistics.tsv``, by group.
    outcomes : how sessions ended, those without tables among them.
    read : scans whose tables were read now; those of the others were known from an earlier run.
    """

    groups: Sequence[Group]
    problems: Sequence[str]
    statistics: Sequence[Sequence[Row]]
    positivity: Sequence[Positivity]
    comparisons: Sequence[Comparison]
    outcomes: Sequence[Outcome]
    read: int

    def cautions(self) -> list[str]:
        """Sentences on what a reader must know before any number, but for the training data."""
        variants = dict.fromkeys(group.variant for group in self.groups)
        lines = []
        if len(variants) > 1:
            names = ", ".join(variant.label for variant in variants)
            lines.append(
                f"There are {len(variants)} models or settings here ({names}): they are kept apart."
            )
        for group in self.groups:
            seen = {scan.key.participant_id for scan in group.scans} & group.training
            if seen:
                lines.append(
                    f"{group.title}: {group.variant.label} was trained on {len(seen)} of these "
                    "people, who are left out of all statistics of agreement."
                )
        return lines


def find(settings: Settings) -> Findings:
    """Read the tables of OUT and of those to compare with, and compute.

    Raises
    ------
    MissingInputError
        If a folder cannot be read, or no session in it is finished.
    NothingMatchedError
        If the labels leave none.
    BadDataError
        If none of the tables can be used.
    """
    root, selection = settings.output_dir, settings.selection
    others = settings.group.compare
    training = training_people([root, *others])
    own = _gather(root, selection, root / INDEX)
    groups = groups_of(own.scans, training)
    cutoffs = dict(map(parse_cutoff, settings.group.cutoffs))
    ages = read_ages(settings.bids_dir)
    comparisons, problems = [], list(own.problems)
    for other in others:
        digest = sha256(str(other).encode()).hexdigest()[:8]
        gathered = _gather(other, selection, root / INDEX.with_stem(f"{INDEX.stem}_{digest}"))
        alike = sum(folder.name == other.name for folder in others) > 1
        name = str(other) if alike else other.name
        comparisons += compare(groups, groups_of(gathered.scans, training), name)
        problems += [f"{other}: {line}" for line in gathered.problems]
    return Findings(
        groups=groups,
        problems=problems,
        statistics=[tables.statistics_rows([group]) for group in groups],
        positivity=[positivity_of(group, cutoffs, ages) for group in groups],
        comparisons=comparisons,
        outcomes=read_outcomes(root, selection),
        read=own.read,
    )


def _gather(root: Path, selection: Selection, index: Path) -> Gathered:
    found = gather(root, selection, index)
    if found.scans:
        return found
    if found.problems:
        raise MissingInputError(found.problems[0])
    if find_scans(root, Selection()):
        raise NothingMatchedError(
            f"--participant-label, --session-label and --tracer-label leave none of the sessions "
            f"in {root}: look at the labels"
        )
    raise MissingInputError(
        f"{root} has no tables of a finished session (pet/*_desc-synth_suvr.tsv): run the "
        "participant level first"
    )


def write_tables(root: Path, findings: Findings) -> list[Path]:
    """Write the tables and their sidecars into `root`; returns the tables' paths."""
    groups = findings.groups
    about: Mapping[str, object] = {"Variants": tables.variants_of(groups)}
    statistics = (row for rows in findings.statistics for row in rows)
    wanted = [
        ("group_suvr", tables.suvr_rows(groups), tables.SUVR_COLUMNS),
        ("group_agreement", tables.agreement_rows(groups), tables.AGREEMENT_COLUMNS),
        ("group_statistics", statistics, tables.STATISTICS_COLUMNS),
        (
            "group_positivity",
            tables.positivity_rows(findings.positivity),
            tables.POSITIVITY_COLUMNS,
        ),
    ]
    if findings.comparisons:
        rows = tables.comparison_rows(findings.comparisons)
        wanted.append(("group_comparison", rows, tables.COMPARISON_COLUMNS))
    if not findings.comparisons:
        # That of an earlier run would be of other sessions.
        for extension in (".tsv", ".json"):
            (root / f"group_comparison{extension}").unlink(missing_ok=True)
    return [
        tables.write_table(root / f"{name}.tsv", rows, columns, about)
        for name, rows, columns in wanted
    ]
