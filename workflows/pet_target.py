"""From a session's PET to SUVR, what a model is trained on."""

from nipype import Workflow
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node

from rela_bids.frames import PetPlan
from rela_bids.interfaces.pet import AverageFrames, LoadFrames, PetSUVR, PetToT1w
from rela_bids.tracers import Tracer
from rela_bids.volumes import Grid


def init_pet_target_wf(
    *, plan: PetPlan, tracer: Tracer, grid: Grid, name: str = "pet_target_wf"
) -> Workflow:
    """Frames averaged, PET to T1w (rigid), SUVR, onto the model grid.

    Parameters
    ----------
    plan : which frames of which file.
    tracer : its reference region is what the PET is divided by.
    grid : of the model.

    Inputs
    ------
    t1w_preproc, brain_mask : on the T1w grid.
    t1w_to_template_affine : ITK ``.mat``.

    Outputs
    -------
    pet_on_grid : SUVR on the model grid, float32, 0 outside the PET's field of view.
    pet_t1w : SUVR on the T1w grid, the same.
    pet_to_t1w : ITK ``.mat``, the one that resamples the PET onto the T1w grid.
    pet_report : JSON of `rela_bids.pet_target.report`.
    """
    given = ["t1w_preproc", "brain_mask", "t1w_to_template_affine"]
    made = ["pet_on_grid", "pet_t1w", "pet_to_t1w", "pet_report"]
    inputnode = Node(IdentityInterface(given), "inputnode")
    outputnode = Node(IdentityInterface(made), "outputnode")
    load_frames = Node(LoadFrames(in_file=str(plan.path), plan=plan), "load_frames", mem_gb=1)
    average_frames = Node(AverageFrames(plan=plan), "average_frames", mem_gb=1)
    pet_to_t1w = Node(PetToT1w(plan=plan), "pet_to_t1w", mem_gb=2)
    pet_suvr = Node(PetSUVR(plan=plan, tracer=tracer, grid=grid), "pet_suvr", mem_gb=2)

    on_t1w = [("t1w_preproc", "t1w"), ("brain_mask", "brain_mask")]
    to_template = ("t1w_to_template_affine", "t1w_to_template_affine")
    workflow = Workflow(name)
    workflow.connect(
        [
            (load_frames, average_frames, [("frames", "frames")]),
            (inputnode, pet_to_t1w, on_t1w),
            (average_frames, pet_to_t1w, [("pet", "pet")]),
            (inputnode, pet_suvr, [*on_t1w, to_template]),
            (average_frames, pet_suvr, [("pet", "pet"), ("motion", "motion")]),
            (pet_to_t1w, pet_suvr, [("affine", "pet_to_t1w")]),
            (pet_to_t1w, outputnode, [("affine", "pet_to_t1w")]),
            (
                pet_suvr,
                outputnode,
                [
                    ("pet_on_grid", "pet_on_grid"),
                    ("pet_t1w", "pet_t1w"),
                    ("report", "pet_report"),
                ],
            ),
        ]
    )
    return workflow
