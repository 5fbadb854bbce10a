"""The graph of one session: MRI to the model's grid, PET, and back."""

from nipype.pipeline import engine as pe

from rela_bids.bids.query import Session
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan
from rela_bids.templates import TEMPLATE_SPACE
from workflows.anatomical import init_anatomical_wf
from workflows.model_inputs import init_model_inputs_wf
from workflows.outputs import init_anatomical_outputs_wf, init_pet_outputs_wf
from workflows.reporting import init_session_report_wf
from workflows.synthesis import init_synthesis_wf


def init_session_wf(
    *, session: Session, settings: Settings, plan: SynthesisPlan, name: str = "session_wf"
) -> pe.Workflow:
    """Everything that is done for one session, from the raw files to those in OUT."""
    has_flair = session.flair is not None
    anatomical_wf = init_anatomical_wf(
        skull_strip=settings.anatomy.skull_strip,
        has_flair=has_flair,
        output_spaces=settings.anatomy.output_spaces,
    )
    anatomical_wf.inputs.inputnode.t1w = str(session.t1w)
    model_inputs_wf = init_model_inputs_wf(grid=plan.config.grid, has_flair=has_flair)
    synthesis_wf = init_synthesis_wf(
        plan=plan,
        names=[session.subject, session.session or ""],
        has_flair=has_flair,
        output_spaces=settings.anatomy.output_spaces,
        resources=settings.resources,
    )
    anatomical_outputs_wf = init_anatomical_outputs_wf(session=session, settings=settings)
    pet_outputs_wf = init_pet_outputs_wf(session=session, settings=settings, plan=plan)
    report_wf = init_session_report_wf(session=session, settings=settings, plan=plan)

    preprocessed = ["t1w_preproc", "brain_mask"]
    to_model = [
        ("t1w_preproc", "t1w"),
        ("brain_mask", "brain_mask"),
        ("t1w_to_template_affine", "t1w_to_template_affine"),
    ]
    from_model = [("t1w", "t1w"), ("mask", "mask")]
    if has_flair:
        anatomical_wf.inputs.inputnode.flair = str(session.flair)
        preprocessed.append("flair_preproc")
        to_model.append(("flair_preproc", "flair"))
        from_model.append(("flair", "flair"))

    workflow = pe.Workflow(name=name)
    workflow.connect(
        [
            (anatomical_wf, model_inputs_wf, _to_inputnode(to_model)),
            (model_inputs_wf, synthesis_wf, _to_inputnode(from_model)),
            (
                anatomical_wf,
                synthesis_wf,
                _same("t1w_preproc", "brain_mask", "t1w_to_template_affine", "t1w_to_template_xfm"),
            ),
            (
                anatomical_wf,
                anatomical_outputs_wf,
                _same(*preprocessed, "t1w_to_template_xfm", "template_to_t1w_xfm"),
            ),
            (synthesis_wf, pet_outputs_wf, _same(*_pet_fields(settings, plan))),
            (anatomical_wf, report_wf, _same("t1w_to_template_affine", "mask_qc")),
            (anatomical_outputs_wf, report_wf, _same(*preprocessed)),
            (pet_outputs_wf, report_wf, _same(*_kinds(plan))),
        ]
    )
    return workflow


def _kinds(plan: SynthesisPlan) -> list[str]:
    """The images per tracer; one sample has no standard deviation."""
    return ["mean", "std"] if plan.n_samples > 1 else ["mean"]


def _pet_fields(settings: Settings, plan: SynthesisPlan) -> list[str]:
    suffixes = [""] + (["_in_template"] if TEMPLATE_SPACE in settings.anatomy.output_spaces else [])
    return [kind + suffix for kind in _kinds(plan) for suffix in suffixes]


def _same(*fields: str) -> list[tuple[str, str]]:
    return [(f"outputnode.{field}", f"inputnode.{field}") for field in fields]


def _to_inputnode(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"outputnode.{source}", f"inputnode.{target}") for source, target in pairs]
