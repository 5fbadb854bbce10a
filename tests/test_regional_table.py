"""Tables of regional SUVR against means taken by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rela_bids.atlases import Atlas, packaged_atlas
from rela_bids.exceptions import BadDataError
from rela_bids.quantification import COMPOSITE_REGIONS, GLOBAL_COMPOSITE
from rela_bids.regional_table import (
    COLUMNS,
    describe_columns,
    measure_pet,
    measure_synthetic,
    read_rows,
    tsv_of,
)
from rela_bids.tracers import TRACERS

PIB, PBR = TRACERS["11CPIB"], TRACERS["11CPBR28"]
SHAPE = (20, 20, 20)
VOXEL_ML = 0.008


@pytest.fixture(scope="module")
def images():
    """Labels of every region, an SUVR and five samples of which it is the mean."""
    rng = np.random.default_rng(0)
    atlas = packaged_atlas()
    labels = rng.choice([0, *atlas.names], SHAPE).astype(np.int16)
    samples = 1 + rng.random((5, *SHAPE)).astype(np.float32)
    return atlas, labels, samples


def means_of(samples, labels, atlas):
    return np.stack([[volume[labels == i].mean() for i in atlas.names] for volume in samples])


def by_name(rows):
    return {row.region: row for row in rows}


def test_spread_is_that_of_the_samples_means_and_not_the_mean_of_the_voxels_spread(images):
    atlas, labels, samples = images
    of_samples = means_of(samples, labels, atlas)
    rows = by_name(measure_synthetic(samples.mean(0), labels, VOXEL_ML, of_samples, atlas, PIB))
    inside = labels == 1025
    row = rows["ctx-lh-precuneus"]
    means = [volume[inside].mean() for volume in samples]
    assert row.mean == pytest.approx(np.mean(means), rel=1e-5)
    assert row.std == pytest.approx(np.std(means), rel=1e-4)
    assert row.std < 0.5 * samples.std(0)[inside].mean()
    assert row.volume_ml == pytest.approx(VOXEL_ML * inside.sum())
    assert row.scale is None


def test_the_composite_has_the_spread_of_its_own_mean_and_its_scale(images):
    atlas, labels, samples = images
    rows = by_name(
        measure_synthetic(
            samples.mean(0), labels, VOXEL_ML, means_of(samples, labels, atlas), atlas, PIB
        )
    )
    inside = np.isin(labels, [i for i, name in atlas.names.items() if name in COMPOSITE_REGIONS])
    means = [volume[inside].mean() for volume in samples]
    row = rows[GLOBAL_COMPOSITE]
    assert row.index is None
    assert row.mean == pytest.approx(np.mean(means), rel=1e-5)
    assert row.std == pytest.approx(np.std(means), rel=1e-4)
    assert (row.scale, row.scale_value) == ("Centiloid", pytest.approx(93.7 * row.mean - 94.6))


def test_one_sample_has_no_spread_and_a_tracer_without_conversion_no_scale(images):
    atlas, labels, samples = images
    one = means_of(samples[:1], labels, atlas)
    rows = by_name(measure_synthetic(samples[0], labels, VOXEL_ML, one, atlas, PBR))
    assert {row.std for row in rows.values()} == {None}
    assert rows[GLOBAL_COMPOSITE].scale_value is None


def test_what_the_scanner_did_not_see_does_not_count(images):
    atlas, labels, samples = images
    suvr = samples[0].copy()
    suvr[:4] = 0
    precuneus, hippocampus = labels == 1025, labels == 17
    suvr[hippocampus & (np.cumsum(hippocampus).reshape(SHAPE) > 3)] = 0
    rows = by_name(measure_pet(suvr, labels, VOXEL_ML, atlas, PIB))
    seen = precuneus & (suvr != 0)
    assert rows["ctx-lh-precuneus"].mean == pytest.approx(samples[0][seen].mean(), rel=1e-5)
    assert rows["ctx-lh-precuneus"].volume_ml == pytest.approx(VOXEL_ML * precuneus.sum())
    assert rows["Left-Hippocampus"].mean is None
    members = [i for i, name in atlas.names.items() if name in COMPOSITE_REGIONS]
    inside = np.isin(labels, members) & (suvr != 0)
    assert rows[GLOBAL_COMPOSITE].mean == pytest.approx(suvr[inside].mean(), rel=1e-5)


def test_an_atlas_without_the_composites_regions_has_no_composite():
    atlas = Atlas("Two", Path("two.nii"), {1: "one", 2: "two"}, fitted=False, source="two")
    labels = np.array([0, 1, 1]).reshape(3, 1, 1)
    rows = measure_pet(np.ones((3, 1, 1), np.float32), labels, 1.0, atlas, PIB)
    assert [(row.region, row.volume_ml, row.mean) for row in rows] == [
        ("one", 2.0, 1.0),
        ("two", 0.0, None),
    ]


def test_a_table_is_read_as_it_was_written(images, tmp_path):
    atlas, labels, samples = images
    rows = measure_pet(samples[0], labels, VOXEL_ML, atlas, PIB)
    path = tmp_path / "suvr.tsv"
    path.write_text(tsv_of(rows))
    lines = path.read_text().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert lines[-1].startswith("n/a\tglobal-composite\t")
    for read, row in zip(read_rows(path), rows, strict=True):
        assert (read.index, read.region, read.scale) == (row.index, row.region, row.scale)
        assert read.mean == pytest.approx(row.mean, rel=1e-5)


def test_what_is_not_such_a_table_is_named(tmp_path):
    (tmp_path / "x.tsv").write_text("index\tregion\n1\tone\n")
    with pytest.raises(BadDataError, match=r"x\.tsv"):
        read_rows(tmp_path / "x.tsv")


def test_every_column_is_described():
    for synthetic in (True, False):
        described = describe_columns(synthetic=synthetic, conversion=PIB.conversion)
        assert list(described) == list(COLUMNS)
        assert "approximate" in described["scale_value"]["Units"]
    assert "Units" not in describe_columns(synthetic=True, conversion=None)["scale_value"]


def test_another_reference_region_changes_nothing_in_the_means(images):
    atlas, labels, samples = images
    other = replace(PIB, reference_region="pons", conversion=None)
    rows = by_name(measure_pet(samples[0], labels, VOXEL_ML, atlas, other))
    assert rows[GLOBAL_COMPOSITE].scale is None
