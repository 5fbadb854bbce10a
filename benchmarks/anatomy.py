"""What the anatomical steps are worth: masks, FLAIR to T1w, atlas regions, time and memory.

    python benchmarks/anatomy.py REAL [--phantoms PHANTOMS] [--out TABLE.md] [--masks FOLDER]

REAL is a BIDS dataset of heads with reference masks in derivatives/<any>/**/*_desc-brain_mask;
PHANTOMS one of `python -m rela_bids.phantom`. Seconds are of one processor: all runs on one thread.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from rela_bids import (
    brain_mask,
    head_templates,
    regions,
    registration,
    templates,
    transforms,
    volumes,
)
from rela_bids.atlases import packaged_atlas

# Turns, degrees, and shifts, mm, of a FLAIR, about the middle of the brain.
MOTIONS = (
    ((20, 0, 0), (0, 0, 20)),
    ((-12, 12, -12), (10, -10, 14)),
    ((0, -20, 0), (-20, 0, 0)),
    ((8, 0, 18), (0, 20, 0)),
)

REGIONS = (
    ("cerebellum", lambda labels: np.isin(labels, templates.WHOLE_CEREBELLUM)),
    ("cortex", lambda labels: (labels >= 1000) & (labels < 3000)),
)


@dataclass(frozen=True)
class Head:
    """A session of REAL: its files, and its name without suffix."""

    name: str
    t1w: Path
    flair: Path
    mask: Path


def heads(bids_dir: Path) -> Iterator[Head]:
    """The sessions that have a reference mask."""
    for mask in sorted(bids_dir.glob("derivatives/*/**/*_desc-brain_mask.nii.gz")):
        folder = bids_dir.joinpath(*mask.relative_to(bids_dir / "derivatives").parts[1:-1])
        name = mask.name.removesuffix("_desc-brain_mask.nii.gz")
        yield Head(name, folder / f"{name}_T1w.nii.gz", folder / f"{name}_FLAIR.nii.gz", mask)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Of two boolean masks."""
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


class Clock:
    """Seconds of the processor between one call and the next."""

    def __init__(self) -> None:
        """Start it."""
        self.last = time.process_time()

    def __call__(self) -> float:
        """Seconds since the last call."""
        before, self.last = self.last, time.process_time()
        return self.last - before


def peak_gb() -> float:
    """The most memory this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_masks(head: Head, whole: head_templates.HeadTemplate | None, keep: Path | None) -> dict:
    """Dice with the packaged template, and with a whole head if there is one; what each costs."""
    clock, template = Clock(), nib.load(templates.brain_t1w())
    t1w = registration.correct_bias(volumes.load_volume(head.t1w))
    row: dict = {"head": head.name, "N4 s": clock()}
    reference = np.asarray(nib.load(head.mask).dataobj) > 0
    ways = {"": None} | ({" + " + whole.name: whole} if whole else {})
    for label, way in ways.items():
        clock()
        marked = head_templates.load_marked(way.t1w, way.mask) if way else None
        mask = brain_mask.extract_brain(t1w, template, marked).mask
        row["Dice" + label] = dice(np.asarray(mask.dataobj) > 0, reference)
        row["mask s" + label] = clock()
    brain = nib.Nifti1Image(t1w.get_fdata(dtype="f4") * np.asarray(mask.dataobj), t1w.affine)
    affine = registration.align_brain(brain, template)
    row |= {"affine s": clock(), "GB": peak_gb()}
    registration.bend_to_template(brain, template, affine)
    quality = brain_mask.mask_quality(t1w, mask, affine, template)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        nib.save(mask, keep / head.mask.name)
    return row | {"SyN s": clock(), "GB with SyN": peak_gb(), "verdict": quality.verdict}


def motion_about(centre: np.ndarray, turn: Iterable[float], shift: Iterable[float]) -> np.ndarray:
    """A rigid motion of the head, RAS+ mm, (4, 4)."""
    matrix = registration.turned_about(centre, centre, registration.rotation(*turn))
    matrix[:3, 3] += list(shift)
    return matrix


def apart(a: np.ndarray, b: np.ndarray, mask: nib.Nifti1Image) -> tuple[float, float]:
    """Mean and largest distance of two transforms over a mask, mm."""
    points = nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)[::97])
    far = nib.affines.apply_affine(a, points) - nib.affines.apply_affine(b, points)
    distance = np.linalg.norm(far, axis=1)
    return float(distance.mean()), float(distance.max())


def true_position(flair: Path) -> np.ndarray | None:
    """The T1w's RAS+ mm to a phantom FLAIR's, (4, 4); None for a person's."""
    sidecar = flair.with_name(flair.name.replace(".nii.gz", ".json"))
    points = json.loads(sidecar.read_text()).get("SimulatedPointsToT1w")
    return None if points is None else np.linalg.inv(points)


def measure_flair(head: Head) -> dict:
    """How far a FLAIR that was moved is from where it lies unmoved (or truly), over the brain."""
    mask = nib.load(head.mask)
    fixed, moving = (
        registration.correct_bias(volumes.load_volume(path)) for path in (head.t1w, head.flair)
    )
    clock, truth = Clock(), true_position(head.flair)
    rest = registration.flair_to_t1w(moving, fixed, mask)
    seconds = clock()
    centre = nib.affines.apply_affine(
        mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0).mean(0)
    )
    expected = rest if truth is None else truth
    found = []
    for turn, shift in MOTIONS:
        motion = motion_about(centre, turn, shift)
        moved = nib.Nifti1Image(np.asarray(moving.dataobj), motion @ moving.affine)
        result = registration.flair_to_t1w(moved, fixed, mask)
        found.append(apart(np.linalg.inv(motion) @ result, expected, mask))
    means, largest = zip(*found, strict=True)
    zooms = " x ".join(f"{z:.1f}" for z in moving.header.get_zooms()[:3])
    return {
        "FLAIR": head.name,
        "voxels mm": zooms,
        "against": "unmoved" if truth is None else "truth",
        "mean mm, worst of 4": max(means),
        "largest mm, worst of 4": max(largest),
        "s": seconds,
    }


def measure_regions(head: Head) -> dict:
    """Dice of a phantom's regions and the atlas, as SyN carries it and fitted to grey matter."""
    t1w = registration.correct_bias(volumes.load_volume(head.t1w))
    template, reference = nib.load(templates.brain_t1w()), nib.load(head.mask)
    mask = brain_mask.extract_brain(t1w, template).mask
    brain = nib.Nifti1Image(t1w.get_fdata(dtype="f4") * np.asarray(mask.dataobj), t1w.affine)
    found = registration.bend_to_template(
        brain, template, registration.align_brain(brain, template)
    )
    true = np.asarray(nib.load(str(head.mask).replace("brain_mask", "region_dseg")).dataobj)
    row: dict = {"phantom": head.name}
    row["mask Dice"] = dice(np.asarray(mask.dataobj) > 0, np.asarray(reference.dataobj) > 0)
    for way, labels in carried(t1w, mask, found).items():
        row |= {f"{name}, {way} Dice": dice(is_in(labels), is_in(true)) for name, is_in in REGIONS}
    return row


def carried(
    t1w: nib.Nifti1Image, mask: nib.Nifti1Image, found: registration.Registered
) -> dict[str, np.ndarray]:
    """The atlas on the grid of the T1w, through the composite that we write."""
    ants = registration.deterministic_ants()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "template_to_t1w.h5")
        transforms.write_composite(path, [np.linalg.inv(found.matrix), found.inverse_field])
        atlas = registration.to_ants(nib.load(templates.atlas()))
        raw = ants.apply_transforms(
            registration.to_ants(t1w), atlas, [str(path)], interpolator="nearestNeighbor"
        ).numpy()
        fitted = np.asarray(regions.person_regions(t1w, mask, path, packaged_atlas()).dataobj)
    return {"SyN": raw, "fitted": fitted}


def table(rows: list[dict]) -> str:
    """As Markdown; the last line has the means of what is a number."""
    columns = list(rows[0])
    mean = {c: float(np.mean([r[c] for r in rows])) for c in columns if type(rows[0][c]) is float}
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(c, row.get(c, "")) for c in columns] for row in [*rows, mean]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    digits = 3 if "Dice" in column else 2 if "mm" in column else 1 if "GB" in column else 0
    return f"{value:.{digits}f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bids_dir", type=Path, metavar="REAL")
    parser.add_argument("--phantoms", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--masks", type=Path, help="folder to keep the masks in")
    parser.add_argument("--skull-strip-template")
    parser.add_argument("--only", choices=("masks", "flair", "regions"))
    options = parser.parse_args()
    template = head_templates.find_template(options.skull_strip_template)
    whole = template if template.whole_head else None
    real = list(heads(options.bids_dir))
    phantoms = list(heads(options.phantoms)) if options.phantoms else []
    paired = [head for head in (*real, *phantoms) if head.flair.exists()]
    parts = {
        "masks": (real, lambda head: measure_masks(head, whole, options.masks)),
        "flair": (paired, measure_flair),
        "regions": (phantoms, measure_regions),
    }
    tables = []
    for part, (measured, measure) in parts.items():
        if measured and options.only in (part, None):
            rows = []
            for head in measured:
                rows.append(measure(head))
                print(rows[-1], file=sys.stderr, flush=True)
            tables.append(table(rows))
    print("\n\n".join(tables))
    if options.out:
        options.out.write_text("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
