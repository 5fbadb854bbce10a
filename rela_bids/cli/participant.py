"""The participant level: MRI to synthetic PET, session by session."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rela_bids.bids.citation import describe_methods
from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.query import Session
from rela_bids.cli.plan import describe_plan
from rela_bids.cli.reporting import Reports
from rela_bids.cli.sessions import (
    all_finished,
    begin_run,
    execute,
    find_sessions,
    say,
    show_outcome,
    why_failed,
    why_left_out,
)
from rela_bids.exceptions import ExitCode, MissingInputError
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan, plan_synthesis, resolve_device

if TYPE_CHECKING:
    from rela_bids.cli.progress import SessionState


def plan_only(settings: Settings) -> int:
    """Print what would be read and written, and touch nothing."""
    plan = plan_synthesis(settings.synthesis, settings.selection.tracers)
    with_std = plan.n_samples > 1
    sessions = find_sessions(settings, pet=False)
    for line in describe_plan(sessions, settings, list(plan.tracers), with_std=with_std):
        print(line)
    return ExitCode.OK


def run_level(settings: Settings) -> int:
    """Process every session that has a T1w; returns the exit code.

    Nothing is written before dataset, model and options are known to be good.

    Raises
    ------
    MissingInputError
        If no session has a T1w.
    """
    sessions = find_sessions(settings, pet=False)
    ready = [session for session in sessions if session.t1w is not None]
    if not ready:
        raise MissingInputError(
            f"{settings.bids_dir}: none of the {len(sessions)} sessions has a T1w to start from"
        )
    plan = plan_synthesis(settings.synthesis, settings.selection.tracers)
    plan = replace(plan, device=resolve_device(plan.device))
    methods = describe_methods(settings, list(plan.tracers), simulated=plan.simulated)
    run = begin_run(settings, methods)
    announce(sessions, ready, plan)
    reports = Reports(settings, plan, methods.markdown, run)
    for session in sessions:
        reports.begin(session)
        if session.t1w is None:
            reports.left_out(session)
    states = synthesise_sessions(ready, settings, plan, run, reports)
    return report_outcome(sessions, states, settings, reports)


def synthesise_sessions(
    sessions: Sequence[Session],
    settings: Settings,
    plan: SynthesisPlan,
    run: str,
    reports: Reports,
) -> dict[str, "SessionState"]:
    """Run the graphs; returns how each session ended, by its label."""
    from workflows.subject import init_session_wf

    def assemble(session: Session, state: "SessionState") -> None:
        if state.finished:
            reports.done(session, state.timings)
        else:
            reports.failed(session, why_failed(state), state.timings)

    init_wf = partial(init_session_wf, settings=settings, plan=plan)
    return execute(sessions, settings, run, init_wf, assemble)


def report_outcome(
    sessions: Sequence[Session],
    states: Mapping[str, "SessionState"],
    settings: Settings,
    reports: Reports,
) -> int:
    """Print the table at the end, write reports on what failed; returns the exit code."""
    rows = []
    for session in sessions:
        state = states.get(session.label)
        if state is None:
            rows.append((session.label, "left out", why_left_out(session)))
        elif state.finished:
            report = Derivatives(settings.output_dir).report(session.subject)
            rows.append((session.label, "done", str(report)))
        else:
            # Once more: some of its nodes ran on after the one that failed.
            reports.failed(session, why_failed(state), state.timings)
            rows.append((session.label, "failed", why_failed(state)))
    show_outcome(rows)
    return ExitCode.OK if all_finished(states) else ExitCode.SESSION_FAILED


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
