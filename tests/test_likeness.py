"""MRI that looks like a T1w or FLAIR, and MRI that does not."""

import numpy as np
import pytest

from rela_bids import templates
from rela_bids.likeness import measure_likeness, unlike
from rela_bids.transforms import to_model_grid
from rela_bids.volumes import TEMPLATE_BRAIN_CENTRE, Grid

GRID = Grid.about(TEMPLATE_BRAIN_CENTRE, (40, 48, 40), 4.0)


@pytest.fixture(scope="module")
def head():
    """T1w, FLAIR and mask of the template's tissues, with noise, as scanners might make them."""
    import nibabel as nib

    def on_grid(path):
        return to_model_grid(nib.load(path), np.eye(4), GRID)

    grey, white = (on_grid(templates.tissue_probability(t)) / 255 for t in ("gm", "wm"))
    mask = on_grid(templates.brain_t1w()) > 5
    csf = np.clip(1 - grey - white, 0, 1)
    rng = np.random.default_rng(0)

    def scan(of_csf, of_grey, of_white):
        data = of_csf * csf + of_grey * grey + of_white * white
        return np.where(mask, data + rng.normal(0, 40, data.shape), 0).astype(np.float32)

    return scan(200, 600, 900), scan(100, 600, 500), mask, scan


def test_a_t1w_and_a_flair_are_what_they_are_whatever_their_unit(head):
    t1w, flair, mask, _ = head
    found = measure_likeness(t1w, flair, mask, GRID)
    assert unlike(found) == []
    scaled = measure_likeness(7 * t1w, 0.01 * flair, mask, GRID)
    for one, other in zip(found.to_dict().values(), scaled.to_dict().values(), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_without_flair_nothing_is_said_of_it(head):
    t1w, _, mask, _ = head
    found = measure_likeness(t1w, None, mask, GRID)
    assert found.flair_contrast is None
    assert unlike(found) == []


@pytest.mark.parametrize(
    "kind", ["inverted", "noise", "shifted", "upside down", "flat", "constant"]
)
def test_a_spoilt_t1w_is_flagged(head, kind):
    t1w, flair, mask, scan = head
    spoilt = {
        "inverted": np.where(mask, t1w.max() - t1w, 0),
        "noise": np.where(mask, np.random.default_rng(1).random(mask.shape), 0),
        "shifted": np.roll(t1w, 5, axis=2),
        "upside down": t1w[:, :, ::-1],
        "flat": scan(200, 700, 620),
        "constant": mask.astype(np.float32),
    }[kind]
    with np.errstate(invalid="ignore", divide="ignore"):
        lines = unlike(measure_likeness(spoilt.astype(np.float32), flair, mask, GRID))
    assert len(lines) == 1
    assert lines[0].startswith("The T1w is unlike")


def test_a_t2w_in_place_of_a_flair_is_flagged(head):
    t1w, _, mask, scan = head
    [line] = unlike(measure_likeness(t1w, scan(900, 600, 400), mask, GRID))
    assert line.startswith("The FLAIR is unlike")
