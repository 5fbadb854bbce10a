"""What the model is given: MRI and brain mask on its grid."""

from nipype import Workflow
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node

from rela_bids.interfaces.resampling import ModelInputs
from rela_bids.volumes import Grid


def init_model_inputs_wf(*, grid: Grid, has_flair: bool, name: str = "model_inputs_wf") -> Workflow:
    """T1w, FLAIR and mask on the model grid, template-aligned by the affine alone.

    Inputs
    ------
    t1w, flair, brain_mask : on the T1w grid, MRI bias-corrected.
    t1w_to_template_affine : ITK ``.mat``.

    Outputs
    -------
    t1w, flair : float32, the MRI's own intensities, 0 outside the brain.
    mask : uint8.
    """
    fields = ["t1w", "flair", "brain_mask", "t1w_to_template_affine"]
    inputnode = Node(IdentityInterface(fields), "inputnode")
    outputnode = Node(IdentityInterface(["t1w", "flair", "mask"]), "outputnode")
    model_inputs = Node(
        ModelInputs(shape=grid.shape, voxel_size=grid.voxel_size, origin=grid.origin),
        "model_inputs",
        mem_gb=2,
    )
    used = fields if has_flair else [field for field in fields if field != "flair"]
    made = ["t1w", "flair", "mask"] if has_flair else ["t1w", "mask"]
    workflow = Workflow(name)
    workflow.connect(
        [
            (inputnode, model_inputs, [(field, field) for field in used]),
            (model_inputs, outputnode, [(field, field) for field in made]),
        ]
    )
    return workflow
