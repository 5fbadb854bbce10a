"""PET in a standard space whose template is TemplateFlow's."""

import nibabel as nib
import numpy as np
import pytest

from rela_bids import templates, transforms
from rela_bids.head_templates import HeadTemplate
from workflows.standard_space import init_standard_space_wf, space_name

SHIFT = np.array([10.0, -6.0, 4.0])
SPOT = np.array([-30.0, -20.0, 25.0])


def test_a_space_with_cohort_and_resolution_makes_a_node_name():
    assert space_name("MNIPediatricAsym:cohort-2:res-1") == "MNIPediatricAsym_cohort_2_res_1"


@pytest.mark.slow
def test_pet_follows_the_brain_to_a_template_that_lies_elsewhere(tmp_path):
    brain = transforms.isotropic(nib.load(templates.brain_t1w()), 3.0)
    data = np.asarray(brain.dataobj, np.float32)
    mask = (data > 0).astype(np.uint8)
    points = nib.affines.apply_affine(brain.affine, np.indices(data.shape).T).T
    pet = np.exp(-(np.linalg.norm(points.T - SPOT, axis=-1).T ** 2) / 50).astype(np.float32)
    moved = brain.affine.copy()
    moved[:3, 3] += SHIFT
    images = {
        "t1w": (data, brain.affine),
        "mask": (mask, brain.affine),
        "pet": (pet, brain.affine),
        "template_t1w": (data, moved),
        "template_mask": (mask, moved),
    }
    for name, (array, affine) in images.items():
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    template = HeadTemplate(
        "Elsewhere", tmp_path / "template_t1w.nii.gz", tmp_path / "template_mask.nii.gz", True
    )
    workflow = init_standard_space_wf(template=template, kinds=["mean"])
    workflow.base_dir = str(tmp_path)
    inputs = workflow.get_node("inputnode").inputs
    inputs.t1w_preproc, inputs.brain_mask = (str(tmp_path / f"{n}.nii.gz") for n in ("t1w", "mask"))
    inputs.mean = [str(tmp_path / "pet.nii.gz")]
    outputs = {node.name: node.result.outputs for node in workflow.run().nodes()}
    (found,) = outputs["mean_to_space"].volumes
    image = nib.load(found)
    assert image.shape == data.shape
    brightest = np.unravel_index(np.argmax(image.get_fdata()), image.shape)
    there = nib.affines.apply_affine(image.affine, brightest)
    np.testing.assert_allclose(there, SPOT + SHIFT, atol=3)
