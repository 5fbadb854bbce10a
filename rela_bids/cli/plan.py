"""What ``--dry-run`` prints: what would be read and written, session by session."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rela_bids.bids.derivatives import (
    AGREEMENT,
    BRAIN_MASK,
    FLAIR,
    FROM_TEMPLATE,
    MEASURED,
    MEASURED_SUVR,
    REGIONS,
    SYNTH,
    SYNTH_STD,
    SYNTH_SUVR,
    T1W,
    TO_TEMPLATE,
    Derivatives,
)
from rela_bids.bids.query import Session
from rela_bids.frames import PetPlan
from rela_bids.settings import Settings


def describe_plan(
    sessions: Sequence[Session],
    settings: Settings,
    tracers: Sequence[str],
    *,
    with_std: bool = True,
    atlas: str | None = None,
    measured: Mapping[str, Mapping[str, PetPlan]] | None = None,
) -> Iterator[str]:
    """Lines for people: per session its inputs, its outputs and what is left out; then the sum.

    Parameters
    ----------
    tracers : labels of those that would be synthesised.
    with_std : False for one sample.
    atlas : its label; None where no regions are wanted.
    measured : what would be made of the PET of each session, by its label and by tracer.
    """
    for session in sessions:
        yield session.label
        if session.t1w is not None:
            pets = (measured or {}).get(session.label, {})
            mri = (session.t1w, *([session.flair] if session.flair else []))
            yield from _indented("read", (*mri, *(pet.path for pet in pets.values())))
            yield from _indented("write", outputs(session, settings, tracers, with_std))
            yield from _indented("write", tables(session, settings, tracers, atlas, pets))
        yield from _indented("note", session.left_out)
    done = [session for session in sessions if session.t1w is not None]
    without_flair = sum(session.flair is None for session in done)
    yield (
        f"Sessions to do: {len(done)} (without FLAIR: {without_flair}); "
        f"left out: {len(sessions) - len(done)}"
    )


def outputs(
    session: Session, settings: Settings, tracers: Sequence[str], with_std: bool
) -> list[Path]:
    """The images and transforms of a session, without their sidecars."""
    derivatives = Derivatives(settings.output_dir)
    kinds = [T1W, BRAIN_MASK, *([FLAIR] if session.flair else []), TO_TEMPLATE, FROM_TEMPLATE]
    pets = [
        derivatives.path(session, kind, tracer=tracer, space=space)
        for tracer in tracers
        for space in settings.anatomy.output_spaces
        for kind in ((SYNTH, SYNTH_STD) if with_std else (SYNTH,))
    ]
    return [*(derivatives.path(session, kind) for kind in kinds), *pets]


def tables(
    session: Session,
    settings: Settings,
    tracers: Iterable[str],
    atlas: str | None,
    measured: Iterable[str],
) -> Iterator[Path]:
    """What is measured in a session: regions, tables, and measured PET of tracers `measured`."""
    derivatives = Derivatives(settings.output_dir)
    if atlas:
        yield derivatives.path(session, REGIONS, atlas=atlas)
        for tracer in tracers:
            yield derivatives.path(session, SYNTH_SUVR, tracer=tracer, atlas=atlas)
    for tracer in measured:
        yield derivatives.path(session, MEASURED, tracer=tracer)
        yield derivatives.path(session, AGREEMENT, tracer=tracer)
        if atlas:
            yield derivatives.path(session, MEASURED_SUVR, tracer=tracer, atlas=atlas)


def _indented(heading: str, items: Iterable[object]) -> Iterator[str]:
    return (f"  {heading:<6}{item}" for item in items)
