"""PET in a standard space other than that of the packaged template."""

from collections.abc import Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from rela_bids.head_templates import HeadTemplate
from rela_bids.interfaces.anatomical import BrainToTemplate, Composites, StripTemplate
from rela_bids.interfaces.synthesis import ToTemplate


def space_name(space: str) -> str:
    """An output space as part of a node's name."""
    return "".join(c if c.isalnum() else "_" for c in space)


def init_standard_space_wf(
    *, template: HeadTemplate, kinds: Sequence[str], name: str = "standard_space_wf"
) -> pe.Workflow:
    """Affine and SyN of the brain to a template, and PET through them.

    Parameters
    ----------
    kinds : of ``"mean"`` and ``"std"``, those there are.

    Inputs
    ------
    t1w_preproc, brain_mask
        on the T1w grid
    mean, std
        lists of files on the T1w grid

    Outputs
    -------
    to_space_xfm, from_space_xfm
        ITK composites, ``.h5``
    mean, std
        on the template's grid
    """
    inputnode = pe.Node(
        niu.IdentityInterface(["t1w_preproc", "brain_mask", *kinds]), name="inputnode"
    )
    outputnode = pe.Node(
        niu.IdentityInterface(["to_space_xfm", "from_space_xfm", *kinds]), name="outputnode"
    )
    template_brain = pe.Node(
        StripTemplate(t1w=str(template.t1w), mask=str(template.mask)), name="template_brain"
    )
    space_affine = pe.Node(BrainToTemplate(), name="space_affine", mem_gb=2)
    space_xfm = pe.Node(Composites(bend=True), name="space_xfm", mem_gb=2)
    brain = [("t1w_preproc", "t1w"), ("brain_mask", "mask")]
    workflow = pe.Workflow(name=name)
    workflow.connect(
        [
            (inputnode, space_affine, brain),
            (inputnode, space_xfm, brain),
            (template_brain, space_affine, [("brain", "template")]),
            (template_brain, space_xfm, [("brain", "template")]),
            (space_affine, space_xfm, [("affine", "affine")]),
            (
                space_xfm,
                outputnode,
                [("to_template", "to_space_xfm"), ("from_template", "from_space_xfm")],
            ),
        ]
    )
    for kind in kinds:
        to_space = pe.Node(ToTemplate(), name=f"{kind}_to_space", mem_gb=1)
        workflow.connect(
            [
                (inputnode, to_space, [(kind, "volumes")]),
                (template_brain, to_space, [("brain", "template")]),
                (space_xfm, to_space, [("to_template", "transform")]),
                (to_space, outputnode, [("volumes", kind)]),
            ]
        )
    return workflow
