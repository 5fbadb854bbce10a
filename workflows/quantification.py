"""What is measured in a session: SUVR by region, and how near the measured PET is."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from rela_bids.atlases import Atlas
from rela_bids.bids.query import Session
from rela_bids.frames import PetPlan
from rela_bids.interfaces.quantification import Compare, FindRegions, MeasurePet, MeasureSynthetic
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan
from workflows.base import OPTIONAL
from workflows.outputs import init_measured_outputs_wf, init_region_outputs_wf
from workflows.pet_target import init_pet_target_wf
from workflows.preparation import same
from workflows.reporting import init_measured_report_wf


def init_regions_wf(
    *,
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    atlas: Atlas,
    name: str = "regions_wf",
) -> pe.Workflow:
    """The atlas on the T1w, and the table of each synthetic PET, saved in OUT.

    Inputs
    ------
    t1w_preproc, brain_mask : on the T1w grid.
    template_to_t1w_xfm : ITK composite with SyN.
    t1w_to_template_affine : ITK ``.mat``.
    mask : of the brain, on the model grid.
    mean : per tracer, SUVR, on the T1w grid.
    samples : per tracer, see `workflows.synthesis.init_synthesis_wf`.

    Outputs
    -------
    regions : labels on the T1w grid.
    tables : TSV per tracer.
    """
    fields = ["t1w_preproc", "brain_mask", "template_to_t1w_xfm", "t1w_to_template_affine"]
    inputnode = pe.Node(
        niu.IdentityInterface(fields=[*fields, "mask", "mean", "samples"]), name="inputnode"
    )
    outputnode = pe.Node(niu.IdentityInterface(fields=["regions", "tables"]), name="outputnode")
    find_regions = pe.Node(FindRegions(atlas=atlas), name="find_regions", mem_gb=2.0)
    measure_synthetic = pe.Node(
        MeasureSynthetic(tracers=list(plan.tracers.values()), atlas=atlas, grid=plan.config.grid),
        name="measure_synthetic",
        mem_gb=1.5,
    )
    outputs_wf = init_region_outputs_wf(session=session, settings=settings, plan=plan, atlas=atlas)
    workflow = pe.Workflow(name=name)
    workflow.connect(
        [
            (
                inputnode,
                find_regions,
                [
                    ("t1w_preproc", "t1w"),
                    ("brain_mask", "brain_mask"),
                    ("template_to_t1w_xfm", "template_to_t1w"),
                ],
            ),
            (
                inputnode,
                measure_synthetic,
                [(field, field) for field in ("mean", "samples", "mask", "t1w_to_template_affine")],
            ),
            (find_regions, measure_synthetic, [("regions", "regions")]),
            (find_regions, outputnode, [("regions", "regions")]),
            (measure_synthetic, outputnode, [("tables", "tables")]),
            (
                find_regions,
                outputs_wf,
                [("regions", "inputnode.regions"), ("labels", "inputnode.labels")],
            ),
            (measure_synthetic, outputs_wf, [("tables", "inputnode.tables")]),
        ]
    )
    return workflow


def init_measured_wf(
    *,
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    label: str,
    pet: PetPlan,
    atlas: Atlas | None,
) -> pe.Workflow:
    """One measured PET in SUVR, its table, and its agreement with the synthetic one, saved in OUT.

    Nothing else may depend on it: a session whose measured PET is broken is done without it, see
    `workflows.base.OPTIONAL`.

    Parameters
    ----------
    label : of the tracer, one of the plan's.
    pet : which frames of which file.
    atlas : None where no regions are wanted.

    Inputs
    ------
    t1w_preproc, brain_mask : on the T1w grid.
    t1w_to_template_affine : ITK ``.mat``.
    mean : synthetic PET per tracer of the plan, SUVR, on the T1w grid.
    regions, tables : labels on the T1w grid, and TSV per tracer of the plan, where an atlas is
        given.
    """
    tracer, fields = plan.tracers[label], ["t1w_preproc", "brain_mask", "t1w_to_template_affine"]
    inputnode = pe.Node(
        niu.IdentityInterface(fields=[*fields, "mean", "regions", "tables"]), name="inputnode"
    )
    pet_target_wf = init_pet_target_wf(plan=pet, tracer=tracer, grid=plan.config.grid)
    synthetic = pe.Node(niu.Select(index=[list(plan.tracers).index(label)]), name="synthetic")
    compare = pe.Node(Compare(data_range=tracer.suvr_scale), name="compare", mem_gb=2.0)
    outputs_wf = init_measured_outputs_wf(
        session=session, settings=settings, plan=plan, label=label, pet=pet, atlas=atlas
    )
    report_wf = init_measured_report_wf(
        session=session,
        settings=settings,
        plan=plan,
        label=label,
        with_regions=atlas is not None,
    )
    workflow = pe.Workflow(name=f"{OPTIONAL}{label}_wf")
    workflow.connect(
        [
            (inputnode, pet_target_wf, [(field, f"inputnode.{field}") for field in fields]),
            (inputnode, synthetic, [("mean", "inlist")]),
            (inputnode, compare, [("brain_mask", "brain_mask")]),
            (synthetic, compare, [("out", "synthetic")]),
            (pet_target_wf, compare, [("outputnode.pet_t1w", "measured")]),
            (pet_target_wf, outputs_wf, same("pet_t1w")),
            (compare, outputs_wf, [("table", "inputnode.agreement")]),
            (inputnode, report_wf, [(f, f"inputnode.{f}") for f in ("t1w_preproc", "brain_mask")]),
            (
                pet_target_wf,
                report_wf,
                [
                    ("outputnode.pet_t1w", "inputnode.measured"),
                    ("outputnode.pet_report", "inputnode.pet_report"),
                ],
            ),
            (synthetic, report_wf, [("out", "inputnode.synthetic")]),
            (compare, report_wf, [("table", "inputnode.agreement")]),
        ]
    )
    if atlas is not None:
        measure_pet = pe.Node(
            MeasurePet(tracer=tracer, atlas=atlas), name="measure_pet", mem_gb=1.0
        )
        workflow.connect(
            [
                (inputnode, measure_pet, [("regions", "regions")]),
                (pet_target_wf, measure_pet, [("outputnode.pet_t1w", "pet")]),
                (measure_pet, outputs_wf, [("table", "inputnode.table")]),
                (measure_pet, report_wf, [("table", "inputnode.measured_table")]),
                (inputnode, report_wf, [("tables", "inputnode.tables")]),
            ]
        )
    return workflow
