"""Brain masks: from the head by ANTs and a deformable surface, by deepbet, or given; and judged.

"Brain" here is what lies within the inner skull down to the foramen magnum, sulcal and ventricular
CSF included.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids.deformable import bet
from rela_bids.exceptions import BadDataError, UsageError
from rela_bids.outlines import REACH, brain_outline, head_outline, signed_distance, within_reach
from rela_bids.registration import (
    COARSE_VOXEL,
    WORKING_VOXEL,
    above_neck,
    brain_to_template,
    head_mask,
    support,
    template_starts,
)
from rela_bids.settings import SkullStrip
from rela_bids.transforms import Matrix, isotropic, resample
from rela_bids.volumes import Array, Scan, load_volume, scan_name

# The surface is let out a little further than BET's own default would on a T1w.
BET_THRESHOLD = 0.7

# What each outline says of the edge: of the surface and of the brain template; of these two and of
# a template of a whole head.
WEIGHTS = (0.4, 0.6)
WEIGHTS_WITH_HEAD = (0.2, 0.4, 0.4)


@dataclass(frozen=True)
class BrainExtraction:
    """A mask and where it puts the brain.

    Attributes
    ----------
    mask : uint8, on the grid of the T1w.
    to_template : (4, 4), RAS+ mm of the template to RAS+ mm of the T1w.
    """

    mask: nib.Nifti1Image
    to_template: Matrix


def make_mask(
    t1w: nib.Nifti1Image,
    template: nib.Nifti1Image,
    method: SkullStrip,
    marked_head: tuple[nib.Nifti1Image, nib.Nifti1Image] | None = None,
) -> nib.Nifti1Image:
    """The mask of a brain by one of the methods of ``--skull-strip``, uint8, on the T1w's grid.

    Parameters are those of `extract_brain`, errors those of `deepbet_mask` and `stripped_mask`.
    """
    if method == "skip":
        return stripped_mask(t1w)
    if method == "deepbet":
        return deepbet_mask(t1w)
    return extract_brain(t1w, template, marked_head).mask


def extract_brain(
    t1w: nib.Nifti1Image,
    template: nib.Nifti1Image,
    marked_head: tuple[nib.Nifti1Image, nib.Nifti1Image] | None = None,
) -> BrainExtraction:
    """A surface grown to the brain's edge, templates aligned by it, and the mean of them.

    The surface (BET) follows this head but leaks where bright tissue touches the brain; the affine
    template does not leak but knows only the average brain; a whole head, bent to this one, knows
    skull and scalp, and errs where it is not like this one. Their errors have little in common.

    Parameters
    ----------
    t1w : whole head, bias-corrected, any grid.
    template : a stripped T1w, zero outside the brain.
    marked_head : T1w of a whole head and the mask of its brain, if there is such a template.
    """
    head = isotropic(t1w, WORKING_VOXEL)
    data = np.asarray(head.dataobj, dtype=np.float32)
    kept = above_neck(head)
    surface = np.zeros(data.shape, bool)
    surface[kept] = bet(data[kept], WORKING_VOXEL, threshold=BET_THRESHOLD)
    brain = nib.Nifti1Image(data * surface, head.affine)
    small = isotropic(template, WORKING_VOXEL)
    matrix = brain_to_template(brain, small, template_starts(brain, small))
    edges = [within_reach(signed_distance(surface) * WORKING_VOXEL)]
    edges.append(brain_outline(template, head, matrix))
    if marked_head is not None:
        edges.append(head_outline(marked_head, template, head, matrix))
    weights = WEIGHTS if marked_head is None else WEIGHTS_WITH_HEAD
    distance = sum(weight * edge for weight, edge in zip(weights, edges, strict=True))
    fine = resample(nib.Nifti1Image(REACH - distance, head.affine), t1w, np.eye(4))
    inside = largest_part(np.asarray(fine.dataobj) > REACH)
    return BrainExtraction(_mask_image(ndimage.binary_fill_holes(inside), t1w), matrix)


def _prior(template: nib.Nifti1Image, image: nib.Nifti1Image, to_template: Matrix) -> Array:
    """How much of each voxel of `image` is inside the template's brain, 0 to 1."""
    return np.asarray(resample(support(template), image, np.linalg.inv(to_template)).dataobj)


def _mask_image(mask: NDArray[np.bool_], like: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(mask.astype(np.uint8), like.affine)


def strip(t1w: nib.Nifti1Image, mask: nib.Nifti1Image) -> nib.Nifti1Image:
    """`t1w`, float32, 0 outside the mask."""
    inside = np.asarray(mask.dataobj) > 0
    brain = np.where(inside, np.asarray(t1w.dataobj, dtype=np.float32), np.float32(0))
    return nib.Nifti1Image(brain, t1w.affine)


def stripped_mask(t1w: nib.Nifti1Image) -> nib.Nifti1Image:
    """The mask of an image that is already stripped: its largest part that is not 0, filled.

    Raises
    ------
    BadDataError
        If so much of the field of view, or of its border, is not 0 that it cannot be stripped.
    """
    inside = np.asarray(t1w.dataobj) > 0
    border = np.ones(inside.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    if inside.mean() > 0.6 or inside[border].mean() > 0.2:
        raise BadDataError(
            "the T1w is not skull-stripped (most of its background is not 0): use "
            "--skull-strip ants"
        )
    return _mask_image(ndimage.binary_fill_holes(largest_part(inside)), t1w)


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest part that hangs together face to face."""
    labels, n = ndimage.label(mask)
    if n < 2:
        return mask
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def deepbet_mask(t1w: nib.Nifti1Image) -> nib.Nifti1Image:
    """deepbet's mask, uint8 on the grid of the T1w; on the CPU, as the rest is.

    Raises
    ------
    UsageError
        If deepbet is not installed.
    """
    try:
        from deepbet import run_bet
    except ImportError as error:
        raise UsageError(
            "--skull-strip deepbet needs deepbet: pip install 'rela_bids[deepbet]'"
        ) from error
    with tempfile.TemporaryDirectory(prefix="rela_bids_deepbet_") as folder:
        scan, found = Path(folder, "t1w.nii.gz"), Path(folder, "mask.nii.gz")
        nib.save(t1w, scan)
        run_bet([str(scan)], mask_paths=[str(found)], no_gpu=True, skip_broken=False)
        mask = resample(nib.load(found), t1w, np.eye(4), order=0)
    return _mask_image(np.asarray(mask.dataobj) > 0.5, t1w)


def adopt_mask(mask: Scan, t1w: nib.Nifti1Image) -> nib.Nifti1Image:
    """A brain mask that another program made of this T1w, uint8, on the grid of `t1w`.

    Voxels are matched through the headers, nearest neighbour: of an image on the same grid nothing
    changes. What is above 0.5 is brain.

    Raises
    ------
    BadDataError
        If it is empty, is no size a brain can have, or does not lie in the head of `t1w`.
    """
    given = load_volume(mask)
    marked = _mask_image(np.asarray(given.dataobj) > 0.5, given)
    inside = np.asarray(resample(marked, t1w, np.eye(4), order=0).dataobj) > 0.5
    there, here = _millilitres(marked), _millilitres(_mask_image(inside, t1w))
    if not VOLUME_ML[0] <= there <= VOLUME_ML[-1]:
        raise BadDataError(f"{scan_name(mask)} marks {there:.0f} ml, not a brain: leave it out")
    if here < 0.9 * there or _share_in_head(inside, t1w) < 0.9:
        raise BadDataError(
            f"{scan_name(mask)} does not lie in the head of the T1w: give a mask in the space of "
            "this session's T1w"
        )
    return _mask_image(inside, t1w)


def _millilitres(mask: nib.Nifti1Image) -> float:
    voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    return float(np.count_nonzero(np.asarray(mask.dataobj)) * voxel_ml)


def _share_in_head(inside: NDArray[np.bool_], t1w: nib.Nifti1Image) -> float:
    """How much of a mask lies in what is not air."""
    coarse = isotropic(t1w, COARSE_VOXEL)
    marked = np.asarray(resample(_mask_image(inside, t1w), coarse, np.eye(4)).dataobj) > 0.5
    return float(head_mask(coarse)[marked].mean())


@dataclass(frozen=True)
class MaskQuality:
    """What is measured of a brain mask, and what to think of it.

    Attributes
    ----------
    volume_ml : of the mask.
    template_overlap : Dice of the mask and the aligned template's mask.
    bright_edge : fraction of the shell 2 to 4 mm outside the mask that is as bright as brain;
        large where brain was cut off or the mask stops in the middle of tissue.
    verdict : ``"ok"``, ``"warn"`` or ``"fail"``.
    reason : why, if not ``"ok"``.
    """

    volume_ml: float
    template_overlap: float
    bright_edge: float
    verdict: str
    reason: str

    def to_dict(self) -> dict[str, float | str]:
        """As JSON has it."""
        return asdict(self)


# (certainly wrong below, doubtful below, doubtful above, certainly wrong above)
VOLUME_ML = (600.0, 900.0, 2100.0, 2400.0)
OVERLAP = (0.80, 0.88)
BRIGHT_EDGE = (0.60, 0.75)


def mask_quality(
    t1w: nib.Nifti1Image,
    mask: nib.Nifti1Image,
    to_template: Matrix,
    template: nib.Nifti1Image,
) -> MaskQuality:
    """Judge a mask by its size, by the aligned template and by what lies outside its edge."""
    inside = np.asarray(mask.dataobj) > 0
    volume = _millilitres(mask)
    prior = _prior(template, mask, to_template) > 0.5
    overlap = float(2 * (inside & prior).sum() / max(inside.sum() + prior.sum(), 1))
    bright = _bright_edge(t1w, mask)
    doubts = {
        f"{volume:.0f} ml of brain": _grade_range(volume, VOLUME_ML),
        f"overlap {overlap:.2f} with the aligned template": _grade_floor(overlap, OVERLAP),
        f"{bright:.0%} of the tissue next to it looks like brain": _grade_floor(
            -bright, (-BRIGHT_EDGE[1], -BRIGHT_EDGE[0])
        ),
    }
    worst = max(doubts.values())
    reason = "; ".join(text for text, grade in doubts.items() if grade > 0)
    verdict = ("ok", "warn", "fail")[worst]
    return MaskQuality(round(volume, 1), round(overlap, 4), round(bright, 4), verdict, reason)


def _grade_range(value: float, limits: tuple[float, float, float, float]) -> int:
    low, doubtful_low, doubtful_high, high = limits
    if not low <= value <= high:
        return 2
    return 0 if doubtful_low <= value <= doubtful_high else 1


def _grade_floor(value: float, limits: tuple[float, float]) -> int:
    return 2 if value < limits[0] else int(value < limits[1])


def _bright_edge(t1w: nib.Nifti1Image, mask: nib.Nifti1Image) -> float:
    head = isotropic(t1w, WORKING_VOXEL)
    data = np.asarray(head.dataobj)
    inside = np.asarray(resample(mask, head, np.eye(4)).dataobj) > 0.5
    if not inside.any():
        return 1.0
    distance = ndimage.distance_transform_edt(~inside) * WORKING_VOXEL
    shell = (distance > 2.0) & (distance <= 4.0)
    low, high = np.percentile(data[inside], [25, 98])
    near = data[shell]
    return float(((near > low) & (near < high)).mean()) if near.size else 1.0


def require_usable(quality: MaskQuality, t1w_name: str) -> None:
    """Stop here if the mask is certainly wrong.

    Raises
    ------
    BadDataError
    """
    if quality.verdict == "fail":
        raise BadDataError(
            f"the brain mask of {t1w_name} is wrong ({quality.reason}): look at the T1w, or try "
            "--skull-strip deepbet"
        )
