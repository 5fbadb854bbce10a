"""Templates for finding the brain: given, TemplateFlow's on disk, Colin 27, or the packaged brain.

Files are looked for by name; nothing is imported or downloaded, since nodes have no internet.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from rela_bids.exceptions import MissingInputError
from rela_bids.templates import TEMPLATE_SPACE, brain_t1w
from rela_bids.transforms import resample
from rela_bids.volumes import load_volume

# Debian's and Ubuntu's mricron-data. Its own brain, ch2bet, ends within the sulci and lacks a tenth
# of what counts as brain here; docs/anatomy.md says how the mask that is packaged was made.
COLIN27 = Path("/usr/share/mricron/templates/ch2.nii.gz")
COLIN27_MASK = Path(__file__).parent / "data" / "colin27_brain_mask.nii.gz"

# Of adults, whole head with a mask of the brain; the first that is on disk is taken.
TEMPLATEFLOW_HEADS = ("OASIS30ANTs", "MNI152NLin2009cAsym", "NKI", "MNI152NLin6Asym")

MASKS = ("desc-brain_mask", "label-brain_mask", "label-brain_probseg", "brain_mask", "mask")
ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class HeadTemplate:
    """A T1w template with the brain marked in it.

    Attributes
    ----------
    name : as a methods section would call it.
    t1w : NIfTI, any space.
    mask : on the same grid, over 0 in the brain; over 0.5 if its name ends in ``_probseg``.
    whole_head : whether `t1w` shows skull and scalp.
    """

    name: str
    t1w: Path
    mask: Path
    whole_head: bool


def find_template(asked: str | None = None) -> HeadTemplate:
    """The template that brains are found with.

    Parameters
    ----------
    asked : a T1w's path, with a mask beside it (``X_T1w.nii.gz`` and ``X_desc-brain_mask.nii.gz``;
        ``X.nii.gz`` and ``X_mask.nii.gz``); or a name of TemplateFlow, such as ``OASIS30ANTs`` or
        ``MNIPediatricAsym:cohort-3``; or ``Colin27``; or ``packaged``. Of None, the first there is
        of `TEMPLATEFLOW_HEADS`, Colin 27 and what is packaged.

    Raises
    ------
    MissingInputError
        If what is asked for is not on disk.
    """
    if asked is None:
        installed = (_templateflow(name) for name in TEMPLATEFLOW_HEADS)
        return next(filter(None, installed), None) or _colin27() or _packaged()
    if asked.endswith(ENDINGS):
        return _given(Path(asked))
    if asked == "packaged":
        return _packaged()
    found = _templateflow(asked) or (_colin27() if asked == "Colin27" else None)
    if found is None:
        raise MissingInputError(_how_to_get(asked, "--skull-strip-template"))
    return found


def other_spaces(output_spaces: Iterable[str]) -> tuple[str, ...]:
    """Those of the output spaces that need a template of their own."""
    return tuple(space for space in output_spaces if space not in ("T1w", TEMPLATE_SPACE))


def find_space(asked: str) -> HeadTemplate:
    """The template of an output space that is not packaged, ``NAME[:cohort-N][:res-N]``.

    Raises
    ------
    MissingInputError
        If TemplateFlow does not have it on disk.
    """
    found = _templateflow(asked)
    if found is None:
        raise MissingInputError(_how_to_get(asked, "--output-spaces"))
    return found


def load_marked(t1w: Path | str, mask: Path | str) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A T1w and the mask of its brain, uint8, on one grid.

    Raises
    ------
    BadDataError
        If one of them cannot be read.
    """
    head, marked = load_volume(t1w), load_volume(mask)
    level = 0.5 if _stem(Path(mask)).endswith("_probseg") else 0.0
    inside = nib.Nifti1Image((np.asarray(marked.dataobj) > level).astype("u1"), marked.affine)
    return head, resample(inside, head, np.eye(4), order=0)


def templateflow_home() -> Path:
    """Where TemplateFlow keeps its files: ``TEMPLATEFLOW_HOME``, else in the user's cache."""
    if home := os.environ.get("TEMPLATEFLOW_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "templateflow")


def _packaged() -> HeadTemplate:
    return HeadTemplate("ICBM 2009c brain", brain_t1w(), brain_t1w(), whole_head=False)


def _colin27() -> HeadTemplate | None:
    there = _is_there(COLIN27)
    return HeadTemplate("Colin 27", COLIN27, COLIN27_MASK, whole_head=True) if there else None


def _given(t1w: Path) -> HeadTemplate:
    mask = next(filter(_is_there, _masks_beside(t1w)), None)
    if not _is_there(t1w):
        raise MissingInputError(f"--skull-strip-template: {t1w} is not there: check the path")
    if mask is None:
        stem = _stem(t1w).removesuffix("_T1w")
        raise MissingInputError(
            f"--skull-strip-template: {t1w} has no mask of the brain beside it: add "
            f"{stem}_desc-brain_mask.nii.gz"
        )
    return HeadTemplate(_stem(t1w), t1w, mask, whole_head=True)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _masks_beside(t1w: Path) -> Iterator[Path]:
    stem = _stem(t1w).removesuffix("_T1w")
    yield from (t1w.with_name(f"{stem}_{mask}{end}") for mask in MASKS for end in ENDINGS)


def _templateflow(asked: str) -> HeadTemplate | None:
    """The finest whole-head T1w of a template, ``NAME[:cohort-N][:res-N]``, that has a mask."""
    name, *entities = asked.replace("res-0", "res-").split(":")
    folder = templateflow_home() / f"tpl-{name}"
    heads = (
        path
        for path in sorted(folder.rglob(f"tpl-{name}_*T1w.nii.gz"))
        if "_desc-" not in path.name
        and {*entities} <= {part.replace("res-0", "res-") for part in path.name.split("_")}
    )
    for t1w in filter(_is_there, heads):
        if mask := next(filter(_is_there, _masks_beside(t1w)), None):
            return HeadTemplate(name, t1w, mask, whole_head=True)
    return None


def _is_there(path: Path) -> bool:
    """Whether a file has been fetched: TemplateFlow's placeholders are empty or broken links."""
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False


def _how_to_get(asked: str, option: str) -> str:
    name = asked.split(":")[0]
    if name == "Colin27":
        return f"Colin 27 is not at {COLIN27}: apt-get install mricron-data"
    return (
        f"{option} {asked}: no whole-head T1w with a brain mask in "
        f"{templateflow_home() / f'tpl-{name}'}: where there is internet, run "
        f"`pip install templateflow && templateflow get {name}`, and set TEMPLATEFLOW_HOME if the "
        "folder is to be copied"
    )
