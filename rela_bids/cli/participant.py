"""The participant level: MRI to synthetic PET, session by session."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rela_bids.atlases import Atlas, packaged_atlas, read_atlas
from rela_bids.bids.citation import describe_methods
from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.pets import measured_pets
from rela_bids.bids.query import Session
from rela_bids.bids.records import Records
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
from rela_bids.cli.skipping import Keeping, choose_unfinished
from rela_bids.exceptions import ExitCode, MissingInputError
from rela_bids.frames import PetPlan
from rela_bids.settings import RegionSettings, Settings
from rela_bids.synthesis import SynthesisPlan, check_weights, plan_synthesis, resolve_device

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

    from rela_bids.cli.progress import SessionState


def plan_only(settings: Settings) -> int:
    """Print what would be read and written, and touch nothing."""
    plan = plan_synthesis(settings.synthesis, settings.selection.tracers)
    atlas = choose_atlas(settings.regions)
    sessions, measured = with_measured(find_sessions(settings, pet=True), plan, settings)
    for line in describe_plan(
        sessions,
        settings,
        list(plan.tracers),
        with_std=plan.n_samples > 1,
        atlas=atlas.label if atlas else None,
        measured=measured,
    ):
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
    from workflows.subject import init_session_wf

    sessions = find_sessions(settings, pet=True)
    ready = [session for session in sessions if session.t1w is not None]
    if not ready:
        raise MissingInputError(
            f"{settings.bids_dir}: none of the {len(sessions)} sessions has a T1w to start from"
        )
    plan = plan_synthesis(settings.synthesis, settings.selection.tracers)
    atlas = choose_atlas(settings.regions)
    sessions, measured = with_measured(sessions, plan, settings)
    ready = [session for session in sessions if session.t1w is not None]
    records = Records(settings, plan)
    todo = choose_unfinished(ready, records, settings)
    if todo:
        plan = replace(plan, device=resolve_device(plan.device))
        check_weights(plan)
    methods = describe_methods(settings, list(plan.tracers), simulated=plan.simulated)
    run = begin_run(settings, methods)
    announce(sessions, todo, plan)
    reports = Reports(settings, plan, methods.markdown, run, atlas)
    labels = {session.label for session in todo}
    for session in sessions:
        if session.t1w is None:
            reports.left_out(session)
        elif session.label in labels:
            records.begin(session)
            reports.begin(session)
        else:
            reports.check(session)
    init_wf = partial(init_session_wf, settings=settings, plan=plan, atlas=atlas, measured=measured)
    states = synthesise_sessions(todo, settings, run, init_wf, reports, Keeping(records))
    return report_outcome(sessions, states, settings, reports)


def choose_atlas(regions: RegionSettings) -> Atlas | None:
    """The atlas whose regions are measured, if any are.

    Raises
    ------
    MissingInputError, BadDataError, UsageError
        If a user's atlas is not there or cannot be used.
    """
    if not regions.wanted:
        return None
    if regions.atlas is None or regions.labels is None:
        return packaged_atlas()
    return read_atlas(regions.atlas, regions.labels)


def with_measured(
    sessions: Sequence[Session], plan: SynthesisPlan, settings: Settings
) -> tuple[list[Session], dict[str, dict[str, PetPlan]]]:
    """What to make of each session's PET, by its label and by tracer.

    What is not used of it, and why, is added to what the sessions have left out.
    """
    told, measured = [], {}
    for session in sessions:
        lines: list[str] = []
        if session.t1w is not None and session.pets:
            measured[session.label], lines = measured_pets(session, plan.tracers, settings)
        told.append(replace(session, left_out=(*session.left_out, *lines)))
    return told, measured


def synthesise_sessions(
    sessions: Sequence[Session],
    settings: Settings,
    run: str,
    init_wf: Callable[..., "Workflow"],
    reports: Reports,
    keeping: Keeping,
) -> dict[str, "SessionState"]:
    """Run the graphs; returns how each session ended, by its label."""
    if not sessions:
        return {}

    def assemble(session: Session, state: "SessionState") -> None:
        if state.finished:
            reports.done(session, state.timings, state.warnings)
            keeping.keep(session, state)
        else:
            reports.failed(session, why_failed(state), state.timings)

    return execute(sessions, settings, run, keeping.watch(init_wf), assemble)


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
        report = str(Derivatives(settings.output_dir).report(session.subject))
        if session.t1w is None:
            rows.append((session.label, "left out", why_left_out(session)))
        elif state is None:
            rows.append((session.label, "done before", report))
        elif state.finished:
            rows.append((session.label, "done", report))
        else:
            # Once more: some of its nodes ran on after the one that failed.
            reports.failed(session, why_failed(state), state.timings)
            rows.append((session.label, "failed", why_failed(state)))
    show_outcome(rows)
    return ExitCode.OK if all_finished(states) else ExitCode.SESSION_FAILED


def announce(sessions: Sequence[Session], todo: Sequence[Session], plan: SynthesisPlan) -> None:
    """Say what is about to be done, and with what."""
    if todo:
        say(
            f"{len(todo)} of {len(sessions)} sessions, {len(plan.tracers)} tracers "
            f"({', '.join(plan.tracers)}), {plan.n_samples} samples of {plan.sampling_steps} "
            f"steps, model {plan.name} on {plan.device}"
        )
    if plan.simulated:
        say(
            f"WARNING: the model {plan.name} was trained on {plan.trained_on}. It is for trying "
            "out the software; its images say nothing about a person."
        )
    for session in sessions:
        if session.t1w is None:
            say(f"{session.label}  left out: {why_left_out(session)}")
