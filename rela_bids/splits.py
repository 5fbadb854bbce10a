"""Who trains a model and who judges it: settled by person, before any image is touched."""

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from rela_bids.exceptions import BadDataError, MissingInputError

HELD_OUT_FRACTION = 0.2
SPLITS = ("train", "validation", "test")

People = Mapping[str, Collection[str]]


class Scanned(Protocol):
    """A session or a prepared example: whose it is, and the labels of its tracers."""

    @property
    def subject(self) -> str:
        """Label without prefix."""

    @property
    def tracers(self) -> Collection[str]:
        """Labels."""


def tracers_by_person(records: Iterable[Scanned]) -> dict[str, set[str]]:
    """The tracers of each person, over all sessions."""
    people: dict[str, set[str]] = {}
    for record in records:
        people.setdefault(record.subject, set()).update(record.tracers)
    return people


def settle_split(
    people: People, tracers: Iterable[str], given: Mapping[str, str] | None, seed: int
) -> dict[str, str]:
    """The part, one of `SPLITS`, of each person who takes part; the same for the same arguments.

    Parameters
    ----------
    people : tracers of each person with a T1w, by subject label; see `tracers_by_person`.
    tracers : labels to train on. Who has none of them takes no part.
    given : parts by subject, as `read_split` finds them; who is not in it takes no part. None
        draws ``train`` or ``test`` by the seed: a fifth is held out, every tracer is in both parts.

    Raises
    ------
    BadDataError
        If a tracer has nobody or one person only, or nobody to learn from; or nobody is held out.
    """
    labels = list(tracers)
    scanned = {subject: set(found) & set(labels) for subject, found in sorted(people.items())}
    taking_part = {
        subject: found
        for subject, found in scanned.items()
        if found and (given is None or subject in given)
    }
    if not taking_part and any(scanned.values()):
        raise BadDataError(
            "--split gives none of the people with MRI and PET a part: look at its participant_id"
        )
    check_people(taking_part, labels)
    split = _draw(taking_part, labels, seed) if given is None else given
    split = {subject: split[subject] for subject in taking_part}
    _check_parts(split, taking_part, labels)
    return split


def check_people(people: People, tracers: Iterable[str]) -> None:
    """Raise BadDataError if a tracer has nobody, or one person only to learn from and judge by."""
    found = {label: _with_tracer(people, label) for label in tracers}
    if not any(found.values()):
        raise BadDataError(
            f"no session has both a T1w and a PET of {', '.join(found) or 'any tracer'}: "
            "nothing to train on; look at the BIDS names and --tracer-label"
        )
    for label, subjects in found.items():
        if len(subjects) < 2:
            who = f"one person only (sub-{subjects[0]})" if subjects else "nobody"
            raise BadDataError(
                f"tracer {label} has {who} with MRI and PET: leave it out with --tracer-label, or "
                "add people"
            )


def count_people(
    people: People, tracers: Iterable[str], split: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """How many people of each part have each tracer."""
    return {
        label: {
            part: sum(split.get(subject) == part for subject in _with_tracer(people, label))
            for part in SPLITS
        }
        for label in tracers
    }


def read_split(path: Path, column: str = "split") -> dict[str, str]:
    """A split from a table with ``participant_id`` and `column`: ``splits.tsv``, participants.tsv.

    Rows with ``n/a`` take no part.

    Raises
    ------
    MissingInputError, BadDataError
        If the file is not there, lacks a column, or names another part than those of `SPLITS`.
    """
    if not path.exists():
        raise MissingInputError(f"--split: {path} is not there; check the path")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"--split: {path} is no table in UTF-8 ({error}): mend it") from error
    if not rows or not {"participant_id", column} <= set(rows[0]):
        raise BadDataError(f"{path} needs the columns participant_id and {column}, tab-separated")
    split = {
        row["participant_id"].removeprefix("sub-"): row[column]
        for row in rows
        if row[column] not in ("n/a", "", None)
    }
    for subject, part in split.items():
        if part not in SPLITS:
            raise BadDataError(
                f"{path}: sub-{subject} is in {part!r}; write one of {', '.join(SPLITS)} or n/a"
            )
    return split


def _with_tracer(people: People, label: str) -> list[str]:
    return sorted(subject for subject, found in people.items() if label in found)


def _draw(people: People, labels: list[str], seed: int) -> dict[str, str]:
    """A fifth is held out, and more where tracers with few people make it so."""
    groups = [set(_with_tracer(people, label)) for label in labels]
    subjects = sorted(people)
    order = [subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))]
    held: list[str] = []

    def spare(subject: str) -> bool:
        return all(group - {*held, subject} for group in groups if subject in group)

    for group in sorted(groups, key=len):
        candidates = [s for s in order if s in group and spare(s)]
        if candidates and not set(held) & group:
            held.append(candidates[0])
    for subject in order:
        if len(held) < round(HELD_OUT_FRACTION * len(subjects)) and subject not in held:
            held += [subject] * spare(subject)
    return {subject: "test" if subject in held else "train" for subject in subjects}


def _check_parts(split: Mapping[str, str], people: People, labels: list[str]) -> None:
    for label in labels:
        if not any(split[subject] == "train" for subject in _with_tracer(people, label)):
            raise BadDataError(
                f"tracer {label} has nobody in the training part of the split: move people into "
                "it, or leave the tracer out with --tracer-label"
            )
    if all(part == "train" for part in split.values()):
        raise BadDataError("nobody is held out: put some people into validation or test (--split)")
