"""The graph of one session in training: MRI and PET on the model's grid, kept as one example."""

from collections.abc import Mapping
from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from rela_bids.bids.query import Session
from rela_bids.frames import PetPlan
from rela_bids.interfaces.training import WriteExample
from rela_bids.settings import Settings
from rela_bids.tracers import Tracer
from rela_bids.volumes import Grid
from workflows.pet_target import init_pet_target_wf
from workflows.preparation import (
    add_anatomy_or_finished,
    add_model_inputs,
    on_model_grid,
    same,
)


def init_training_session_wf(
    *,
    session: Session,
    settings: Settings,
    targets: Mapping[str, Mapping[str, PetPlan]],
    tracers: Mapping[str, Tracer],
    grid: Grid,
    folder: Path,
    name: str = "session_wf",
) -> pe.Workflow:
    """Everything that is done for one session before the training.

    Parameters
    ----------
    targets : what to make of the PET of each session, by its label and by tracer.
    tracers : of the model, by label.
    grid : of the model.
    folder : where examples are kept.
    """
    workflow = pe.Workflow(name=name)
    anatomical_wf = add_anatomy_or_finished(workflow, session, settings)
    model_inputs_wf = add_model_inputs(workflow, anatomical_wf, session, grid)
    plans = targets[session.label]
    pets = pe.Node(niu.Merge(len(plans)), name="pets")
    write_example = pe.Node(
        WriteExample(
            subject=session.subject,
            session=session.session or "",
            tracers=list(plans),
            folder=str(folder),
        ),
        name="write_example",
        mem_gb=1.0,
    )
    for number, (label, plan) in enumerate(plans.items(), start=1):
        pet_target_wf = init_pet_target_wf(
            plan=plan, tracer=tracers[label], grid=grid, name=f"pet_{label}_wf"
        )
        workflow.connect(
            [
                (
                    anatomical_wf,
                    pet_target_wf,
                    same("t1w_preproc", "brain_mask", "t1w_to_template_affine"),
                ),
                (pet_target_wf, pets, [("outputnode.pet_on_grid", f"in{number}")]),
            ]
        )
    from_grid = [(f"outputnode.{field}", field) for field in on_model_grid(session)]
    workflow.connect(
        [
            (model_inputs_wf, write_example, from_grid),
            (pets, write_example, [("out", "pets")]),
        ]
    )
    return workflow
