"""How near the regional SUVR of phantoms' PET comes to the truth, through the whole path.

    python benchmarks/regional_truth.py PHANTOMS OUT [--out TABLE.md]

PHANTOMS is a dataset of `python -m rela_bids.phantom`, OUT what `rela_bids PHANTOMS OUT
participant` made of it: frames realigned and averaged, PET to T1w, SUVR. The truth is the true map
at the scanner's resolution, which is what a perfect pipeline measures. Two errors, percent:

- of the PET's path: measured against true map, both in the true regions;
- with the atlas: measured in the carried regions against the true map in the true regions.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from rela_bids.atlases import packaged_atlas
from rela_bids.quantification import region_means, region_volumes

# Regions smaller than this are left out, ml.
LEAST_ML = 2.0


def regional_errors(
    measured: np.ndarray,
    seen: np.ndarray,
    true_regions: np.ndarray,
    carried: np.ndarray,
    voxel_ml: float,
) -> tuple[dict[str, float], dict[str, float]]:
    """Errors of the PET's path and with the atlas, percent, by region of at least `LEAST_ML`.

    All arrays (X, Y, Z) on the T1w grid; `measured` and `seen` in SUVR.
    """
    names = packaged_atlas().names
    indices = list(names)
    truth = region_means(seen, true_regions, indices)
    large = region_volumes(true_regions, indices, voxel_ml) >= LEAST_ML
    errors = []
    for labels in (true_regions, carried):
        kept = large & (region_volumes(labels, indices, voxel_ml) >= LEAST_ML)
        off = 100 * (region_means(measured, labels, indices) / truth - 1)
        errors.append({names[i]: e for i, e, k in zip(indices, off, kept, strict=True) if k})
    return errors[0], errors[1]


def of_sessions(phantoms: Path, out: Path) -> Iterator[dict[str, object]]:
    """A row for each measured PET of OUT."""
    for path in sorted(out.glob("sub-*/**/pet/*_desc-measured_pet.nii.gz")):
        folder, tracer = path.parent.parent, path.name.split("trc-")[1].split("_")[0]
        truth = phantoms / "derivatives" / "truth" / folder.relative_to(out)
        prefix = path.name.split("_trc-")[0]
        image = nib.load(path)
        seen = truth / "pet" / f"{prefix}_trc-{tracer}_space-T1w_desc-seen_pet.nii.gz"
        regions = truth / "anat" / f"{prefix}_desc-region_dseg.nii.gz"
        carried = next(folder.glob("anat/*_desc-regions_dseg.nii.gz"))
        pet_path, with_atlas = regional_errors(
            image.get_fdata(dtype=np.float32),
            nib.load(seen).get_fdata(dtype=np.float32),
            *(np.asarray(nib.load(p).dataobj).astype(int) for p in (regions, carried)),
            float(abs(np.linalg.det(image.affine[:3, :3])) / 1000),
        )
        row: dict[str, object] = {"session": prefix, "tracer": tracer, "regions": len(pet_path)}
        for name, errors in (("path", pet_path), ("with atlas", with_atlas)):
            sizes = {region: abs(error) for region, error in errors.items()}
            worst = max(sizes, key=sizes.__getitem__)
            values = np.array(list(sizes.values()))
            row |= {
                f"{name}: median %": float(np.median(values)),
                f"{name}: within 2 %": f"{(values <= 2).sum()}/{len(values)}",
                f"{name}: most %": sizes[worst],
                f"{name}: where": worst,
            }
        yield row


def table(rows: Sequence[dict[str, object]]) -> str:
    """As Markdown."""
    columns = list(rows[0])
    shown = [
        [f"{row[c]:.2f}" if isinstance(row[c], float) else str(row[c]) for c in columns]
        for row in rows
    ]
    lines = [columns, ["---"] * len(columns), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phantoms", type=Path)
    parser.add_argument("out_dir", type=Path, metavar="OUT")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    arguments = parser.parse_args()
    text = table(list(of_sessions(arguments.phantoms, arguments.out_dir)))
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
