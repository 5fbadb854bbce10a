"""The graph of one session: MRI to the model's grid, PET, and back."""

from collections.abc import Mapping

from nipype.pipeline import engine as pe

from rela_bids.atlases import Atlas
from rela_bids.bids.query import Session
from rela_bids.frames import PetPlan
from rela_bids.head_templates import find_space, other_spaces
from rela_bids.interfaces.resampling import CheckInputs
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan
from rela_bids.templates import TEMPLATE_SPACE
from workflows.base import NAME
from workflows.outputs import init_pet_outputs_wf, init_space_outputs_wf, pet_kinds
from workflows.preparation import (
    add_anatomy,
    add_model_inputs,
    on_model_grid,
    preprocessed,
    same,
)
from workflows.quantification import init_measured_wf, init_regions_wf
from workflows.reporting import init_session_report_wf
from workflows.standard_space import init_standard_space_wf, space_name
from workflows.synthesis import init_synthesis_wf


def init_session_wf(
    *,
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    atlas: Atlas | None = None,
    measured: Mapping[str, Mapping[str, PetPlan]] | None = None,
    name: str = "session_wf",
) -> pe.Workflow:
    """Everything that is done for one session, from the raw files to those in OUT.

    Parameters
    ----------
    atlas : whose regions are measured; None for none.
    measured : what to make of the PET of each session, by its label and by tracer of the plan.
    """
    workflow = pe.Workflow(name=name)
    work_folder = settings.work_dir / NAME / name
    anatomical_wf = add_anatomy(workflow, session, settings, work_folder)
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
    check_inputs = pe.Node(CheckInputs(grid=plan.config.grid), name="check_inputs", mem_gb=1.0)
    on_grid = [(f"outputnode.{field}", field) for field in on_model_grid(session)]
    workflow.connect(
        [
            (model_inputs_wf, check_inputs, on_grid),
            (check_inputs, report_wf, [("likeness", "inputnode.likeness")]),
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
    if atlas is not None:
        _add_regions(workflow, session, settings, plan, atlas)
    for label, pet in (measured or {}).get(session.label, {}).items():
        _add_measured(
            workflow,
            init_measured_wf(
                session=session, settings=settings, plan=plan, label=label, pet=pet, atlas=atlas
            ),
            with_regions=atlas is not None,
        )
    return workflow


def _add_regions(
    workflow: pe.Workflow, session: Session, settings: Settings, plan: SynthesisPlan, atlas: Atlas
) -> None:
    regions_wf = init_regions_wf(session=session, settings=settings, plan=plan, atlas=atlas)
    anatomical_wf, model_inputs_wf, synthesis_wf = (
        workflow.get_node(name) for name in ("anatomical_wf", "model_inputs_wf", "synthesis_wf")
    )
    to_regions = ("t1w_preproc", "brain_mask", "template_to_t1w_xfm", "t1w_to_template_affine")
    workflow.connect(
        [
            (anatomical_wf, regions_wf, same(*to_regions)),
            (model_inputs_wf, regions_wf, same("mask")),
            (synthesis_wf, regions_wf, same("mean", "samples")),
        ]
    )


def _add_measured(workflow: pe.Workflow, measured_wf: pe.Workflow, *, with_regions: bool) -> None:
    anatomical_wf, synthesis_wf = (
        workflow.get_node(name) for name in ("anatomical_wf", "synthesis_wf")
    )
    to_measured = ("t1w_preproc", "brain_mask", "t1w_to_template_affine")
    workflow.connect(
        [
            (anatomical_wf, measured_wf, same(*to_measured)),
            (synthesis_wf, measured_wf, same("mean")),
        ]
    )
    if with_regions:
        workflow.connect(
            [(workflow.get_node("regions_wf"), measured_wf, same("regions", "tables"))]
        )


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
