"""What both levels do with sessions: find them, run their graphs, say how they ended."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from rela_bids.atomic import remove_stale, write_text
from rela_bids.bids.citation import Methods
from rela_bids.bids.dataset import ensure_dataset
from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.query import Session, read_sessions
from rela_bids.cli.plugins import read_plugin
from rela_bids.head_templates import find_space, find_template, other_spaces
from rela_bids.settings import Settings, to_toml

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

    from rela_bids.cli.claims import Claims
    from rela_bids.cli.monitor import ResourceMonitor
    from rela_bids.cli.progress import SessionState


def find_sessions(settings: Settings, *, pet: bool) -> list[Session]:
    """The sessions that the settings select, with their PET where asked for."""
    return read_sessions(
        settings.bids_dir,
        settings.selection,
        database_dir=_database(settings),
        validate=not settings.skip_bids_validation,
        pet=pet,
    )


def _database(settings: Settings) -> Path | None:
    """The pybids database; a dry run, which writes nothing, does without one that is not there."""
    database = settings.bids_database_dir
    return None if settings.dry_run and database and not database.exists() else database


def begin_run(settings: Settings, methods: Methods) -> str:
    """Make the folders, the dataset in OUT and the record of the settings; returns a run's name.

    Raises
    ------
    MissingInputError
        If the template asked for, or the file of a Nipype plugin, is not on disk.
    BadDataError
        If that file is not YAML of a plugin.
    UsageError, CannotWriteError
        If OUT is another's dataset, or a folder cannot be written.
    """
    from rela_bids.cli.environment import make_folders

    read_plugin(settings.plugin_file)
    check_templates(settings)
    make_folders(settings)
    ensure_dataset(
        settings.output_dir, settings.bids_dir, methods=methods, work_dir=settings.work_dir
    )
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"
    write_text(Derivatives(settings.output_dir).settings(run), to_toml(settings))
    return run


def check_templates(settings: Settings) -> None:
    """Look for the templates that a run will need.

    Raises
    ------
    MissingInputError
        If one is not on disk.
    """
    if settings.anatomy.skull_strip == "ants":
        find_template(settings.anatomy.skull_strip_template)
    for space in other_spaces(settings.anatomy.output_spaces):
        find_space(space)


def sweep(settings: Settings, sessions: Sequence[Session]) -> None:
    """Remove the unfinished files that killed runs have left where this one will write."""
    out = settings.output_dir
    people = [out / f"sub-{subject}" for subject in {session.subject for session in sessions}]
    removed = remove_stale(out, recursive=False)
    for folder in (out / "logs", out / "models" / settings.training.name, *people):
        removed += remove_stale(folder)
    if removed:
        say(f"Removed {len(removed)} unfinished files that a killed run had left in {out}")


def execute(
    sessions: Sequence[Session],
    settings: Settings,
    run: str,
    init_wf: Callable[..., "Workflow"],
    on_end: Callable[[Session, "SessionState"], None] = lambda session, state: None,
) -> dict[str, "SessionState"]:
    """Run every session's graph; returns how each ended, by its label.

    Parameters
    ----------
    init_wf : makes the graph of one session; takes ``session`` and ``name``.
    on_end : called once for each session.
    """
    from rela_bids.cli.claims import Claims
    from rela_bids.cli.monitor import ResourceMonitor
    from workflows.base import NAME, init_base_wf, workflow_name, write_graph

    if settings.write_graph:
        one = init_base_wf(sessions=sessions[:1], settings=settings, run=run, init_wf=init_wf)
        say(f"The graph of {sessions[0].label}: {write_graph(one, settings.work_dir / NAME)}")
    monitor = None
    if settings.resource_monitor:
        monitor = ResourceMonitor({workflow_name(each): each.label for each in sessions})
    states: dict[str, SessionState] = {}
    waiting = list(sessions)
    with Claims(settings.work_dir) as claims:
        while waiting:
            ours = [session for session in waiting if claims.take(workflow_name(session))]
            if not ours:
                say(f"{waiting[0].label}  another run is working on it: waiting for that to end")
                claims.take(workflow_name(waiting[0]), wait=True)
                continue
            states |= _execute(ours, settings, run, init_wf, on_end, claims, monitor)
            waiting = [session for session in waiting if session not in ours]
    if monitor:
        show_resources(monitor, settings, run)
    return states


def _execute(
    sessions: Sequence[Session],
    settings: Settings,
    run: str,
    init_wf: Callable[..., "Workflow"],
    on_end: Callable[[Session, "SessionState"], None],
    claims: "Claims",
    monitor: "ResourceMonitor | None",
) -> dict[str, "SessionState"]:
    """`execute` for sessions that this process has claimed; it gives each back as it ends."""
    from rela_bids.cli.crash import CrashReports
    from rela_bids.cli.execution import run_workflow
    from rela_bids.cli.plugins import make_runner
    from rela_bids.cli.progress import Progressing
    from workflows.base import configure_nipype, init_base_wf, session_folder, workflow_name

    sweep(settings, sessions)
    configure_nipype(settings)
    workflow = init_base_wf(sessions=sessions, settings=settings, run=run, init_wf=init_wf)
    by_name = {workflow_name(session): session for session in sessions}
    labels = {name: session.label for name, session in by_name.items()}

    def end_session(name: str, state: "SessionState") -> None:
        on_end(by_name[name], state)
        if state.finished:
            if monitor:
                monitor.weigh(name, session_folder(settings, name))
            if settings.clean_workdir:
                shutil.rmtree(session_folder(settings, name), ignore_errors=True)
            claims.give_back(name)

    crashes = CrashReports(settings.command, settings, by_name)
    on_node = monitor.finished if monitor else ignore
    with Progressing(labels, end_session, on_crash=crashes.write, on_node=on_node) as progress:
        runner = make_runner(
            read_plugin(settings.plugin_file),
            settings.resources,
            settings.resources.mem_gb or default_memory_gb(),
            by_name,
            progress,
        )
        run_workflow(workflow, runner)
    for name in by_name:
        claims.give_back(name)
    return {state.label: state for state in progress.states.values()}


def ignore(node: object) -> None:
    """What is told of nodes when nothing is to be kept."""


def show_resources(monitor: "ResourceMonitor", settings: Settings, run: str) -> None:
    """The table of what steps took, here and in OUT/logs."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(monitor.table())
    path = monitor.write(Derivatives(settings.output_dir).resources(run))
    say(f"{monitor.disk_line()}; every step of every session: {path}")


def default_memory_gb() -> float:
    """Nine tenths of the memory that is free now."""
    import psutil

    return psutil.virtual_memory().available / 1e9 * 0.9


def why_failed(state: "SessionState") -> str:
    """The error of a session that did not finish, and where to read on."""
    more = f" (more in {state.crash})" if state.crash else ""
    return f"{state.error}{more}" if state.error else "stopped before its end"


def show_outcome(rows: Sequence[tuple[str, str, str]]) -> None:
    """The table at the end: session, outcome, and the reason or where to look.

    Where nobody watches (a log file), each session is one line, however long.
    """
    from rich.console import Console

    from rela_bids.cli.progress import summary_table

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        console.print(summary_table(rows))
        return
    width = max((len(label) for label, _, _ in rows), default=0)
    for label, outcome, detail in rows:
        say(f"{label:<{width}}  {outcome:<11}  {detail}")


def all_finished(states: Mapping[str, "SessionState"]) -> bool:
    """Whether no session failed."""
    return all(state.finished for state in states.values())


def why_left_out(session: Session) -> str:
    """The reasons, for a line that names the session already."""
    lines = (line.removeprefix(f"{session.label}: ") for line in session.left_out)
    return "; ".join(line.removesuffix("; left out") for line in lines)


def say(line: str) -> None:
    """One line for the person at the terminal or the reader of a log."""
    print(line, file=sys.stderr, flush=True)
