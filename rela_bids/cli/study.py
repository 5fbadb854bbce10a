"""What a training run is made of, settled before anything is computed or written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rela_bids.bids.pets import first_of_use, pet_paths
from rela_bids.bids.query import Session
from rela_bids.bids.validation import read_description
from rela_bids.cli.sessions import find_sessions, why_left_out
from rela_bids.cli.train_config import model_config, trainer_settings
from rela_bids.exceptions import BadDataError, UsageError
from rela_bids.frames import PetPlan
from rela_bids.settings import Settings
from rela_bids.splits import SPLITS, read_split, settle_split
from rela_bids.tracer_config import read_tracers, toml_of
from rela_bids.tracers import Tracer
from rela_bids.training import TrainingPlan, check_new

if TYPE_CHECKING:
    from rela_bids.model.budget import TrainSettings
    from rela_bids.model.presets import ModelConfig


@dataclass(frozen=True)
class Study:
    """A training run.

    Attributes
    ----------
    sessions : those that take part.
    targets : what to make of the PET of each session, by its label and by tracer.
    tracers : that are learned, by label, in the order of their class labels.
    split : ``train``, ``validation`` or ``test`` by subject.
    left_out : lines for people, on sessions and files that are not used.
    dataset : its name.
    simulated : whether sidecars say that PET was simulated.
    """

    sessions: tuple[Session, ...]
    targets: Mapping[str, Mapping[str, PetPlan]]
    tracers: Mapping[str, Tracer]
    split: Mapping[str, str]
    config: "ModelConfig"
    trainer: "TrainSettings"
    left_out: tuple[str, ...]
    dataset: str
    simulated: bool

    def plan(self, settings: Settings) -> TrainingPlan:
        """What to train."""
        return TrainingPlan(
            name=settings.training.name,
            config=self.config,
            tracers=self.tracers,
            settings=self.trainer,
            trained_on=self.trained_on,
            simulated=self.simulated,
            split=self.split,
        )

    @property
    def trained_on(self) -> str:
        """The data in words.

        Counted are those who take part; how many trained and how many were held out is in the
        model's card.
        """
        what = "simulated PET (digital phantoms)" if self.simulated else "PET"
        people = {session.subject for session in self.sessions}
        return (
            f"{what} and MRI of {len(people)} people in {len(self.sessions)} sessions of "
            f"{self.dataset}"
        )

    def describe(self) -> Iterator[str]:
        """Lines for people: what is learned from whom."""
        for label in self.tracers:
            of_tracer = [s for s in self.sessions if label in self.targets[s.label]]
            people = {session.subject for session in of_tracer}
            parts = [
                f"{sum(self.split[subject] == part for subject in people)} {part}"
                for part in SPLITS
                if part in self.split.values()
            ]
            yield (f"{label}: {len(people)} people ({', '.join(parts)}), {len(of_tracer)} sessions")
        without_flair = sum(session.flair is None for session in self.sessions)
        yield f"{len(self.sessions)} sessions, {without_flair} of them without FLAIR"


def plan_study(settings: Settings) -> Study:
    """Read the dataset and check all that can be checked without computing.

    Raises
    ------
    UsageError
        If there is a model of that name already, or the split lacks a column.
    BadDataError
        If a sidecar is of no use, a tracer is not known or has too few people, there are no pairs,
        or a setting of ``--train-config`` is wrong.
    MissingInputError
        If a file that an option names is not there.
    """
    config, trainer = model_config(settings.training), trainer_settings(settings)
    check_new(settings.output_dir, settings.training.name, resume=settings.training.resume)
    sessions = find_sessions(settings, pet=True)
    paths = {
        session.label: pet_paths(session, settings.derivatives, settings.selection.tracers)
        for session in sessions
        if session.t1w
    }
    tracers = _tracers(paths, settings)
    targets, sidecars, left_out = _targets(sessions, paths, tracers, settings)
    people: dict[str, set[str]] = {}
    for session in sessions:
        if session.label in targets:
            people.setdefault(session.subject, set()).update(targets[session.label])
    split = settle_split(people, tracers, _given_split(settings), seed=trainer.seed)
    taking_part = tuple(s for s in sessions if s.label in targets and s.subject in split)
    return Study(
        sessions=taking_part,
        targets={session.label: targets[session.label] for session in taking_part},
        tracers=tracers,
        split=split,
        config=config,
        trainer=trainer,
        left_out=tuple(left_out),
        dataset=_dataset_name(settings.bids_dir),
        simulated=any(sidecar.get("Simulated") is True for sidecar in sidecars),
    )


def _tracers(
    paths: Mapping[str, Mapping[str, tuple[Path, ...]]], settings: Settings
) -> dict[str, Tracer]:
    known = read_tracers(settings.tracer_files)
    found = {
        label: files[0] for of_session in paths.values() for label, files in of_session.items()
    }
    labels = settings.selection.tracers or sorted(found)
    for label in labels:
        if label not in known:
            where = f" ({found[label].name})" if label in found else ""
            raise BadDataError(
                f"the tracer {label}{where} is not known: describe it in a file for "
                f"--tracer-config, {toml_of(label)}, or leave it out with --tracer-label"
            )
    return {label: known[label] for label in labels}


def _targets(
    sessions: Sequence[Session],
    paths: Mapping[str, Mapping[str, tuple[Path, ...]]],
    tracers: Mapping[str, Tracer],
    settings: Settings,
) -> tuple[dict[str, dict[str, PetPlan]], list[dict[str, Any]], list[str]]:
    """Of each session with MRI and PET, what to make of it, its sidecars, and what is left out."""
    targets: dict[str, dict[str, PetPlan]] = {}
    sidecars, left_out = [], []
    for session in sessions:
        if session.t1w is None:
            left_out.append(f"{session.label}  left out: {why_left_out(session)}")
        elif not paths[session.label]:
            left_out.append(f"{session.label}  left out: no PET of the tracers to learn")
            left_out += session.left_out
        else:
            left_out += session.left_out
            targets[session.label] = {}
            for label, files in paths[session.label].items():
                pet = first_of_use(files, session, tracers[label], settings)
                targets[session.label][label] = pet.plan
                sidecars.append(pet.sidecar)
                left_out += [*pet.plan.notes, *pet.lines]
    return targets, sidecars, left_out


def _given_split(settings: Settings) -> dict[str, str] | None:
    given = settings.training.split
    if given is None:
        return None
    if Path(given).exists():
        return read_split(Path(given))
    people = settings.bids_dir / "participants.tsv"
    if not people.exists():
        raise UsageError(
            f"--split {given} is neither a file nor, {people} not being there, a column of it"
        )
    return read_split(people, given)


def _dataset_name(bids_dir: Path) -> str:
    return str(read_description(bids_dir, validate=False).get("Name") or bids_dir.name)
