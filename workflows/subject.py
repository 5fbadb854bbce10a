"""The graph of one session: MRI to the model's grid, PET, and back."""

from nipype.pipeline import engine as pe

from rela_bids.bids.query import Session
from rela_bids.head_templates import find_space, other_spaces
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan
from rela_bids.templates import TEMPLATE_SPACE
from workflows.outputs import init_pet_outputs_wf, init_space_outputs_wf, pet_kinds
from workflows.preparation import (
    add_anatomy,
    add_model_inputs,
    on_model_grid,
    preprocessed,
    same,
)
from workflows.reporting import init_session_report_wf
from workflows.standard_space import init_standard_space_wf, space_name
from workflows.synthesis import init_synthesis_wf


def init_session_wf(
    *, session: Session, settings: Settings, plan: SynthesisPlan, name: str = "session_wf"
) -> pe.Workflow:
    """Everything that is done for one session, from the raw files to those in OUT."""
    workflow = pe.Workflow(name=name)
    anatomical_wf = add_anatomy(workflow, session, settings)
    anatomical_outputs_wf = workflow.get_node("anatomical_outputs_wf")
    model_inputs_wf = add_model_inputs(workflow, anatomical_wf, session, plan.config.grid)
    synthesis_wf = init_synthesis_wf(
        plan=plan,
        names=[session.subject, session.session or ""],
        has_flair=session.flair is not None,
        output_spaces=settings.anatomy.output_spaces,
        resources=settings.resources,
    )
    pet_outputs_wf = init_pet_outputs_wf(session=session, settings=settings, plan=plan)
    report_wf = init_session_report_wf(session=session, settings=settings, plan=plan)
    workflow.connect(
        [
            (model_inputs_wf, synthesis_wf, same(*on_model_grid(session))),
            (
                anatomical_wf,
                synthesis_wf,
                same("t1w_preproc", "brain_mask", "t1w_to_template_affine", "t1w_to_template_xfm"),
            ),
            (synthesis_wf, pet_outputs_wf, same(*_pet_fields(settings, plan))),
            (anatomical_wf, report_wf, same("t1w_to_template_affine", "mask_qc")),
            (anatomical_outputs_wf, report_wf, same(*preprocessed(session))),
            (pet_outputs_wf, report_wf, same(*pet_kinds(plan))),
        ]
    )
    for space in other_spaces(settings.anatomy.output_spaces):
        _add_space(workflow, session, settings, plan, space)
    return workflow


def _add_space(
    workflow: pe.Workflow, session: Session, settings: Settings, plan: SynthesisPlan, space: str
) -> None:
    """Add what brings PET to a further standard space."""
    suffix = space_name(space)
    kinds = list(pet_kinds(plan))
    space_wf = init_standard_space_wf(
        template=find_space(space), kinds=kinds, name=f"to_{suffix}_wf"
    )
    outputs_wf = init_space_outputs_wf(
        session=session, settings=settings, plan=plan, space=space, name=f"{suffix}_outputs_wf"
    )
    anatomical_wf, synthesis_wf = map(workflow.get_node, ("anatomical_wf", "synthesis_wf"))
    workflow.connect(
        [
            (anatomical_wf, space_wf, same("t1w_preproc", "brain_mask")),
            (synthesis_wf, space_wf, same(*kinds)),
            (space_wf, outputs_wf, same("to_space_xfm", "from_space_xfm", *kinds)),
        ]
    )


def _pet_fields(settings: Settings, plan: SynthesisPlan) -> list[str]:
    suffixes = [""] + (["_in_template"] if TEMPLATE_SPACE in settings.anatomy.output_spaces else [])
    return [kind + suffix for kind in pet_kinds(plan) for suffix in suffixes]
