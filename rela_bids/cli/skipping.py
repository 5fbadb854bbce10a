"""Finished sessions: which are left alone, and what is kept of those that have been done."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rela_bids.bids.query import Session
from rela_bids.bids.records import Records
from rela_bids.cli.sessions import say
from rela_bids.exceptions import RelaBidsError
from rela_bids.settings import Settings

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

    from rela_bids.cli.progress import SessionState


def choose_unfinished(
    sessions: Sequence[Session], records: Records, settings: Settings
) -> list[Session]:
    """The sessions that there is something to do for; why finished ones are done again is said."""
    # Hashing gives the interpreter free, so that threads read and hash at once.
    with ThreadPoolExecutor(settings.resources.nprocs) as pool:
        reasons = list(pool.map(records.why_again, sessions))
    unfinished = []
    for session, why in zip(sessions, reasons, strict=True):
        if why:
            say(f"{session.label}  done again: {why}")
        if why != "":
            unfinished.append(session)
    if len(unfinished) < len(sessions):
        done = len(sessions) - len(unfinished)
        say(f"{done} of {len(sessions)} sessions are finished, and nothing has changed: skipped")
    return unfinished


class Keeping:
    """Notes what the graphs of sessions will leave in OUT, and keeps that it is there."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._outputs: dict[str, list[Path]] = {}

    def watch(self, init_wf: Callable[..., "Workflow"]) -> Callable[..., "Workflow"]:
        """`init_wf`, with what its graphs will save noted."""
        from workflows.outputs import saved_by

        def init_and_note(*, session: Session, name: str) -> "Workflow":
            workflow = init_wf(session=session, name=name)
            self._outputs[session.label] = saved_by(workflow)
            return workflow

        return init_and_note

    def keep(self, session: Session, state: "SessionState") -> None:
        """Mark a session as finished, unless it was done without one of its parts.

        Where that cannot be written it is done again the next time, and so it is only said.
        """
        if state.warnings:
            return
        try:
            self._records.finish(session, self._outputs[session.label])
        except (RelaBidsError, OSError) as error:
            say(f"{session.label}  not marked as finished: {error}")
