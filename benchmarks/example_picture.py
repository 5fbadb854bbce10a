"""The picture of the README: a T1w, the synthetic PET that the bundled model makes of it, its std.

    python benchmarks/example_picture.py T1W docs/images/example.webp [--flair FLAIR]

A slice through the middle of the brain along each axis, the person's left on the left.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np

from rela_bids import SyntheticImages, synthesize
from rela_bids.reports.figures import brain_box, upright
from rela_bids.tracers import TRACERS
from rela_bids.volumes import load_volume


def slices(volume: np.ndarray) -> np.ndarray:
    """Axial, coronal and sagittal, side by side, front or top up; (X, Y, Z) axes are RAS+."""
    x, y, z = (n // 2 for n in volume.shape)
    # A little off the midline, where there is cortex to see.
    views = volume[:, :, z], volume[:, y, :], volume[x + 12, :, :]
    height = max(view.shape[1] for view in views)
    padded = [np.pad(v.T[::-1], (((height - v.shape[1]) // 2, 0), (2, 2))) for v in views]
    tallest = max(len(view) for view in padded)
    return np.hstack([np.pad(view, ((0, tallest - len(view)), (0, 0))) for view in padded])


def draw(t1w: nib.Nifti1Image, pet: SyntheticImages, path: Path) -> None:
    """T1w, mean and standard deviation in rows."""
    box = brain_box(pet.brain_mask, 6.0)
    head, mean, std = (slices(upright(image, box)) for image in (t1w, pet.mean, pet.std))
    name = TRACERS[pet.tracer].name
    rows = [
        ("T1w", head, "gray", float(np.percentile(head, 99.5))),
        (f"Synthetic {name}, SUVR", mean, "inferno", float(np.percentile(mean, 99.8))),
        ("Its standard deviation over samples, SUVR", std, "viridis", float(std.max())),
    ]
    figure, axes = plt.subplots(3, 1, figsize=(6.4, 7.4), facecolor="black", layout="constrained")
    for axis, (title, picture, colours, upper) in zip(axes, rows, strict=True):
        drawn = axis.imshow(picture, cmap=colours, vmin=0, vmax=upper, interpolation="bilinear")
        axis.set_title(title, color="white", loc="left", fontsize=10)
        axis.axis("off")
        if colours != "gray":
            figure.colorbar(drawn, ax=axis, shrink=0.8).ax.tick_params(colors="white", labelsize=8)
    trained = pet.metadata["Model"]["TrainedOn"]
    figure.suptitle(f"SIMULATED: model trained on {trained}", color="orange", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 80})


def main() -> None:
    """Synthesise and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("t1w", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--flair", type=Path)
    parser.add_argument("--tracer", default="18FFDG")
    arguments = parser.parse_args()
    pet = synthesize(arguments.t1w, arguments.flair, arguments.tracer)
    draw(load_volume(arguments.t1w), pet, arguments.picture)


if __name__ == "__main__":
    main()
