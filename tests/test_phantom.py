import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from rela_bids.exceptions import UsageError
from rela_bids.model.dataset import read_manifest
from rela_bids.phantom import Recipe, training_example, write_dataset, write_training_examples
from rela_bids.phantom.__main__ import main
from rela_bids.phantom.anatomy import build_head, random_pose
from rela_bids.phantom.base import LATTICE
from rela_bids.phantom.mri import contrast_image, draw_flair_contrast, draw_t1w_contrast
from rela_bids.phantom.person import MRI_SHARE, aged, draw_person
from rela_bids.phantom.pet import PATTERNS, pattern_of, reference_mask, seen_by_scanner, true_suvr
from rela_bids.phantom.regions import GROUPS
from rela_bids.phantom.scans import head_grid, segmentations
from rela_bids.phantom.sidecars import Frames
from rela_bids.tracers import TRACERS
from rela_bids.transforms import resample
from rela_bids.volumes import TEMPLATE_BRAIN_CENTRE, Grid, standardise_mri

COARSE = Grid.about(TEMPLATE_BRAIN_CENTRE, (40, 48, 40), 4.0)
PAIR = (TRACERS["18FAV45"], TRACERS["18FFDG"])


def make_head(person, *, seed=1, voxel_size=3.0):
    pose = random_pose(np.random.default_rng(seed), aligned=False)
    rng = np.random.default_rng(seed)
    return build_head(rng, person, head_grid(voxel_size), pose, whole=True)


@pytest.fixture(scope="module")
def person():
    drawn = draw_person(np.random.default_rng(0))
    return replace(drawn, atrophy=0.0, lesions=1.5, affinity=1.0)


@pytest.fixture(scope="module")
def head(person):
    return make_head(person)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms")
    return write_dataset(out, Recipe(subjects=2, seed=4, tracers=PAIR, voxel_size=4.0))


def region_mean(image, head, group):
    solid = head.tissues["grey"] + head.tissues["white"] * (head.labels < 1000) > 0.6
    return image[np.isin(head.labels, GROUPS[group]) & solid].mean()


# People


def test_half_of_a_burden_follows_what_the_mri_shows():
    people = [draw_person(np.random.default_rng((3, i))) for i in range(3000)]
    for seen, burden in (("lesions", "inflammation"), ("atrophy", "hypometabolism")):
        latent = norm.ppf([getattr(person, burden) for person in people])
        r = np.corrcoef(latent, [getattr(person, seen) for person in people])[0, 1]
        assert r**2 == pytest.approx(MRI_SHARE, abs=0.05)


def test_amyloid_is_mostly_absent_or_abundant_and_grows_with_age():
    people = [draw_person(np.random.default_rng((5, i))) for i in range(1000)]
    amyloid = np.array([person.amyloid for person in people])
    old = np.array([person.age > 65 for person in people])
    assert ((amyloid < 0.25) | (amyloid > 0.75)).mean() > 0.7
    assert amyloid[old].mean() > amyloid[~old].mean() + 0.2


def test_a_person_ages_within_bounds(person):
    older = aged(person, 30)
    assert older.age == pytest.approx(person.age + 30)
    assert person.amyloid < older.amyloid < 1
    assert older.atrophy > person.atrophy


# Heads


def test_tissues_fill_each_voxel_at_most_once(head):
    total = sum(head.tissues.values())
    assert all(fraction.min() >= -1e-5 for fraction in head.tissues.values())
    assert total.max() <= 1 + 1e-4
    assert total[head.brain & (head.depth < -3)].min() > 0.99


def test_a_head_has_skull_scalp_and_air_about_its_brain(head):
    brain_ml = head.brain.sum() * 0.027
    assert 1000 < brain_ml < 2300
    assert head.tissues["bone"].sum() * 0.027 > 300
    assert (head.tissues["fat"] + head.tissues["muscle"]).sum() * 0.027 > 500
    corner = sum(fraction[:3, -3:, -3:].max() for fraction in head.tissues.values())
    assert corner == 0


def test_people_differ_and_a_voxel_size_does_not_make_another_person(person, head):
    def overlap(a, b):
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    def grey(some_head):
        return some_head.tissues["grey"] > 0.5

    other = make_head(person, seed=2)
    assert overlap(grey(head), grey(other)) < 0.75
    finer = make_head(person, voxel_size=2.0)
    same = resample(
        finer.grid.image(finer.tissues["grey"]), head.grid.image(head.depth), np.eye(4)
    ).get_fdata()
    assert overlap(grey(head), same > 0.5) > 0.85


def test_atrophy_takes_grey_matter_and_gives_csf(person):
    young = make_head(replace(person, atrophy=-1.0)).tissues
    old = make_head(replace(person, atrophy=2.0)).tissues
    assert old["grey"].sum() < 0.95 * young["grey"].sum()
    assert old["csf"].sum() > 1.2 * young["csf"].sum()


def test_deformations_hardly_ever_fold():
    from rela_bids.phantom.anatomy import COARSE_DEFORMATION, FINE_DEFORMATION, _deformation

    rng = np.random.default_rng(1)
    field = _deformation(rng, COARSE_DEFORMATION + FINE_DEFORMATION)
    gradient = np.stack([np.stack(np.gradient(u, LATTICE.voxel_size)) for u in field])
    jacobian = np.linalg.det(np.eye(3) + np.moveaxis(gradient, (0, 1), (-2, -1)))
    assert (jacobian <= 0).mean() < 1e-3


# MRI


@pytest.mark.parametrize("seed", range(4))
def test_mri_contrasts_are_in_the_order_of_real_ones(head, seed):
    rng = np.random.default_rng(seed)
    t1w, flair = (
        contrast_image(head, draw(rng)) for draw in (draw_t1w_contrast, draw_flair_contrast)
    )
    cortical = head.labels > 1000
    pure = {
        name: head.brain & cortical & (head.tissues[name] > 0.9)
        for name in ("white", "grey", "csf", "lesion")
    }
    by_tissue = {name: (t1w[where].mean(), flair[where].mean()) for name, where in pure.items()}
    assert by_tissue["white"][0] > by_tissue["grey"][0] > by_tissue["csf"][0]
    assert by_tissue["lesion"][1] > by_tissue["grey"][1] >= by_tissue["white"][1]
    assert by_tissue["white"][1] > by_tissue["csf"][1]
    contrast = [
        abs(by_tissue["lesion"][i] - by_tissue["white"][i]) / by_tissue["white"][i]
        for i in range(2)
    ]
    assert contrast[1] > contrast[0]


# PET


@pytest.mark.parametrize("label", PATTERNS)
def test_the_mean_of_the_reference_region_is_one(head, person, label):
    tracer = TRACERS[label]
    mask = reference_mask(head, tracer)
    suvr = true_suvr((0, 0), head, person, tracer)
    assert suvr[mask].mean() == pytest.approx(1, abs=1e-3)
    assert seen_by_scanner(suvr, head, tracer, 5)[mask].mean() == pytest.approx(1, abs=1e-3)
    assert np.isfinite(suvr).all()
    assert suvr.min() >= 0
    assert np.percentile(suvr[head.brain], 99.9) < 1.2 * tracer.suvr_scale


def test_each_burden_shows_where_its_disease_does(head, person):
    def change(label, burden, group):
        maps = [
            true_suvr((0, 0), head, replace(person, **{burden: level}), TRACERS[label])
            for level in (0.05, 0.95)
        ]
        return region_mean(maps[1], head, group) - region_mean(maps[0], head, group)

    assert change("11CPIB", "amyloid", "precuneus") > 0.6
    assert change("11CPIB", "amyloid", "sensorimotor") < 0.4
    assert change("18FAV1451", "tau", "inferior temporal") > 0.8
    assert change("18FFDG", "hypometabolism", "posterior cingulate") < -0.3
    assert change("11CPBR28", "inflammation", "lateral temporal") > 0.1


def test_tracers_look_like_themselves(head, person):
    healthy = replace(person, amyloid=0.0, tau=0.0, inflammation=0.0, hypometabolism=0.0)
    white = (head.tissues["white"] > 0.9) & (head.labels > 1000)
    suvr = {label: true_suvr((0, 0), head, healthy, TRACERS[label]) for label in PATTERNS}
    assert 1.4 < suvr["18FAV45"][white].mean() < 2.0
    assert region_mean(suvr["18FFDG"], head, "prefrontal") > 1.3 * suvr["18FFDG"][white].mean()
    assert region_mean(suvr["18FAV1451"], head, "putamen") > 1.3
    assert region_mean(suvr["11CPBR28"], head, "thalamus") > 1.15


def test_the_affinity_of_tspo_scales_its_specific_signal_only(head, person):
    def thalamus(label, affinity):
        suvr = true_suvr((0, 0), head, replace(person, affinity=affinity), TRACERS[label])
        return region_mean(suvr, head, "thalamus")

    assert thalamus("11CPBR28", 1.3) > thalamus("11CPBR28", 0.3) + 0.1
    assert thalamus("18FAV45", 1.3) == thalamus("18FAV45", 0.3)


def test_a_tracer_without_pattern_is_refused_by_name():
    with pytest.raises(UsageError, match="18FMK6240"):
        pattern_of("18FMK6240")


def test_frames_fill_the_window_and_reach_beyond_it_in_seconds():
    tracer = TRACERS["18FAV1451"]
    frames = Frames.about_window(tracer, 4)
    inside = np.array(frames.in_window(tracer))
    assert list(inside) == [False, True, True, True, True, False]
    assert sum(np.array(frames.duration)[inside]) == 20 * 60
    assert min(np.array(frames.start)[inside]) == 80 * 60


# Training examples


def test_an_example_depends_on_seed_and_index_alone(tmp_path):
    write_training_examples(tmp_path / "a", n=2, seed=3, tracers=PAIR, grid=COARSE)
    write_training_examples(tmp_path / "b", n=1, seed=3, tracers=PAIR[1:], grid=COARSE, first=1)
    from_two, from_one = read_manifest(tmp_path / "a")[1], read_manifest(tmp_path / "b")[0]
    assert from_two.name == from_one.name
    for kind in ("t1w", "mask", "pet-18FFDG"):
        np.testing.assert_array_equal(from_two.load(kind), from_one.load(kind))
    assert np.any(from_two.load("t1w") != read_manifest(tmp_path / "a")[0].load("t1w"))


def test_an_example_is_masked_and_measured_in_suvr():
    example = training_example(3, 0, PAIR, COARSE)
    outside = ~example.mask
    assert example.t1w.shape == COARSE.shape
    assert 1000 < example.mask.sum() * 0.064 < 2500
    for image in (example.t1w, example.flair, *example.pets.values()):
        assert image is None or (image[outside] == 0).all()
    for label, pet in example.pets.items():
        assert 0.7 < np.median(pet[example.mask]) < 2, label


def test_some_examples_have_no_flair():
    coarsest = Grid.about(TEMPLATE_BRAIN_CENTRE, (27, 32, 27), 6.0)
    examples = [training_example(1, i, PAIR[:1], coarsest) for i in range(12)]
    present = [example.flair is not None for example in examples]
    assert any(present)
    assert not all(present)


@pytest.mark.slow
def test_standardised_phantoms_have_the_intensities_of_real_heads(real_mri):
    """Percentiles lie in the band that the real T1w heads span, with a margin."""
    real = []
    for mask_path in sorted(real_mri.glob("derivatives/deepbet/**/*mask.nii.gz")):
        name = mask_path.name.replace("_desc-brain_mask", "_T1w")
        t1w = nib.load(next(real_mri.glob(f"sub-*/**/{name}")))
        step = tuple(slice(None, None, max(round(2 / z), 1)) for z in t1w.header.get_zooms())
        mask = np.asarray(nib.load(mask_path).dataobj)[step] > 0
        data = np.asarray(t1w.dataobj, dtype=np.float32)[step]
        real.append(np.percentile(standardise_mri(data, mask)[mask], [5, 25, 75, 95]))
    fine = Grid.about(TEMPLATE_BRAIN_CENTRE, (80, 96, 80), 2.0)
    low, high = np.min(real, axis=0) - 0.35, np.max(real, axis=0) + 0.35
    for index in range(5):
        example = training_example(1, index, PAIR[:1], fine)
        scaled = standardise_mri(example.t1w, example.mask)[example.mask]
        values = np.percentile(scaled, [5, 25, 75, 95])
        assert (values > low).all(), values
        assert (values < high).all(), values


# The dataset


def load(path):
    return nib.load(path), json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())


def test_the_validator_finds_no_error(dataset):
    for folder in (dataset, dataset / "derivatives" / "truth"):
        # The console script lies beside the interpreter.
        command = [Path(sys.executable).with_name("bids-validator-deno"), folder]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout
        assert "[ERROR]" not in result.stdout + result.stderr


def test_every_file_says_that_it_is_simulated(dataset):
    for path in dataset.rglob("*.json"):
        assert "simulated" in path.read_text().lower(), path
    for path in dataset.rglob("*.nii.gz"):
        assert b"SIMULATED" in nib.load(path).header["descrip"].tobytes(), path
        assert path.with_name(path.name.replace(".nii.gz", ".json")).exists()
    assert "SIMULATED" in (dataset / "README.md").read_text()


def test_the_recorded_position_brings_the_pet_onto_the_truth(dataset):
    pet, sidecar = load(dataset / "sub-01" / "pet" / "sub-01_trc-18FAV45_pet.nii.gz")
    truth = dataset / "derivatives" / "truth" / "sub-01"
    seen, _ = load(truth / "pet" / "sub-01_trc-18FAV45_space-T1w_desc-seen_pet.nii.gz")
    reference, _ = load(truth / "anat" / "sub-01_desc-wholeCerebellum_mask.nii.gz")
    brain, _ = load(truth / "anat" / "sub-01_desc-brain_mask.nii.gz")
    inside = np.asarray(brain.dataobj) > 0
    late = pet.get_fdata(dtype=np.float32)[..., 1:-1].mean(axis=-1)
    volume = nib.Nifti1Image(late, pet.affine)
    error = {}
    for name, matrix in (
        ("recorded", np.array(sidecar["SimulatedPointsToT1w"])),
        ("none", np.eye(4)),
    ):
        # `resample` wants the matrix of points from the T1w to the PET.
        moved = resample(volume, seen, np.linalg.inv(matrix)).get_fdata()
        suvr = moved / moved[np.asarray(reference.dataobj) > 0].mean()
        error[name] = np.abs(suvr - seen.get_fdata())[inside].mean()
    assert error["recorded"] < 0.09
    assert error["none"] > 1.5 * error["recorded"]


def test_a_pet_sidecar_agrees_with_its_image(dataset):
    pet, sidecar = load(dataset / "sub-02" / "pet" / "sub-02_trc-18FFDG_pet.nii.gz")
    frames = pet.shape[3]
    assert len(sidecar["FrameTimesStart"]) == len(sidecar["FrameDuration"]) == frames == 6
    assert sidecar["Units"] == "Bq/mL"
    assert len(sidecar["SimulatedFramePointsToT1w"]) == frames
    assert 1000 < np.percentile(pet.get_fdata(), 99) < 30000


def test_flair_lies_on_its_own_grid_where_it_says(dataset):
    flair, sidecar = load(dataset / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz")
    t1w = nib.load(dataset / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    tissue, _ = load(
        dataset / "derivatives" / "truth" / "sub-01" / "anat" / "sub-01_desc-tissue_dseg.nii.gz"
    )
    assert flair.shape != t1w.shape
    on_t1w = resample(flair, t1w, np.linalg.inv(sidecar["SimulatedPointsToT1w"])).get_fdata()
    labels = np.asarray(tissue.dataobj)
    assert on_t1w[labels == 3].mean() < 0.7 * on_t1w[labels == 1].mean()


def test_participants_are_described(dataset):
    table = pd.read_csv(dataset / "participants.tsv", sep="\t")
    described = json.loads((dataset / "participants.json").read_text())
    assert list(table["participant_id"]) == ["sub-01", "sub-02"]
    assert set(table.columns) - {"participant_id"} == set(described)
    assert set(table["group"]) <= {"control", "patient"}


def test_regions_are_the_atlas_and_lie_in_the_brain(head):
    tissues, regions = segmentations(head)
    assert ((regions > 0) == head.brain).all()
    assert {1025, 2025, 10, 49, 8, 47, 2, 41, 4, 43, 24, 16} <= set(np.unique(regions))
    assert (tissues[regions == 77] == 4).all()
    assert head.left[regions == 10].mean() > 0.95
    assert head.left[regions == 49].mean() < 0.05


def test_sessions_share_the_head_and_lack_what_was_asked(tmp_path):
    recipe = Recipe(1, 2, PAIR, 5.0, sessions=2, without_flair=1.0, missing_pet=1.0)
    write_dataset(tmp_path, recipe)
    names = sorted(path.name for path in tmp_path.glob("sub-01/ses-*/*/*.nii.gz"))
    assert [name for name in names if "FLAIR" in name] == []
    assert len([name for name in names if name.endswith("_pet.nii.gz")]) == 2
    assert len([name for name in names if name.endswith("_T1w.nii.gz")]) == 2


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        recipe = Recipe(1, 6, PAIR[:1], 5.0)
        write_dataset(tmp_path / folder, recipe)
    for path in (tmp_path / "a").rglob("*.json"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    for path in (tmp_path / "a").rglob("*.nii.gz"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        np.testing.assert_array_equal(nib.load(path).dataobj, nib.load(other).dataobj)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--subjects", "0"], "--subjects"),
        (["--voxel-size", "50"], "--voxel-size"),
        (["--tracers", "18FXYZ"], "18FXYZ"),
        (["--without-flair", "2"], "--without-flair"),
    ],
)
def test_a_bad_option_ends_with_one_line_and_writes_nothing(tmp_path, capsys, arguments, named):
    assert main([str(tmp_path / "out"), *arguments]) == 64
    printed = capsys.readouterr().err
    assert named in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()
