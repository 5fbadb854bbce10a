"""From MRI on the model grid to PET on the person's T1w, and in template space if asked for."""

from collections.abc import Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from rela_bids.interfaces.synthesis import SamplePET, ToT1w, ToTemplate
from rela_bids.settings import Resources
from rela_bids.synthesis import SynthesisPlan
from rela_bids.templates import TEMPLATE_SPACE, brain_t1w

# Peak of one process: torch, the network and a 2 mm volume. See benchmarks/.
SAMPLING_MEM_GB = 2.0


def init_synthesis_wf(
    *,
    plan: SynthesisPlan,
    names: Sequence[str],
    has_flair: bool,
    output_spaces: Sequence[str],
    resources: Resources,
    name: str = "synthesis_wf",
) -> pe.Workflow:
    """Sample PET of each tracer and resample mean and standard deviation.

    Inputs
    ------
    t1w, flair, mask
        on the model grid
    t1w_preproc, brain_mask
        on the T1w grid
    t1w_to_template_affine
        ITK ``.mat``
    t1w_to_template_xfm
        ITK composite ``.h5``, used where an output space is the template's

    Outputs
    -------
    mean, std
        per tracer, SUVR, on the T1w grid, 0 outside the brain mask
    mean_in_template, std_in_template
        the same in template space
    samples
        per tracer, ``.npy``, SUVR, (samples, voxels of the mask on the model grid)
    """
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                "t1w",
                "flair",
                "mask",
                "t1w_preproc",
                "brain_mask",
                "t1w_to_template_affine",
                "t1w_to_template_xfm",
            ]
        ),
        name="inputnode",
    )
    outputnode = pe.Node(
        niu.IdentityInterface(
            fields=["mean", "std", "mean_in_template", "std_in_template", "samples"]
        ),
        name="outputnode",
    )
    threads = resources.omp_nthreads
    sample_pet = pe.Node(
        SamplePET(
            model=str(plan.path),
            tracers=list(plan.tracers),
            n_samples=plan.n_samples,
            sampling_steps=plan.sampling_steps,
            random_seed=plan.random_seed,
            names=list(names),
            device=plan.device,
            threads=threads,
        ),
        name="sample_pet",
        mem_gb=SAMPLING_MEM_GB,
        n_procs=threads,
    )
    workflow.connect(
        [
            (inputnode, sample_pet, [("t1w", "t1w"), ("mask", "brain_mask")]),
            (sample_pet, outputnode, [("samples", "samples")]),
        ]
        + ([(inputnode, sample_pet, [("flair", "flair")])] if has_flair else [])
    )
    for kind in ("mean", "std"):
        to_t1w = pe.Node(ToT1w(grid=plan.config.grid), name=f"{kind}_to_t1w", mem_gb=1.0)
        workflow.connect(
            [
                (sample_pet, to_t1w, [(kind, "volumes")]),
                (
                    inputnode,
                    to_t1w,
                    [
                        ("t1w_preproc", "reference"),
                        ("brain_mask", "brain_mask"),
                        ("t1w_to_template_affine", "t1w_to_template"),
                    ],
                ),
                (to_t1w, outputnode, [("volumes", kind)]),
            ]
        )
        if TEMPLATE_SPACE in output_spaces:
            _add_template_space(workflow, kind, inputnode, to_t1w, outputnode)
    return workflow


def _add_template_space(
    workflow: pe.Workflow, kind: str, inputnode: pe.Node, to_t1w: pe.Node, outputnode: pe.Node
) -> None:
    to_template = pe.Node(
        ToTemplate(template=str(brain_t1w())), name=f"{kind}_to_template", mem_gb=1.0
    )
    workflow.connect(
        [
            (to_t1w, to_template, [("volumes", "volumes")]),
            (inputnode, to_template, [("t1w_to_template_xfm", "transform")]),
            (to_template, outputnode, [("volumes", f"{kind}_in_template")]),
        ]
    )
