"""The group level without training: tables, statistics and a page over the sessions done so far."""

from datetime import UTC, datetime
from uuid import uuid4

from rela_bids.atomic import write_text
from rela_bids.bids.derivatives import Derivatives
from rela_bids.cli.sessions import say
from rela_bids.exceptions import ExitCode
from rela_bids.group.findings import Findings, find, write_tables
from rela_bids.group.records import find_scans
from rela_bids.settings import Settings, to_toml

PAGE = "group.html"


def plan_only(settings: Settings) -> int:
    """Print the tables that would be read, and touch nothing."""
    root = settings.output_dir
    for folder in (root, *settings.group.compare):
        scans = find_scans(folder, settings.selection)
        people = len({scan.key.subject for scan in scans})
        print(f"{folder}: {len(scans)} tables of synthetic PET, {people} people")
        for scan in scans:
            names = [scan.path(kind).name for kind in scan.paths if kind.endswith(".tsv")]
            print(f"  {scan.key.label}  {', '.join(names)}")
    print(f"would write {root}/group_*.tsv and {root / PAGE}")
    return ExitCode.OK


def run_level(settings: Settings) -> int:
    """Write the tables and the page; returns the exit code, 1 where a table could not be used.

    Raises
    ------
    RelaBidsError
        What `rela_bids.group.findings.find` raises.
    """
    from rela_bids.reports.group import write_group_report

    root = settings.output_dir
    findings = find(settings)
    announce(findings)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"
    write_text(Derivatives(root).settings(run), to_toml(settings))
    written = write_tables(root, findings)
    page = write_group_report(root / PAGE, findings)
    say(f"{', '.join(path.name for path in written)} and {page.name} are in {root}")
    return ExitCode.SESSION_FAILED if findings.problems else ExitCode.OK


def announce(findings: Findings) -> None:
    """Say what was found, and what a reader of the numbers must know."""
    scans = [scan for group in findings.groups for scan in group.scans]
    visits = {(scan.key.subject, scan.key.session) for scan in scans}
    measured = sum(scan.has_measured for scan in scans)
    say(
        f"{len({scan.key.subject for scan in scans})} people, {len(visits)} sessions, "
        f"{len(scans)} synthetic PET, {measured} of them with a measured PET; "
        f"{findings.read} read now, the others known"
    )
    for variant in {g.variant.sha256: g.variant for g in findings.groups}.values():
        if variant.simulated:
            say(
                f"WARNING: the model {variant.model} was trained on {variant.trained_on}. It is "
                "for trying out the software; these numbers say nothing about people."
            )
    for line in (*findings.cautions(), *findings.problems):
        say(f"WARNING: {line}")
