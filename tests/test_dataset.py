"""Prepared examples, and what the training makes of them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rela_bids.exceptions import BadDataError, MissingInputError
from rela_bids.model.dataset import (
    Example,
    PreparedDataset,
    drop_modality,
    read_manifest,
    write_example,
)
from rela_bids.model.presets import PRESETS
from rela_bids.quantification import mae, psnr
from rela_bids.tracers import TRACERS
from rela_bids.volumes import Grid

SHAPE = (16, 24, 16)
PIB, TAU = "11CPIB", "18FAV1451"
CONFIG = replace(PRESETS["fast"], grid=Grid.about((0, 0, 0), SHAPE, 8.0))


def example(number: int = 1, labels=(PIB,), flair: bool = True, **changes) -> Example:
    """A brain in the middle of noise, so that left and right differ."""
    rng = np.random.default_rng(number)
    mask = np.zeros(SHAPE, bool)
    mask[3:12, 4:20, 3:13] = True
    t1w, other = (rng.uniform(100, 900, SHAPE).astype(np.float32) * mask for _ in range(2))
    images = {label: rng.uniform(0, 3, SHAPE).astype(np.float32) for label in labels}
    made = Example(f"{number:02d}", "a", t1w, other if flair else None, mask, images)
    return replace(made, **changes)


def dataset(folder, *examples: Example, config=CONFIG, labels=(PIB, TAU)) -> PreparedDataset:
    for one in examples:
        write_example(folder, one)
    return PreparedDataset(
        read_manifest(folder), config, {label: TRACERS[label] for label in labels}
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_what_is_written_is_read_without_being_loaded(tmp_path):
    written = example()
    assert write_example(tmp_path, written) == tmp_path / "sub-01_ses-a"
    (record,) = read_manifest(tmp_path)
    assert (record.subject, record.session, record.tracers, record.flair) == (
        "01",
        "a",
        (PIB,),
        True,
    )
    for kind, array in (("t1w", written.t1w), (f"pet-{PIB}", written.pets[PIB])):
        assert isinstance(record.load(kind), np.memmap)
        np.testing.assert_array_equal(record.load(kind), array)


def test_an_example_is_replaced_whole(tmp_path):
    write_example(tmp_path, example(labels=(PIB, TAU)))
    write_example(tmp_path, example(labels=(PIB,), flair=False))
    (record,) = read_manifest(tmp_path)
    assert record.tracers == (PIB,)
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "example.json",
        "mask.npy",
        f"pet-{PIB}.npy",
        "t1w.npy",
    ]


def test_what_a_killed_run_left_is_no_example(tmp_path):
    write_example(tmp_path, example())
    partial = tmp_path / ".sub-02_ses-a.xyz"
    partial.mkdir()
    (partial / "example.json").write_text("{}")
    (tmp_path / "sub-03_ses-a").mkdir()
    assert [record.subject for record in read_manifest(tmp_path)] == ["01"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"t1w": np.zeros((4, 4, 4), np.float32)}, "T1w has shape"),
        ({"pets": {PIB: np.full(SHAPE, np.nan, np.float32)}}, f"{PIB} has voxels"),
        ({"mask": np.zeros(SHAPE, bool)}, "mask is empty"),
    ],
)
def test_bad_arrays_are_refused_and_nothing_is_written(tmp_path, changes, fault):
    with pytest.raises(BadDataError, match=f"sub-01_ses-a.*{fault}"):
        write_example(tmp_path / "prepared", example(**changes))
    assert not (tmp_path / "prepared").exists()


def test_an_empty_folder_and_another_grid_are_said_so(tmp_path):
    with pytest.raises(MissingInputError, match="no prepared example"):
        read_manifest(tmp_path)
    other = replace(CONFIG, grid=Grid.about((0, 0, 0), (16, 16, 16), 8.0))
    with pytest.raises(BadDataError, match="prepare it again for this grid"):
        dataset(tmp_path, example(), config=other)


def test_suvr_is_scaled_by_the_tracers_constant(tmp_path):
    one = example()
    (item,) = dataset(tmp_path, one)
    suvr = (item["pet"][0] + 1) / 2 * TRACERS[PIB].suvr_scale
    np.testing.assert_allclose(suvr[one.mask], one.pets[PIB][one.mask], atol=1e-5)
    assert (item["pet"][0][~one.mask] == -1).all()
    assert (item["mri"][:, ~one.mask] == 0).all()
    np.testing.assert_allclose(np.median(item["mri"][:, one.mask], axis=1), 0, atol=1e-5)


def test_the_published_scaling_is_each_images_own(tmp_path):
    (item,) = dataset(tmp_path, example(), config=replace(CONFIG, intensity="minmax"))
    for volume in (*item["mri"], item["pet"][0]):
        assert (volume.min(), volume.max()) == (-1, 1)


def test_a_missing_or_unwanted_modality_is_zero_everywhere(tmp_path):
    (without,) = dataset(tmp_path / "missing", example(flair=False))
    assert without["mri"][0].any()
    assert not without["mri"][1].any()
    (flair_only,) = dataset(tmp_path, example(), config=replace(CONFIG, inputs=("flair",)))
    assert not flair_only["mri"][0].any()
    assert flair_only["mri"][1].any()


def test_flair_is_dropped_as_often_as_asked_and_t1w_more_seldom():
    source = rng()
    kept = Counter(tuple(drop_modality([True, True], 0.4, source)) for _ in range(4000))
    assert kept[True, False] / 4000 == pytest.approx(0.4, abs=0.03)
    assert kept[False, True] / 4000 == pytest.approx(0.1, abs=0.03)
    assert kept[False, False] == 0


def test_the_only_modality_is_never_dropped(tmp_path):
    assert drop_modality([True, False], 1.0, rng()) == [True, False]
    assert drop_modality([False, True], 1.0, rng()) == [False, True]
    config = replace(CONFIG, modality_dropout=1.0, augmentation=False)
    data = dataset(tmp_path, example(1), example(2, flair=False), config=config)
    for index in range(2):
        dropped = data.training_item(index, rng())["mri"]
        assert dropped[0].any()
        assert not dropped[1].any()


def test_without_augmentation_a_training_item_is_the_item(tmp_path):
    config = replace(CONFIG, modality_dropout=0.0, augmentation=False)
    data = dataset(tmp_path, example(), config=config)
    for seed in range(5):
        varied = data.training_item(0, rng(seed))
        for kind in ("pet", "mri", "mask"):
            np.testing.assert_array_equal(varied[kind], data[0][kind])


def test_a_flip_turns_everything_and_never_changes_the_pet(tmp_path):
    data = dataset(tmp_path, example(), config=replace(CONFIG, modality_dropout=0.0))
    plain, flips = data[0], Counter()
    for seed in range(40):
        varied = data.training_item(0, rng(seed))
        flipped = not np.array_equal(varied["mask"], plain["mask"])
        flips[flipped] += 1
        turn = (slice(None), slice(None, None, -1 if flipped else 1))
        np.testing.assert_array_equal(varied["mask"], plain["mask"][turn])
        np.testing.assert_array_equal(varied["pet"], plain["pet"][turn])
        for channel in range(2):
            pair = varied["mri"][channel], plain["mri"][turn][channel]
            assert not np.array_equal(*pair)
            assert np.corrcoef(*(volume.ravel() for volume in pair))[0, 1] > 0.95
            assert (pair[0][~varied["mask"][0]] == 0).all()
    assert min(flips[True], flips[False]) > 8


def test_what_a_step_sees_depends_on_its_number_alone(tmp_path):
    data = dataset(tmp_path, *(example(n, (PIB, TAU)[: 1 + n % 2]) for n in range(1, 6)))
    for n in (7, 3, 7):
        first, second = (data.training_item(data.balanced_index(5, n), rng(n)) for _ in range(2))
        np.testing.assert_array_equal(first["mri"], second["mri"])
    order = [data.balanced_index(5, n) for n in range(40)]
    assert order != [data.balanced_index(6, n) for n in range(40)]


def test_tracers_are_seen_equally_often_and_each_person_in_turn(tmp_path):
    people = [example(n, (PIB, TAU) if n < 3 else (PIB,)) for n in range(8)]
    data = dataset(tmp_path, *people)
    seen = [data.pairs[data.balanced_index(1, n)] for n in range(32)]
    assert Counter(label for _, label in seen) == {PIB: 16, TAU: 16}
    for_pib = [record.subject for record, label in seen if label == PIB]
    assert set(for_pib[:8]) == set(for_pib[8:]) == {f"{n:02d}" for n in range(8)}
    assert for_pib[:8] != for_pib[8:]


def test_the_mean_pet_leaves_out_what_is_no_brain(tmp_path):
    small = np.zeros(SHAPE, bool)
    small[3:6, 4:20, 3:13] = True
    one, two = example(1), example(2, mask=small)
    mean = dataset(tmp_path, one, two).mean_pet()[PIB]
    both = (one.pets[PIB] + two.pets[PIB]) / 2
    np.testing.assert_allclose(mean[small], both[small], rtol=1e-5)
    np.testing.assert_allclose(mean[one.mask & ~small], one.pets[PIB][one.mask & ~small], rtol=1e-5)
    assert (mean[~one.mask] == 0).all()


def test_scores_count_the_brain_only():
    measured = np.ones(SHAPE, np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[:8] = True
    predicted = np.where(mask, 1.1, 99).astype(np.float32)
    assert psnr(predicted, measured, mask, data_range=3.0) == pytest.approx(29.54, abs=0.01)
    assert mae(predicted, measured, mask) == pytest.approx(0.1, abs=1e-5)
