"""Whether the anatomy that is in OUT is what the same input and settings would give again.

The sidecars say it: each anatomical output has the hashes of the files it was made from, and the
settings and version it was made with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from rela_bids import __version__
from rela_bids.bids import derivatives as names
from rela_bids.bids.metadata import read_json_object
from rela_bids.bids.query import Session
from rela_bids.exceptions import RelaBidsError
from rela_bids.head_templates import find_template
from rela_bids.settings import AnatomySettings, Settings

HASHES = "SourcesSHA256"
MADE_WITH = "GeneratedWith"
SOURCES = ("T1w", "FLAIR", "BrainMask")


@dataclass(frozen=True)
class Anatomy:
    """A session's anatomy in OUT; the transforms are ITK composites."""

    t1w: Path
    brain_mask: Path
    flair: Path | None
    to_template: Path
    from_template: Path


def made_with(anatomy: AnatomySettings) -> dict[str, Any]:
    """What anatomical outputs depend on beside their sources, for their sidecars."""
    template = (
        {"Template": find_template(anatomy.skull_strip_template).name}
        if anatomy.skull_strip == "ants"
        else {}
    )
    return {
        "Name": names.GENERATOR,
        "Version": __version__,
        "SkullStrip": anatomy.skull_strip,
        **template,
    }


def sources(session: Session, brain_mask: Path | None = None) -> dict[str, Path]:
    """The files that a session's anatomy is made from, by what they are."""
    given = dict(zip(SOURCES, (session.t1w, session.flair, brain_mask), strict=True))
    return {kind: path for kind, path in given.items() if path is not None}


def hashes(files: Mapping[str, Path | str]) -> dict[str, str]:
    """SHA-256 of each file, in hexadecimal."""
    found = {}
    for kind, path in files.items():
        with Path(path).open("rb") as file:
            found[kind] = file_digest(file, "sha256").hexdigest()
    return found


def finished_anatomy(
    session: Session, settings: Settings, brain_mask: Path | None = None
) -> Anatomy | None:
    """A session's anatomy in OUT, if it is whole and would come out the same; else None.

    `brain_mask` is the mask of another pipeline that would be used.
    """
    derivatives = names.Derivatives(settings.output_dir)
    outputs = [names.T1W, names.BRAIN_MASK, names.TO_TEMPLATE]
    outputs += [names.FLAIR] if session.flair else []
    if not all(derivatives.path(session, output).exists() for output in outputs):
        return None
    try:
        sidecars = [
            read_json_object(derivatives.path(session, output, extension=".json"))
            for output in outputs
        ]
        now = made_with(settings.anatomy)
        if any(sidecar.get(MADE_WITH) != now for sidecar in sidecars):
            return None
        # Hashing reads whole images, and so comes last.
        digests = hashes(sources(session, brain_mask))
    except (RelaBidsError, OSError):
        return None
    if any(sidecar.get(HASHES) != digests for sidecar in sidecars):
        return None
    return anatomy_in(settings.output_dir, session)


def anatomy_in(output_dir: Path, session: Session) -> Anatomy:
    """Where a session's anatomy lies."""
    derivatives = names.Derivatives(output_dir)
    return Anatomy(
        t1w=derivatives.path(session, names.T1W),
        brain_mask=derivatives.path(session, names.BRAIN_MASK),
        flair=derivatives.path(session, names.FLAIR) if session.flair else None,
        to_template=derivatives.path(session, names.TO_TEMPLATE),
        from_template=derivatives.path(session, names.FROM_TEMPLATE),
    )
