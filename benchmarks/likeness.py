"""What `rela_bids.likeness` measures of real heads, as they are and spoilt.

    python benchmarks/likeness.py REAL

REAL is a BIDS dataset with T1w, FLAIR and brain masks in derivatives/, as for anatomy.py.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from anatomy import heads

from rela_bids import registration, templates, volumes
from rela_bids.likeness import Likeness, measure_likeness, unlike
from rela_bids.transforms import to_model_grid
from rela_bids.volumes import TEMPLATE_BRAIN_CENTRE, Grid

GRID = Grid.about(TEMPLATE_BRAIN_CENTRE, (80, 96, 80), 2.0)


def show(name: str, found: Likeness) -> None:
    """One line."""
    flag = "flagged" if unlike(found) else ""
    flair = "–" if found.flair_contrast is None else f"{found.flair_contrast:.2f}"
    line = f"| {name} | {found.t1w_correlation:.2f} | {found.t1w_contrast:.2f} | {flair} | {flag} |"
    print(line, flush=True)


def main() -> int:
    """Print the table."""
    print("| head | r with template | white - grey | FLAIR tissue - CSF | |\n|---|---|---|---|---|")
    for head in heads(Path(sys.argv[1])):
        t1w, mask = volumes.load_volume(head.t1w), nib.load(head.mask)
        inside = np.asarray(mask.dataobj) > 0
        brain = nib.Nifti1Image(np.where(inside, t1w.get_fdata(dtype="f4"), 0), t1w.affine)
        affine = registration.align_brain(brain, nib.load(templates.brain_t1w()))
        here = to_model_grid(mask, affine, GRID) >= 0.5
        data = np.where(here, to_model_grid(t1w, affine, GRID), 0).astype(np.float32)
        show(head.name, measure_likeness(data, None, here, GRID))
        spoilt = {
            "inverted": np.where(here, data.max() - data, 0),
            "noise": np.where(here, np.random.default_rng(0).random(here.shape), 0),
            "shifted 20 mm": np.roll(data, 10, axis=2),
            "upside down": data[:, :, ::-1],
        }
        for kind, volume in spoilt.items():
            show(f"{head.name}, {kind}", measure_likeness(volume.astype("f4"), None, here, GRID))
    return 0


if __name__ == "__main__":
    sys.exit(main())
