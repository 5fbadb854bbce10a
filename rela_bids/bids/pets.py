"""Which PET of a session is used, of the raw ones and those that other pipelines have prepared."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rela_bids.bids.given import find_pets
from rela_bids.bids.metadata import read_metadata
from rela_bids.bids.query import Session
from rela_bids.exceptions import BadDataError, RelaBidsError
from rela_bids.frames import PetPlan, plan_pet
from rela_bids.settings import Settings
from rela_bids.tracers import Tracer


@dataclass(frozen=True)
class Pet:
    """A PET of use: what is done with it, its metadata, and lines for people on the others."""

    plan: PetPlan
    sidecar: Mapping[str, Any]
    lines: tuple[str, ...]


def pet_paths(
    session: Session, derivatives: Sequence[Path], wanted: Collection[str] = ()
) -> dict[str, tuple[Path, ...]]:
    """PET by tracer; what another pipeline has prepared comes before what the scanner gave.

    `wanted` are tracers; none means all.
    """
    return {
        label: find_pets(derivatives, session, label) or raw
        for label, raw in session.pets.items()
        if not wanted or label in wanted
    }


def first_of_use(
    files: Sequence[Path], session: Session, tracer: Tracer, settings: Settings
) -> Pet:
    """The first PET whose frames serve.

    Early and late frames are often two runs.

    Raises
    ------
    BadDataError
        If none serves: why the first does not, since that is to mend.
    """
    lines, errors = [], []
    for number, path in enumerate(files, start=1):
        sidecar, prepared = _sidecar(path, session, tracer.label, settings)
        try:
            plan = plan_pet(path, tracer, sidecar, prepared=prepared)
        except BadDataError as error:
            errors.append(error)
            lines.append(f"{path.name} was not used: {error}")
        else:
            lines += [f"{o.name} was not used: {path.name} was picked" for o in files[number:]]
            return Pet(plan, sidecar, tuple(lines))
    raise errors[0]


def _sidecar(
    path: Path, session: Session, label: str, settings: Settings
) -> tuple[dict[str, Any], bool]:
    """The metadata of a PET, and whether another pipeline has prepared it.

    What that pipeline did not carry over is taken from the raw PET.
    """
    if path in session.pets[label]:
        return read_metadata(path, settings.bids_dir), False
    raw = read_metadata(session.pets[label][0], settings.bids_dir)
    dataset = next(folder for folder in settings.derivatives if path.is_relative_to(folder))
    return raw | read_metadata(path, dataset), True


def measured_pets(
    session: Session, tracers: Mapping[str, Tracer], settings: Settings
) -> tuple[dict[str, PetPlan], list[str]]:
    """What to make of a session's PET, by tracer, and a line on each that is of no use.

    A measured PET is something to compare with: that it cannot be used is no reason to fail.
    """
    plans, lines = {}, []
    for label, files in pet_paths(session, settings.derivatives).items():
        if label not in tracers:
            lines.append(f"{files[0].name}: not measured, since {label} is not synthesised")
            continue
        try:
            pet = first_of_use(files, session, tracers[label], settings)
        except RelaBidsError as error:
            lines.append(f"The measured PET of {label} is not used: {error}")
        else:
            plans[label] = pet.plan
            lines += [*pet.plan.notes, *pet.lines]
    return plans, lines
