"""The PET graph: its shape without ANTs, and a run on a small phantom."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rela_bids import registration, templates, transforms
from rela_bids.frames import PetPlan, plan_pet
from rela_bids.phantom.__main__ import main as make_phantoms
from rela_bids.tracers import TRACERS
from rela_bids.volumes import Grid
from workflows.pet_target import init_pet_target_wf

TRACER = TRACERS["18FAV45"]
GRID = Grid.about((0.0, -18.0, 5.0), (40, 48, 40), 4.0)


def test_every_output_is_fed_by_a_node_with_a_telling_name(tmp_path):
    path = tmp_path / "pet.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4)), path)
    plan = PetPlan(path, (0,), (), None)
    workflow = init_pet_target_wf(plan=plan, tracer=TRACER, grid=GRID)
    output = workflow.get_node("outputnode")
    links = workflow._graph.in_edges(output, data=True)
    fed = {there: node.name for node, _, link in links for _, there in link["connect"]}
    assert fed == {
        "pet_on_grid": "pet_suvr",
        "pet_t1w": "pet_suvr",
        "pet_report": "pet_suvr",
        "pet_to_t1w": "pet_to_t1w",
    }
    names = workflow.list_node_names()
    assert {"load_frames", "average_frames", "pet_to_t1w", "pet_suvr"} < set(names)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A person at 4 mm, its T1w, true mask and an affine to the template as the graph gets them."""
    folder = tmp_path_factory.mktemp("phantom")
    options = ["--subjects", "1", "--voxel-size", "4", "--tracers", TRACER.label, "--frames", "2"]
    assert make_phantoms([str(folder), *options]) == 0
    truth = folder / "derivatives/truth/sub-01"
    t1w = nib.load(folder / "sub-01/anat/sub-01_T1w.nii.gz")
    mask = truth / "anat/sub-01_desc-brain_mask.nii.gz"
    inside = np.asarray(nib.load(mask).dataobj) > 0
    brain = nib.Nifti1Image(np.where(inside, t1w.get_fdata(), 0).astype("f4"), t1w.affine)
    affine = registration.align_brain(brain, nib.load(templates.brain_t1w()))
    transforms.write_affine(folder / "to_template.mat", affine)
    return folder, truth, mask


def run(folder, mask, plan, work):
    workflow = init_pet_target_wf(plan=plan, tracer=TRACER, grid=GRID)
    workflow.base_dir = str(work)
    inputnode = workflow.inputs.inputnode
    inputnode.t1w_preproc = str(folder / "sub-01/anat/sub-01_T1w.nii.gz")
    inputnode.brain_mask = str(mask)
    inputnode.t1w_to_template_affine = str(folder / "to_template.mat")
    return {node.name: node.result.outputs for node in workflow.run().nodes()}


@pytest.fixture(scope="module")
def results(phantom, tmp_path_factory):
    folder, _, mask = phantom
    pet = folder / f"sub-01/pet/sub-01_trc-{TRACER.label}_pet.nii.gz"
    metadata = json.loads(pet.with_name(pet.name.replace("nii.gz", "json")).read_text())
    plan = plan_pet(pet, TRACER, metadata)
    return run(folder, mask, plan, tmp_path_factory.mktemp("raw")), metadata


@pytest.mark.slow
class TestRun:
    def test_the_pet_lies_on_the_t1w(self, phantom, results):
        outputs, metadata = results
        found = transforms.read_affine(outputs["pet_to_t1w"].affine)
        expected = np.linalg.inv(metadata["SimulatedPointsToT1w"])
        mask = nib.load(phantom[2])
        points = np.argwhere(np.asarray(mask.dataobj) > 0)[::20]
        points = nib.affines.apply_affine(mask.affine, points)
        apart = nib.affines.apply_affine(found, points) - nib.affines.apply_affine(expected, points)
        assert np.linalg.norm(apart, axis=1).max() < 2.5

    def test_the_suvr_is_that_of_a_perfect_pipeline(self, phantom, results):
        _, truth, mask = phantom
        seen = truth / f"pet/sub-01_trc-{TRACER.label}_space-T1w_desc-seen_pet.nii.gz"
        inside = np.asarray(nib.load(mask).dataobj) > 0
        expected = nib.load(seen).get_fdata()[inside]
        found = nib.load(results[0]["pet_suvr"].pet_t1w).get_fdata()[inside]
        assert found.mean() == pytest.approx(expected.mean(), rel=0.04)
        assert np.corrcoef(found, expected)[0, 1] > 0.9

    def test_the_report_says_what_was_done(self, results):
        report = json.loads(Path(results[0]["pet_suvr"].report).read_text())
        assert report["frames"] == [2, 3]
        assert report["minutes"] == [50, 70]
        assert report["reference_region"] == "whole cerebellum"
        assert report["reference_ml"] > 50
        assert len(report["motion_mm"]) == 2

    def test_prepared_suvr_on_the_t1w_passes_through(self, phantom, tmp_path):
        folder, truth, mask = phantom
        seen = nib.load(truth / f"pet/sub-01_trc-{TRACER.label}_space-T1w_desc-seen_pet.nii.gz")
        path = tmp_path / "sub-01_trc-18FAV45_space-T1w_desc-preproc_pet.nii.gz"
        nib.save(nib.Nifti1Image(seen.get_fdata(dtype=np.float32), seen.affine), path)
        plan = plan_pet(path, TRACER, {"Units": "SUVR"}, prepared=True)
        outputs = run(folder, mask, plan, tmp_path / "work")
        np.testing.assert_array_equal(
            transforms.read_affine(outputs["pet_to_t1w"].affine), np.eye(4)
        )
        found = nib.load(outputs["pet_suvr"].pet_t1w).get_fdata()
        np.testing.assert_allclose(found, np.maximum(seen.get_fdata(), 0), atol=1e-3)
        assert json.loads(Path(outputs["pet_suvr"].report).read_text())["reference_region"] is None
