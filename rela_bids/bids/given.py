"""What other pipelines have left in their derivatives: brain masks and PET in the T1w's space.

Files are found by name, since derivatives of PET have no merged standard and pybids' index of a
whole fMRIPrep dataset is slow.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rela_bids.bids.query import Session

# fMRIPrep and sMRIPrep; and what people call SynthStrip's.
MASK_DESCRIPTIONS = ("brain", "synthstrip")


def find_mask(derivatives: Sequence[Path], session: Session) -> Path | None:
    """The brain mask of a session in its T1w's space, from the first dataset that has one.

    Masks of a person as a whole (``sub-01/anat`` where there are sessions) are in the space of a
    template of that person, and are not taken.
    """
    for description in MASK_DESCRIPTIONS:
        for folder in _folders(derivatives, session, "anat"):
            for path in sorted(folder.glob(f"{session.prefix}_*desc-{description}_mask.nii*")):
                if entity(path, "space") in (None, "T1w"):
                    return path
    return None


def find_pets(derivatives: Sequence[Path], session: Session, tracer: str) -> tuple[Path, ...]:
    """PET of a tracer in the T1w's space, from the first dataset that has any, sorted.

    Means, maps of parameters and synthetic PET are not taken.
    """
    for folder in _folders(derivatives, session, "pet"):
        found = [
            path
            for path in sorted(folder.glob(f"{session.prefix}_*_pet.nii*"))
            if entity(path, "trc") == tracer
            and entity(path, "space") == "T1w"
            and not (entity(path, "desc") or "").startswith("synth")
        ]
        if found:
            return tuple(found)
    return ()


def entity(path: Path, key: str) -> str | None:
    """The value of an entity in a file's name.

    >>> entity(Path("sub-01_trc-11CPIB_space-T1w_pet.nii.gz"), "space")
    'T1w'
    """
    parts = dict(part.split("-", 1) for part in path.name.split("_") if "-" in part)
    return parts.get(key)


def _folders(derivatives: Sequence[Path], session: Session, datatype: str) -> Iterator[Path]:
    return (dataset / session.folder / datatype for dataset in derivatives)
