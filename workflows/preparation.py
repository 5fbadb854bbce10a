"""What every session begins with: its anatomy, made or taken from OUT, on the model's grid."""

from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from rela_bids.bids.finished import Anatomy, anatomy_in, finished_anatomy
from rela_bids.bids.given import find_mask
from rela_bids.bids.query import Session
from rela_bids.head_templates import HeadTemplate, find_template
from rela_bids.interfaces.anatomical import JudgeMask
from rela_bids.interfaces.resampling import AffineOfComposite
from rela_bids.settings import Settings
from rela_bids.templates import brain_t1w
from rela_bids.volumes import Grid
from workflows.anatomical import init_anatomical_wf
from workflows.model_inputs import init_model_inputs_wf
from workflows.outputs import anatomy_is_saved, init_anatomical_outputs_wf

PREPROCESSED = ("t1w_preproc", "brain_mask", "flair_preproc")
TRANSFORMS = ("t1w_to_template_xfm", "template_to_t1w_xfm")


def add_anatomy(
    workflow: pe.Workflow, session: Session, settings: Settings, work_folder: Path | None = None
) -> pe.Workflow:
    """Add the anatomical workflow of a session and the saving of its outputs; returns the first.

    Where OUT has what it would make, and `work_folder`, that of the session's graph, knows nothing
    of it, it is one that hands that out, with the same outputs.
    """
    brain_mask = find_mask(settings.derivatives, session)
    outputs_wf = init_anatomical_outputs_wf(
        session=session, settings=settings, brain_mask=brain_mask
    )
    if work_folder is not None and _only_in_out(work_folder, session, settings, brain_mask):
        anatomical_wf = init_finished_anatomy_wf(
            anatomy=anatomy_in(settings.output_dir, session),
            judged=str(session.t1w),
            name="anatomical_wf",
        )
    else:
        anatomical_wf = _whole_anatomy(session, settings, brain_mask)
    workflow.connect([(anatomical_wf, outputs_wf, same(*preprocessed(session), *TRANSFORMS))])
    return anatomical_wf


def _only_in_out(
    work_folder: Path, session: Session, settings: Settings, brain_mask: Path | None
) -> bool:
    begun = (work_folder / "anatomical_wf" / "n4_t1w").exists()
    return not begun and anatomy_is_saved(session, settings, brain_mask)


def _whole_anatomy(session: Session, settings: Settings, brain_mask: Path | None) -> pe.Workflow:
    anatomical_wf = init_anatomical_wf(
        skull_strip=settings.anatomy.skull_strip,
        has_flair=session.flair is not None,
        bend=settings.bend,
        head_template=_head_template(settings),
        given_mask=brain_mask is not None,
    )
    inputnode = anatomical_wf.get_node("inputnode")
    inputnode.inputs.t1w = str(session.t1w)
    if session.flair is not None:
        inputnode.inputs.flair = str(session.flair)
    if brain_mask is not None:
        inputnode.inputs.given_mask = str(brain_mask)
    return anatomical_wf


def _head_template(settings: Settings) -> HeadTemplate | None:
    anatomy = settings.anatomy
    return find_template(anatomy.skull_strip_template) if anatomy.skull_strip == "ants" else None


def add_anatomy_or_finished(
    workflow: pe.Workflow, session: Session, settings: Settings
) -> pe.Workflow:
    """As `add_anatomy`, unless OUT has what it would make: then a workflow that hands that out."""
    brain_mask = find_mask(settings.derivatives, session)
    finished = finished_anatomy(session, settings, brain_mask)
    if finished is None:
        return add_anatomy(workflow, session, settings)
    return init_finished_anatomy_wf(anatomy=finished)


def init_finished_anatomy_wf(
    *, anatomy: Anatomy, judged: str | None = None, name: str = "finished_anatomy_wf"
) -> pe.Workflow:
    """The outputs of `init_anatomical_wf` out of OUT.

    Parameters
    ----------
    judged : the T1w as the user knows it; given, the mask is judged as when it was made, so that
        there is a `mask_qc`.

    Outputs
    -------
    t1w_preproc, brain_mask, flair_preproc, t1w_to_template_affine, t1w_to_template_xfm,
    template_to_t1w_xfm, mask_qc
        as of `workflows.anatomical.init_anatomical_wf`
    """
    fields = [*PREPROCESSED, *TRANSFORMS, "t1w_to_template_affine", "mask_qc"]
    outputnode = pe.Node(niu.IdentityInterface(fields), name="outputnode")
    outputnode.inputs.t1w_preproc = str(anatomy.t1w)
    outputnode.inputs.brain_mask = str(anatomy.brain_mask)
    outputnode.inputs.t1w_to_template_xfm = str(anatomy.to_template)
    outputnode.inputs.template_to_t1w_xfm = str(anatomy.from_template)
    if anatomy.flair is not None:
        outputnode.inputs.flair_preproc = str(anatomy.flair)
    template_affine = pe.Node(
        AffineOfComposite(composite=str(anatomy.to_template)), name="template_affine"
    )
    workflow = pe.Workflow(name=name)
    workflow.connect([(template_affine, outputnode, [("affine", "t1w_to_template_affine")])])
    if judged is not None:
        judge_mask = pe.Node(
            JudgeMask(
                t1w=str(anatomy.t1w),
                mask=str(anatomy.brain_mask),
                template=str(brain_t1w()),
                source=judged,
            ),
            name="judge_mask",
            mem_gb=1,
        )
        workflow.connect(
            [
                (template_affine, judge_mask, [("affine", "affine")]),
                (judge_mask, outputnode, [("quality", "mask_qc")]),
            ]
        )
    return workflow


def add_model_inputs(
    workflow: pe.Workflow, anatomical_wf: pe.Workflow, session: Session, grid: Grid
) -> pe.Workflow:
    """Add the workflow that brings a session's MRI onto the model's grid, and return it."""
    model_inputs_wf = init_model_inputs_wf(grid=grid, has_flair=session.flair is not None)
    to_model = [
        (f"outputnode.{field}", f"inputnode.{field.removesuffix('_preproc')}")
        for field in (*preprocessed(session), "t1w_to_template_affine")
    ]
    workflow.connect([(anatomical_wf, model_inputs_wf, to_model)])
    return model_inputs_wf


def preprocessed(session: Session) -> tuple[str, ...]:
    """The images of a session on its T1w grid."""
    return PREPROCESSED if session.flair is not None else PREPROCESSED[:2]


def on_model_grid(session: Session) -> tuple[str, ...]:
    """The images of a session on the model's grid."""
    return ("t1w", "mask", "flair") if session.flair is not None else ("t1w", "mask")


def same(*fields: str) -> list[tuple[str, str]]:
    """Connections from an output node to an input node that has the same names."""
    return [(f"outputnode.{field}", f"inputnode.{field}") for field in fields]
