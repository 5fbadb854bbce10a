"""Which images a dataset has for each session, read once into small records."""

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rela_bids.bids.index import entity_patterns, list_images
from rela_bids.bids.metadata import read_metadata
from rela_bids.bids.picking import ImageFile, candidates, ordered, pick
from rela_bids.bids.validation import list_folders, list_participants, read_description
from rela_bids.exceptions import (
    NothingMatchedError,
    RelaBidsError,
    UsageError,
)
from rela_bids.settings import Selection
from rela_bids.tracers import NAMES_IN_SIDECARS, TRACERS

_LABEL = re.compile(r"[a-zA-Z0-9+]+")


@dataclass(frozen=True)
class Session:
    """The images of one person at one time point.

    Attributes
    ----------
    subject, session : labels without prefix; `session` is None where the dataset has none.
    t1w, flair : the files picked, or None.
    pets : per tracer label, every file of it; the first is the one to use, as `picking` says.
    left_out : lines for people on what was not picked and why.
    """

    subject: str
    session: str | None = None
    t1w: Path | None = None
    flair: Path | None = None
    pets: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """``sub-01/ses-1``, or ``sub-01`` without sessions."""
        return self.folder.as_posix()

    @property
    def prefix(self) -> str:
        """``sub-01_ses-1``: how the names of the session's files begin."""
        return self.label.replace("/", "_")

    @property
    def folder(self) -> Path:
        """The session's folder within a dataset."""
        subject = Path(f"sub-{self.subject}")
        return subject if self.session is None else subject / f"ses-{self.session}"


def read_sessions(
    bids_dir: Path,
    selection: Selection,
    *,
    database_dir: Path | None = None,
    validate: bool = True,
    pet: bool = True,
) -> list[Session]:
    """The sessions asked for, sorted, those without T1w (`t1w` None) among them.

    Parameters
    ----------
    bids_dir : root of the dataset.
    selection : which people, sessions and tracers, and filters; see `picking` for the rule by
        which one of several images is picked.
    database_dir : a pybids database of the whole dataset; made when it is not there.
    validate : whether ``dataset_description.json`` is checked.
    pet : whether PET is looked for at all.

    Raises
    ------
    InvalidDatasetError
        If the folder is not a BIDS dataset.
    NothingMatchedError
        If a label asked for is not there, or a filter leaves nothing.
    UsageError
        If a filter names an entity that does not exist, or the database is of another dataset.
    """
    read_description(bids_dir, validate=validate)
    _check_filters(selection.filters)
    participants = _choose_participants(bids_dir, selection.participants)
    sessions = _choose_sessions(bids_dir, participants, selection.sessions)
    images = list_images(bids_dir, set(participants), database_dir, pet=pet)
    grouped: dict[tuple[str, str], list[ImageFile]] = defaultdict(list)
    for image in images:
        grouped[image.get("subject"), image.get("session")].append(image)
    found = [
        _read_session(bids_dir, subject, session, grouped[subject, session or ""], selection)
        for subject, session in sessions
    ]
    asked = [image for subject, session in sessions for image in grouped[subject, session or ""]]
    _check_matches(asked, selection.filters, pet=pet)
    return found


def _read_session(
    bids_dir: Path,
    subject: str,
    session: str | None,
    images: list[ImageFile],
    selection: Selection,
) -> Session:
    """One session's record out of its images."""
    bare = Session(subject, session)
    left_out: list[str] = []
    own = _named_after(bare, images, left_out)
    t1w = _pick(own, "t1w", selection, left_out)
    flair = _pick(own, "flair", selection, left_out)
    pets = candidates(own, "pet", selection.filters.get("pet", {}))
    by_tracer = _group_by_tracer(bids_dir, pets, selection.tracers, left_out)
    if t1w is None:
        left_out.insert(0, f"{bare.label}: {_why_no_t1w(bids_dir, bare)}; left out")
    return Session(subject, session, t1w, flair, by_tracer, tuple(left_out))


def _named_after(
    session: Session, images: Iterable[ImageFile], left_out: list[str]
) -> list[ImageFile]:
    """The images whose names are those of their folder."""
    if not all(_LABEL.fullmatch(label) for label in (session.subject, session.session or "0")):
        return []
    named = []
    for image in images:
        in_session = image.name.startswith(f"{session.prefix}_ses-")
        if image.name.startswith(f"{session.prefix}_") and not in_session:
            named.append(image)
        else:
            left_out.append(
                f"{image.path} was not used: its name is not that of a file of {session.label}"
            )
    return named


def _pick(
    images: Iterable[ImageFile], kind: str, selection: Selection, left_out: list[str]
) -> Path | None:
    unfiltered = candidates(images, kind, {})
    passing = candidates(images, kind, selection.filters.get(kind, {}))
    if unfiltered and not passing:
        names = ", ".join(image.name for image in unfiltered)
        left_out.append(f"{names}: not used, since the filter for {kind} leaves it out")
    image, lines = pick(_readable(passing, left_out))
    left_out += lines
    return image.path if image else None


def _why_no_t1w(bids_dir: Path, session: Session) -> str:
    for label in (session.subject, session.session or "0"):
        if not _LABEL.fullmatch(label):
            return f"the label {label} may have letters and digits only"
    folder = bids_dir / session.folder
    for part in (folder, folder / "anat"):
        try:
            next(part.iterdir(), None)
        except FileNotFoundError:
            break
        except OSError as error:
            return f"{part} cannot be read ({error.strerror})"
    return "no T1w image"


def _readable(images: Iterable[ImageFile], left_out: list[str]) -> list[ImageFile]:
    """The images that are there; those that are links to nothing go to `left_out`."""
    there = []
    for image in images:
        # os.path, since Path.exists raises where the target of a link may not be looked at.
        if os.path.exists(image.path):  # noqa: PTH110
            there.append(image)
        else:
            left_out.append(
                f"{image.name} is a link to a file that is not here: `datalad get {image.path}`"
            )
    return there


def _group_by_tracer(
    bids_dir: Path, images: Iterable[ImageFile], wanted: Collection[str], left_out: list[str]
) -> dict[str, tuple[Path, ...]]:
    by_tracer: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        label = image.get("tracer") or _tracer_of_sidecar(image.path, bids_dir)
        if not label:
            left_out.append(
                f"{image.name} was not used: neither trc- in its name nor TracerName in its "
                "sidecar says the tracer"
            )
        elif not wanted or label in wanted:
            by_tracer[label].append(image)
    readable = {label: _readable(by_tracer[label], left_out) for label in sorted(by_tracer)}
    return {
        label: tuple(image.path for image in ordered(images))
        for label, images in readable.items()
        if images
    }


def _tracer_of_sidecar(path: Path, bids_dir: Path) -> str | None:
    try:
        name = str(read_metadata(path, bids_dir).get("TracerName", ""))
    except RelaBidsError:
        # A sidecar that cannot be read says nothing; who reads the PET reports it.
        return None
    lowered = name.lower()
    bare = re.sub(r"[^a-z0-9]", "", re.sub(r"\[?(11c|18f|c-?11|f-?18)\]?", "", lowered))
    return name if name in TRACERS else NAMES_IN_SIDECARS.get(lowered, NAMES_IN_SIDECARS.get(bare))


def _choose_participants(bids_dir: Path, wanted: Collection[str]) -> list[str]:
    there = list_participants(bids_dir)
    missing = sorted(set(wanted) - set(there))
    if missing:
        raise NothingMatchedError(
            f"--participant-label: {bids_dir} has no {_some('sub-', missing)}; "
            f"it has {_some('sub-', there)}"
        )
    return sorted(set(wanted)) if wanted else there


def _choose_sessions(
    bids_dir: Path, participants: Iterable[str], wanted: Collection[str]
) -> list[tuple[str, str | None]]:
    there = [
        (subject, session)
        for subject in participants
        for session in _sessions_on_disk(bids_dir / f"sub-{subject}")
    ]
    labels = {session for _, session in there if session is not None}
    missing = sorted(set(wanted) - labels)
    if missing:
        has = _some("ses-", sorted(labels)) if labels else "no sessions"
        raise NothingMatchedError(
            f"--session-label: the participants have no {_some('ses-', missing)}; they have {has}"
        )
    return [(subject, session) for subject, session in there if not wanted or session in wanted]


def _sessions_on_disk(folder: Path) -> list[str | None]:
    """Session labels of a person; None stands for images that are in no session."""
    try:
        names = list_folders(folder)
    except OSError:
        return [None]
    sessions = [name.removeprefix("ses-") for name in names if name.startswith("ses-")]
    outside = not sessions or "anat" in names
    return [*([None] if outside else []), *sessions]


def _some(prefix: str, labels: list[str], most: int = 5) -> str:
    """``sub-01, sub-02 and 40 more``."""
    shown = ", ".join(f"{prefix}{label}" for label in labels[:most])
    return shown if len(labels) <= most else f"{shown} and {len(labels) - most} more"


def _check_filters(filters: Mapping[str, Mapping[str, object]]) -> None:
    known = entity_patterns()
    short_names = {"acq": "acquisition", "ses": "session", "sub": "subject", "trc": "tracer"}
    for kind, wanted in filters.items():
        for entity in wanted:
            if entity not in known:
                close = difflib.get_close_matches(entity, known, 1)
                hint = short_names.get(entity) or (close[0] if close else "acquisition")
                raise UsageError(
                    f"--bids-filter-file: {kind} has no entity {entity!r}: write the long name, "
                    f"as in {hint!r}"
                )


def _check_matches(
    images: list[ImageFile], filters: Mapping[str, Mapping[str, object]], *, pet: bool
) -> None:
    """Raise when a filter leaves nothing of what there is."""
    for kind, wanted in filters.items():
        if not wanted or (kind == "pet" and not pet):
            continue
        # That there is no such image at all is no fault of the filter.
        there = candidates(images, kind, {}) or "suffix" in wanted
        if there and not candidates(images, kind, wanted):
            shown = ", ".join(f"{entity}: {value}" for entity, value in wanted.items())
            raise NothingMatchedError(
                f"--bids-filter-file: no image matches {kind} {{{shown}}}: mend the filter"
            )
