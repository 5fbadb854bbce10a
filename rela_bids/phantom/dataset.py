"""A BIDS dataset of phantoms, with the truth as a derivative dataset inside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from rela_bids.atomic import write_atomically, write_json, write_text
from rela_bids.exceptions import UsageError
from rela_bids.phantom import sidecars
from rela_bids.phantom.anatomy import Head, build_head, random_pose
from rela_bids.phantom.person import Person, aged, draw_person
from rela_bids.phantom.pet import (
    pattern_of,
    reference_mask,
    seen_by_scanner,
    tracer_generator,
    true_suvr,
)
from rela_bids.phantom.scans import flair_scan, head_grid, pet_scan, segmentations, t1w_scan
from rela_bids.templates import atlas_names
from rela_bids.tracers import Tracer

TRUTH = Path("derivatives", "truth")
YEARS_BETWEEN_SESSIONS = 2.0
PET_FWHM = (4.0, 6.0)


@dataclass(frozen=True)
class Recipe:
    """What to make.

    Attributes
    ----------
    subjects : how many people.
    seed : with a person's place in the dataset it decides all that is random of them.
    tracers : each person's PET.
    voxel_size : of the T1w, mm; FLAIR and PET follow it.
    sessions : of each person, two years apart; None for no session level.
    frames : PET frames within the tracer's window; one more lies before it and one after.
    without_flair : share of sessions without FLAIR, by chance.
    missing_pet : chance that a session lacks a tracer; each keeps one at least.

    Raises
    ------
    UsageError
        If there is no uptake pattern for a tracer, or a number is out of range.
    """

    subjects: int
    seed: int
    tracers: Sequence[Tracer]
    voxel_size: float = 1.0
    sessions: int | None = None
    frames: int = 4
    without_flair: float = 0.0
    missing_pet: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        for tracer in self.tracers:
            pattern_of(tracer.label)
        allowed = {
            "--subjects, at least 1": self.subjects >= 1,
            "--seed, 0 or more": self.seed >= 0,
            "--tracers, at least one": bool(self.tracers),
            "--voxel-size, 0.5 to 5 mm": 0.5 <= self.voxel_size <= 5,
            "--sessions, at least 1": self.sessions is None or self.sessions >= 1,
            "--frames, at least 1": self.frames >= 1,
            "--without-flair, 0 to 1": 0 <= self.without_flair <= 1,
            "--missing-pet, 0 to 1": 0 <= self.missing_pet <= 1,
        }
        for option, valid in allowed.items():
            if not valid:
                raise UsageError(f"Out of range: give {option}")


@dataclass(frozen=True)
class Visit:
    """One session of one person: who, when, and where its files go."""

    out: Path
    subject: str
    session: str | None
    key: tuple[int, int]
    number: int
    person: Person

    def generator(self, purpose: int) -> np.random.Generator:
        """Chance of this visit alone, a stream of its own for each purpose."""
        return np.random.default_rng((*self.key, 1000 + self.number, purpose))

    @property
    def folder(self) -> Path:
        """``sub-01/ses-1`` or ``sub-01``."""
        parts = [f"sub-{self.subject}"] + ([f"ses-{self.session}"] if self.session else [])
        return Path(*parts)

    def raw(self, datatype: str, name: str) -> Path:
        """Path of a raw file without extension."""
        return self.out / self.folder / datatype / f"{'_'.join(self.folder.parts)}_{name}"

    def truth(self, datatype: str, name: str) -> Path:
        """Path of a file of the truth without extension."""
        root = self.out / TRUTH
        return root / self.folder / datatype / f"{'_'.join(self.folder.parts)}_{name}"


def write_dataset(out: Path, recipe: Recipe) -> Path:
    """Write phantoms into `out`, a raw BIDS dataset, and the truth beside them; returns `out`."""
    people = [
        draw_person(np.random.default_rng((recipe.seed, index))) for index in range(recipe.subjects)
    ]
    width = max(2, len(str(recipe.subjects)))
    labels = [f"{index + 1:0{width}d}" for index in range(recipe.subjects)]
    _write_top_level(out, labels, people)
    for index, (label, person) in enumerate(zip(labels, people, strict=True)):
        for visit in _visits(out, label, (recipe.seed, index), person, recipe.sessions):
            _write_visit(visit, recipe)
    return out


def _visits(
    out: Path, label: str, key: tuple[int, int], person: Person, sessions: int | None
) -> Iterator[Visit]:
    if sessions is None:
        yield Visit(out, label, None, key, 0, person)
        return
    for number in range(sessions):
        older = aged(person, number * YEARS_BETWEEN_SESSIONS) if number else person
        yield Visit(out, label, str(number + 1), key, number, older)


def _write_visit(visit: Visit, recipe: Recipe) -> None:
    # The anatomy is the person's, the same at each visit; the pose and the scans are the visit's.
    anatomy = np.random.default_rng((*visit.key, 1))
    pose = random_pose(visit.generator(0), aligned=False)
    head = build_head(anatomy, visit.person, head_grid(recipe.voxel_size), pose, whole=True)
    t1w = t1w_scan(visit.generator(1), head)
    _write_image(visit.raw("anat", "T1w"), t1w, sidecars.t1w())
    choice = visit.generator(2)
    if choice.random() >= recipe.without_flair:
        flair, points_to_t1w = flair_scan(visit.generator(3), head)
        _write_image(visit.raw("anat", "FLAIR"), flair, sidecars.flair(points_to_t1w))
    _write_segmentations(visit, head)
    for tracer in _kept(choice, recipe.tracers, recipe.missing_pet):
        _write_pet(visit, head, tracer, recipe.frames)


def _kept(rng: np.random.Generator, tracers: Sequence[Tracer], missing: float) -> Sequence[Tracer]:
    kept = rng.random(len(tracers)) >= missing
    kept[rng.integers(len(tracers))] |= not kept.any()
    return [tracer for tracer, keep in zip(tracers, kept, strict=True) if keep]


def _write_pet(visit: Visit, head: Head, tracer: Tracer, n_frames: int) -> None:
    own = tracer_generator((*visit.key, 2000 + visit.number), tracer)
    fwhm = own.uniform(*PET_FWHM)
    truth = true_suvr(visit.key, head, visit.person, tracer)
    seen = seen_by_scanner(truth, head, tracer, fwhm)
    frames = sidecars.Frames.about_window(tracer, n_frames)
    scan = pet_scan(own, seen, head, tracer, frames)
    metadata = sidecars.pet(tracer, frames, fwhm, scan.points_to_t1w, scan.frame_points_to_t1w)
    raw = visit.raw("pet", f"trc-{tracer.label}_pet")
    _write_image(raw, scan.image, metadata)
    for name, suvr in (("true", truth), ("seen", seen)):
        path = visit.truth("pet", f"trc-{tracer.label}_space-T1w_desc-{name}_pet")
        fields = sidecars.true_suvr(tracer, name, fwhm) | _provenance(visit, raw)
        fields["SpatialReference"] = _uri(visit, visit.raw("anat", "T1w"))
        _write_image(path, head.grid.image(suvr), fields)
    mask = head.grid.image(reference_mask(head, tracer).astype(np.uint8))
    region = "".join(word.capitalize() for word in tracer.reference_region.split())
    path = visit.truth("anat", f"desc-{region[0].lower()}{region[1:]}_mask")
    description = f"True {tracer.reference_region}, a reference region"
    _write_image(path, mask, sidecars.simulated(description, Type="ROI") | _provenance(visit))


def _write_segmentations(visit: Visit, head: Head) -> None:
    tissues, regions = segmentations(head)
    images = {
        "desc-brain_mask": (
            head.brain.astype(np.uint8),
            sidecars.simulated("True brain, with the CSF of sulci and ventricles", Type="Brain"),
        ),
        "desc-tissue_dseg": (tissues, sidecars.simulated("True tissue of each voxel")),
        "desc-region_dseg": (
            regions,
            sidecars.simulated("True region of each voxel, FreeSurfer's numbers"),
        ),
    }
    for name, (data, metadata) in images.items():
        _write_image(
            visit.truth("anat", name), head.grid.image(data), metadata | _provenance(visit)
        )


def _provenance(visit: Visit, raw: Path | None = None) -> dict[str, object]:
    return {"Sources": [_uri(visit, raw or visit.raw("anat", "T1w"))]}


def _uri(visit: Visit, raw: Path) -> str:
    return f"bids:raw:{raw.relative_to(visit.out).as_posix()}.nii.gz"


def _write_image(stem: Path, image: nib.Nifti1Image, metadata: Mapping[str, object]) -> None:
    """``stem``.nii.gz and its sidecar; real numbers as scaled int16, which is how scanners do."""
    if np.issubdtype(image.get_data_dtype(), np.floating):
        image.set_data_dtype(np.int16)
    image.header["descrip"] = b"SIMULATED digital phantom"
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    with write_atomically(stem.with_name(stem.name + ".nii.gz")) as temporary:
        image.to_filename(temporary)
    write_json(stem.with_name(stem.name + ".json"), metadata)


def _write_top_level(out: Path, labels: Sequence[str], people: Sequence[Person]) -> None:
    participants = pd.DataFrame(
        {
            "participant_id": [f"sub-{label}" for label in labels],
            **{
                column: [getattr(person, column) for person in people]
                for column in sidecars.PARTICIPANTS
            },
        }
    )
    write_text(
        out / "participants.tsv",
        participants.to_csv(sep="\t", index=False, float_format="%.4g", lineterminator="\n"),
    )
    write_json(out / "participants.json", sidecars.PARTICIPANTS)
    for root, derivative in ((out, False), (out / TRUTH, True)):
        name = "Truth of the phantoms" if derivative else "Digital head phantoms"
        description = sidecars.dataset_description(name, derivative=derivative)
        write_json(root / "dataset_description.json", description)
        write_text(root / "README.md", sidecars.README)
    _write_labels(out / TRUTH / "desc-tissue_dseg.tsv", dict(sidecars.TISSUE_LABELS))
    _write_labels(out / TRUTH / "desc-region_dseg.tsv", atlas_names())


def _write_labels(path: Path, names: Mapping[int, str]) -> None:
    lines = ["index\tname", *(f"{index}\t{name}" for index, name in names.items())]
    write_text(path, "\n".join(lines) + "\n")
