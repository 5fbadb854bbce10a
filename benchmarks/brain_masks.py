"""Dice of our brain masks against reference masks, and what they cost.

    python benchmarks/brain_masks.py BIDS_DIR [--out TABLE.md] [--masks FOLDER]

BIDS_DIR has reference masks in derivatives/<any>/**/*_desc-brain_mask.nii.gz. Seconds are of one
processor: everything runs on one thread.
"""

import argparse
import resource
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from rela_bids import brain_mask, registration, templates, volumes


def measure(t1w_path: Path, reference_path: Path, masks: Path | None) -> list[str]:
    """One row: name, Dice, volume, quality, seconds of N4, mask and affine."""
    times = [time.process_time()]
    t1w = registration.correct_bias(volumes.load_volume(t1w_path))
    times.append(time.process_time())
    template = nib.load(templates.brain_t1w())
    mask = brain_mask.extract_brain(t1w, template).mask
    times.append(time.process_time())
    inside = np.asarray(mask.dataobj) > 0
    brain = nib.Nifti1Image(t1w.get_fdata(dtype=np.float32) * inside, t1w.affine)
    affine = registration.align_brain(brain, template)
    times.append(time.process_time())
    quality = brain_mask.mask_quality(t1w, mask, affine, template)
    reference = np.asarray(nib.load(reference_path).dataobj) > 0
    dice = 2 * (inside & reference).sum() / (inside.sum() + reference.sum())
    name = t1w_path.name.removesuffix("_T1w.nii.gz")
    if masks:
        masks.mkdir(parents=True, exist_ok=True)
        nib.save(mask, masks / f"{name}_desc-brain_mask.nii.gz")
    seconds = [f"{t:.0f}" for t in (*np.diff(times), times[-1] - times[0])]
    return [
        name,
        f"{dice:.3f}",
        f"{quality.volume_ml:.0f}",
        f"{quality.template_overlap:.3f}",
        f"{quality.bright_edge:.2f}",
        quality.verdict,
        *seconds,
    ]


HEADER = ["head", "Dice", "ml", "overlap", "edge", "verdict", "N4 s", "mask s", "affine s", "all s"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--masks", type=Path)
    options = parser.parse_args()
    rows = [HEADER, ["---"] * len(HEADER)]
    for reference in sorted(options.bids_dir.glob("derivatives/*/**/*_desc-brain_mask.nii.gz")):
        inner = reference.relative_to(options.bids_dir / "derivatives").parts[1:-1]
        name = reference.name.replace("_desc-brain_mask", "_T1w")
        rows.append(measure(options.bids_dir.joinpath(*inner, name), reference, options.masks))
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
    dice = [float(row[1]) for row in rows[2:]]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.append(f"\nMean Dice {np.mean(dice):.3f}, least {np.min(dice):.3f}; peak {peak:.1f} GB.")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
