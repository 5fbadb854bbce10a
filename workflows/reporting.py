"""Pictures of a session and the record from which a person's report is put together.

The report itself is written by the main process when the session has ended, well or not
(`rela_bids.cli.reporting`).
"""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from rela_bids import templates
from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.query import Session
from rela_bids.interfaces.reporting import DrawFigures, DrawMeasured, SaveFigures
from rela_bids.reports.summary import results_path
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan


def init_session_report_wf(
    *, session: Session, settings: Settings, plan: SynthesisPlan, name: str = "report_wf"
) -> pe.Workflow:
    """Draw a session's pictures and save them in OUT.

    Inputs
    ------
    t1w_preproc, brain_mask, flair_preproc
        on the T1w grid; FLAIR where the session has one
    t1w_to_template_affine
        ITK ``.mat``
    mask_qc
        JSON of `rela_bids.brain_mask.MaskQuality`
    likeness
        JSON of `rela_bids.likeness.Likeness`
    mean, std
        lists of files on the T1w grid, in the order of the plan's tracers; no `std` of one sample
    """
    results = results_path(Derivatives(settings.output_dir).summary(session))
    inputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                "t1w_preproc",
                "brain_mask",
                "flair_preproc",
                "t1w_to_template_affine",
                "mask_qc",
                "likeness",
                "mean",
                "std",
            ]
        ),
        name="inputnode",
    )
    draw_figures = pe.Node(
        DrawFigures(
            template=str(templates.brain_t1w()),
            tracers=list(plan.tracers.values()),
            prefix=session.prefix,
            results_name=results.name,
        ),
        name="draw_figures",
        mem_gb=1.5,
    )
    save_figures = pe.Node(SaveFigures(folder=str(results.parent)), name="save_figures")
    to_draw = [
        ("t1w_preproc", "t1w"),
        ("brain_mask", "brain_mask"),
        ("t1w_to_template_affine", "t1w_to_template_affine"),
        ("mask_qc", "mask_qc"),
        ("likeness", "likeness"),
        ("mean", "mean"),
    ]
    if session.flair is not None:
        to_draw.append(("flair_preproc", "flair"))
    if plan.n_samples > 1:
        to_draw.append(("std", "std"))
    workflow = pe.Workflow(name=name)
    workflow.connect(
        [
            (inputnode, draw_figures, to_draw),
            (draw_figures, save_figures, [("figures", "figures"), ("results", "results")]),
        ]
    )
    return workflow


def init_measured_report_wf(
    *,
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    label: str,
    with_regions: bool,
    name: str = "measured_report_wf",
) -> pe.Workflow:
    """Draw a measured PET beside the synthetic one, and save the pictures in OUT.

    Parameters
    ----------
    label : of the tracer, one of the plan's.

    Inputs
    ------
    t1w_preproc, brain_mask : on the T1w grid.
    measured, synthetic : SUVR, on the T1w grid.
    agreement : TSV of `rela_bids.quantification.Agreement`.
    pet_report : JSON of `rela_bids.pet_target.report`.
    tables, measured_table : TSV of the synthetic PET per tracer of the plan, and of the measured
        one; with regions.
    """
    results = Derivatives(settings.output_dir).measured_results(session, label)
    plain = ["brain_mask", "measured", "synthetic", "agreement", "pet_report"]
    tables = ["tables", "measured_table"] if with_regions else []
    inputnode = pe.Node(
        niu.IdentityInterface(fields=["t1w_preproc", *plain, *tables]), name="inputnode"
    )
    draw_measured = pe.Node(
        DrawMeasured(
            tracer=plan.tracers[label],
            number=list(plan.tracers).index(label),
            prefix=session.prefix,
            results_name=results.name,
        ),
        name="draw_measured",
        mem_gb=1.5,
    )
    save_figures = pe.Node(SaveFigures(folder=str(results.parent)), name="save_figures")
    same = [(field, field) for field in (*plain, *tables)]
    workflow = pe.Workflow(name=name)
    workflow.connect(
        [
            (inputnode, draw_measured, [("t1w_preproc", "t1w"), *same]),
            (draw_measured, save_figures, [("figures", "figures"), ("results", "results")]),
        ]
    )
    return workflow
