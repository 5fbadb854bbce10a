"""The participant level: MRI to synthetic PET, session by session."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from rela_bids.atomic import write_text
from rela_bids.bids.citation import describe_methods
from rela_bids.bids.dataset import ensure_dataset
from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.query import Session, read_sessions
from rela_bids.cli.plan import describe_plan
from rela_bids.cli.reporting import Reports
from rela_bids.exceptions import ExitCode, MissingInputError
from rela_bids.settings import Settings, to_toml
from rela_bids.synthesis import SynthesisPlan, plan_synthesis, resolve_device

if TYPE_CHECKING:
    from rela_bids.cli.progress import SessionState


def find_sessions(settings: Settings) -> list[Session]:
    """The sessions that the settings select."""
    return read_sessions(
        settings.bids_dir,
        settings.selection,
        database_dir=_database(settings),
        validate=not settings.skip_bids_validation,
        pet=False,
    )


def _database(settings: Settings) -> Path | None:
    """The pybids database; a dry run, which writes nothing, does without one that is not there."""
    database = settings.bids_database_dir
    return None if settings.dry_run and database and not database.exists() else database


def plan_only(settings: Settings) -> int:
    """Print what would be read and written, and touch nothing."""
    plan = plan_synthesis(settings.synthesis, settings.selection.tracers)
    with_std = plan.n_samples > 1
    sessions = find_sessions(settings)
    for line in describe_plan(sessions, settings, list(plan.tracers), with_std=with_std):
        print(line)
    return ExitCode.OK


def participant_level(settings: Settings) -> int:
    """Process every session that has a T1w; returns the exit code.

    Raises
    ------
    MissingInputError
        If no session has a T1w.
    """
    sessions = find_sessions(settings)
    ready = [session for session in sessions if session.t1w is not None]
    if not ready:
        raise MissingInputError(
            f"{settings.bids_dir}: none of the {len(sessions)} sessions has a T1w to start from"
        )
    plan = plan_synthesis(settings.synthesis, settings.selection.tracers)
    plan = replace(plan, device=resolve_device(plan.device))
    methods = describe_methods(settings, list(plan.tracers), simulated=plan.simulated)
    ensure_dataset(
        settings.output_dir, settings.bids_dir, methods=methods, work_dir=settings.work_dir
    )
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"
    write_text(settings.output_dir / "logs" / f"{run}.toml", to_toml(settings))
    announce(sessions, ready, plan)
    reports = Reports(settings, plan, methods.markdown, run)
    for session in sessions:
        reports.begin(session)
        if session.t1w is None:
            reports.left_out(session)
    states = execute(ready, settings, plan, run, reports)
    return report_outcome(sessions, states, settings, reports)


def execute(
    sessions: Sequence[Session],
    settings: Settings,
    plan: SynthesisPlan,
    run: str,
    reports: Reports,
) -> dict[str, "SessionState"]:
    """Run the graph; returns how each session ended, by its label."""
    from rela_bids.cli.execution import SessionPool, run_workflow
    from rela_bids.cli.progress import Progressing
    from workflows.base import configure_nipype, init_base_wf, workflow_name

    configure_nipype(settings)
    workflow = init_base_wf(sessions=sessions, settings=settings, plan=plan, run=run)
    by_name = {workflow_name(session): session for session in sessions}

    def assemble(name: str, state: "SessionState") -> None:
        if state.finished:
            reports.done(by_name[name], state.timings)
        else:
            reports.failed(by_name[name], state.error or "", state.timings)

    labels = {name: session.label for name, session in by_name.items()}
    with Progressing(labels, assemble) as progress:
        pool = SessionPool(
            nprocs=settings.resources.nprocs,
            memory_gb=settings.resources.mem_gb or default_memory_gb(),
            order=by_name,
            observer=progress,
        )
        run_workflow(workflow, pool)
    return {state.label: state for state in progress.states.values()}


def default_memory_gb() -> float:
    """Nine tenths of the memory that is free now."""
    import psutil

    return psutil.virtual_memory().available / 1e9 * 0.9


def report_outcome(
    sessions: Sequence[Session],
    states: Mapping[str, "SessionState"],
    settings: Settings,
    reports: Reports,
) -> int:
    """Print the table at the end, write reports on what failed; returns the exit code."""
    from rich.console import Console

    from rela_bids.cli.progress import summary_table

    rows = []
    for session in sessions:
        state = states.get(session.label)
        if state is None:
            rows.append((session.label, "left out", why_left_out(session)))
        elif state.finished:
            report = Derivatives(settings.output_dir).report(session.subject)
            rows.append((session.label, "done", str(report)))
        else:
            error = state.error or "stopped before its end"
            # Once more: some of its nodes ran on after the one that failed.
            reports.failed(session, error, state.timings)
            rows.append((session.label, "failed", error))
    Console(stderr=True, highlight=False, soft_wrap=True).print(summary_table(rows))
    done = all(state.finished for state in states.values())
    return ExitCode.OK if done else ExitCode.SESSION_FAILED


def announce(sessions: Sequence[Session], ready: Sequence[Session], plan: SynthesisPlan) -> None:
    """Say what is about to be done, and with what."""
    say(
        f"{len(ready)} of {len(sessions)} sessions, {len(plan.tracers)} tracers "
        f"({', '.join(plan.tracers)}), {plan.n_samples} samples of {plan.sampling_steps} steps, "
        f"model {plan.name} on {plan.device}"
    )
    if plan.simulated:
        say(
            f"WARNING: the model {plan.name} was trained on {plan.trained_on}. It is for trying "
            "out the software; its images say nothing about a person."
        )
    for session in sessions:
        if session.t1w is None:
            say(f"{session.label}  left out: {why_left_out(session)}")


def why_left_out(session: Session) -> str:
    """The reasons, for a line that names the session already."""
    lines = (line.removeprefix(f"{session.label}: ") for line in session.left_out)
    return "; ".join(line.removesuffix("; left out") for line in lines)


def say(line: str) -> None:
    """One line for the person at the terminal or the reader of a log."""
    print(line, file=sys.stderr, flush=True)
