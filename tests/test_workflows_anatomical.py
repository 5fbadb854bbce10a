"""The anatomical graphs: their shape without ANTs, and one run on a small head."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import Workflow
from nipype.interfaces.base import isdefined
from scipy import ndimage

from rela_bids import registration, templates, transforms
from rela_bids.head_templates import HeadTemplate
from rela_bids.interfaces.anatomical import AdoptMask
from rela_bids.phantom.anatomy import build_head, random_pose
from rela_bids.phantom.person import draw_person
from rela_bids.phantom.scans import flair_scan, head_grid, t1w_scan
from rela_bids.settings import AnatomySettings, RegionSettings, Settings
from rela_bids.volumes import Grid
from workflows.anatomical import init_anatomical_wf
from workflows.model_inputs import init_model_inputs_wf

GRID = Grid.about((0.0, -18.0, 5.0), (40, 48, 40), 4.0)


def connected_outputs(workflow):
    """The fields of the output node that something feeds."""
    graph = workflow._graph
    output = workflow.get_node("outputnode")
    return {field for *_, link in graph.in_edges(output, data=True) for _, field in link["connect"]}


def test_without_flair_nothing_of_flair_is_in_the_graph():
    workflow = init_anatomical_wf(skull_strip="ants", has_flair=False, bend=False)
    assert not [name for name in workflow.list_node_names() if "flair" in name]
    assert connected_outputs(workflow) == {
        "t1w_preproc",
        "brain_mask",
        "t1w_to_template_affine",
        "t1w_to_template_xfm",
        "template_to_t1w_xfm",
        "mask_qc",
    }


def test_with_flair_every_output_is_fed():
    workflow = init_anatomical_wf(skull_strip="deepbet", has_flair=True, bend=False)
    assert connected_outputs(workflow) == set(workflow.outputs.outputnode.get())


@pytest.mark.parametrize(
    ("spaces", "regions", "train", "bends"),
    [
        (("T1w",), False, False, False),
        (("T1w", "MNI152NLin2009cAsym"), False, False, True),
        (("T1w",), True, False, True),
        (("T1w",), True, True, False),
    ],
)
def test_syn_is_taken_only_where_something_needs_it(spaces, regions, train, bends):
    settings = Settings(
        *(Path(name) for name in ("bids", "out", "work")),
        anatomy=AnatomySettings(output_spaces=spaces),
        regions=RegionSettings(wanted=regions),
        train=train,
    )
    workflow = init_anatomical_wf(skull_strip="ants", has_flair=False, bend=settings.bend)
    assert workflow.get_node("template_xfm").inputs.bend is bends


def test_a_mask_reaches_the_output_only_through_its_judge():
    workflow = init_anatomical_wf(skull_strip="ants", has_flair=True, bend=False)
    graph = workflow._graph
    readers = graph.successors(workflow.get_node("brain_mask"))
    assert {node.name for node in readers} == {"template_affine", "judge_mask"}


def test_a_given_mask_takes_the_place_of_stripping_and_is_judged_too():
    workflow = init_anatomical_wf(skull_strip="ants", has_flair=False, bend=False, given_mask=True)
    node = workflow.get_node("brain_mask")
    assert isinstance(node.interface, AdoptMask)
    link = workflow._graph.get_edge_data(workflow.get_node("inputnode"), node)
    assert link["connect"] == [("given_mask", "given_mask")]
    readers = workflow._graph.successors(node)
    assert {node.name for node in readers} == {"template_affine", "judge_mask"}


@pytest.mark.parametrize("whole_head", [True, False])
def test_only_a_template_of_a_whole_head_is_handed_to_stripping(tmp_path, whole_head):
    for name in ("t1w.nii.gz", "mask.nii.gz"):
        (tmp_path / name).touch()
    template = HeadTemplate("x", tmp_path / "t1w.nii.gz", tmp_path / "mask.nii.gz", whole_head)
    workflow = init_anatomical_wf(
        skull_strip="ants", has_flair=False, bend=False, head_template=template
    )
    assert isdefined(workflow.get_node("brain_mask").inputs.head_t1w) is whole_head


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A stripped T1w at 3 mm, turned a little, and its FLAIR, which lies elsewhere."""
    folder = tmp_path_factory.mktemp("session")
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (96, -132, -80)
    grid = nib.Nifti1Image(np.zeros((65, 76, 66), np.float32), affine)
    brain = transforms.resample(nib.load(templates.brain_t1w()), grid, np.eye(4))
    data = np.asarray(brain.dataobj)
    # A lesion in the left hemisphere, bright, that no template has.
    x, y, z = nib.affines.apply_affine(affine, np.indices(data.shape).T).T
    lesion = (x + 35) ** 2 + (y + 20) ** 2 + (z - 25) ** 2 < 9**2
    t1w = np.where(lesion, 160, data).astype(np.float32)
    flair = np.where(data > 8, np.where(lesion, 200, 130 - data), 0)
    turn = registration.rotation(6, 0, -4)
    turn[:3, 3] = (3, 4, -5)
    away = registration.rotation(-5, 4, 3)
    away[:3, 3] = (-6, 5, 4)
    nib.save(nib.Nifti1Image(t1w, turn @ affine), folder / "t1w.nii.gz")
    flair = nib.Nifti1Image(flair.astype(np.float32), away @ turn @ affine)
    nib.save(flair, folder / "flair.nii.gz")
    return folder, turn, away


def run_to_model_grid(folder, skull_strip):
    """Outputs of every node of the graph from T1w and FLAIR in `folder` to the model grid."""
    anatomical = init_anatomical_wf(skull_strip=skull_strip, has_flair=True, bend=False)
    anatomical.inputs.inputnode.t1w = str(folder / "t1w.nii.gz")
    anatomical.inputs.inputnode.flair = str(folder / "flair.nii.gz")
    model_inputs = init_model_inputs_wf(grid=GRID, has_flair=True)
    both = Workflow("both", base_dir=str(folder))
    names = [("t1w_preproc", "t1w"), ("flair_preproc", "flair"), ("brain_mask", "brain_mask")]
    names.append(("t1w_to_template_affine", "t1w_to_template_affine"))
    for there, here in names:
        both.connect(anatomical, f"outputnode.{there}", model_inputs, f"inputnode.{here}")
    return {node.name: node.result.outputs for node in both.run().nodes()}


@pytest.fixture(scope="module")
def results(session):
    return run_to_model_grid(session[0], "skip")


def lesion_at(data, affine):
    """Centre of the brightest spot, RAS+ mm."""
    bright = data > 0.85 * np.percentile(data, 99.95)
    parts, _ = ndimage.label(bright)
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return nib.affines.apply_affine(affine, np.argwhere(largest).mean(0))


@pytest.mark.slow
class TestRun:
    def test_the_t1w_keeps_its_grid_and_the_mask_and_flair_take_it(self, session, results):
        raw = nib.load(session[0] / "t1w.nii.gz")
        for path in (
            results["n4_t1w"].out_file,
            results["judge_mask"].mask,
            results["flair_to_t1w"].flair,
        ):
            image = nib.load(path)
            assert image.shape == raw.shape
            np.testing.assert_allclose(image.affine, raw.affine, atol=1e-5)
        assert nib.load(results["judge_mask"].mask).get_data_dtype() == np.uint8

    def test_the_affine_maps_the_template_to_the_t1w(self, session, results):
        found = transforms.read_affine(results["template_affine"].affine)
        points = np.array([[-50, -20, 20], [50, -20, 20], [0, 50, 0], [0, -80, -20], [0, -20, 70]])
        apart = nib.affines.apply_affine(found, points) - nib.affines.apply_affine(
            session[1], points
        )
        assert np.linalg.norm(apart, axis=1).max() < 2

    def test_the_flair_lies_on_the_t1w(self, session, results):
        found = transforms.read_affine(results["flair_to_t1w"].affine)
        points = np.array([[-50, -20, 20], [50, -20, 20], [0, 50, 0], [0, -80, -20]])
        apart = nib.affines.apply_affine(found, points) - nib.affines.apply_affine(
            session[2], points
        )
        assert np.linalg.norm(apart, axis=1).max() < 1

    def test_the_composites_are_inverses(self, results):
        from nitransforms.manip import TransformChain

        point = np.array([[-30.0, -20.0, 30.0]])
        moved = point
        for name in ("to_template", "from_template"):
            path = getattr(results["template_xfm"], name)
            moved = np.asarray(TransformChain.from_filename(str(path), fmt="itk").map(moved))
        np.testing.assert_allclose(moved, point, atol=1e-3)

    def test_the_judgement_is_written_down(self, results):
        quality = json.loads(Path(results["judge_mask"].quality).read_text())
        assert quality["verdict"] == "ok"
        assert 1500 < quality["volume_ml"] < 2200

    def test_a_lesion_on_the_left_is_on_the_left_of_the_model_grid(self, results):
        outputs = results["model_inputs"]
        mask = np.asarray(nib.load(outputs.mask).dataobj) > 0
        for path in (outputs.t1w, outputs.flair):
            image = nib.load(path)
            data = np.asarray(image.dataobj)
            assert image.shape == GRID.shape
            assert not data[~mask].any()
            np.testing.assert_allclose(lesion_at(data, image.affine), (-35, -20, 25), atol=3)


@pytest.mark.slow
def test_a_marker_on_the_left_of_a_whole_phantom_ends_on_the_left_by_ants_alone(tmp_path):
    rng = np.random.default_rng(4)
    pose = random_pose(rng, aligned=False)
    head = build_head(rng, draw_person(rng), head_grid(3.0), pose, whole=True)
    left = nib.affines.apply_affine(np.linalg.inv(pose), (-30.0, -15.0, 25.0))
    for name, scan in (("t1w", t1w_scan(rng, head)), ("flair", flair_scan(rng, head)[0])):
        data = np.asarray(scan.dataobj).astype(np.float32)
        points = nib.affines.apply_affine(scan.affine, np.indices(data.shape).T).T
        data[np.linalg.norm(points.T - left, axis=-1).T < 13] = 2.0 * np.percentile(data, 99.5)
        stored = nib.Nifti1Image(data, scan.affine).as_reoriented(
            np.array([[1, -1], [2, 1], [0, -1]])
        )
        nib.save(stored, tmp_path / f"{name}.nii.gz")
    outputs = run_to_model_grid(tmp_path, "ants")
    preproc = nib.load(outputs["n4_t1w"].out_file)
    masked = np.asarray(preproc.dataobj) * np.asarray(nib.load(outputs["judge_mask"].mask).dataobj)
    np.testing.assert_allclose(lesion_at(masked, preproc.affine), left, atol=3)
    for path in (outputs["model_inputs"].t1w, outputs["model_inputs"].flair):
        image = nib.load(path)
        found = lesion_at(np.asarray(image.dataobj), image.affine)
        # The phantom is deformed by some millimetres beyond its affine.
        np.testing.assert_allclose(found, (-30, -15, 25), atol=10)
