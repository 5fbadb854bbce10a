"""From a session's T1w and FLAIR to a brain, aligned with the template."""

from nipype import Workflow
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node

from rela_bids import templates
from rela_bids.head_templates import HeadTemplate
from rela_bids.interfaces.anatomical import (
    AdoptMask,
    BrainToTemplate,
    Composites,
    CorrectBias,
    ExtractBrain,
    FlairToT1w,
    JudgeMask,
    LoadVolume,
)


def init_anatomical_wf(
    *,
    skull_strip: str,
    has_flair: bool,
    bend: bool,
    head_template: HeadTemplate | None = None,
    given_mask: bool = False,
    name: str = "anatomical_wf",
) -> Workflow:
    """N4, brain mask, FLAIR to T1w (rigid), T1w to template (affine; SyN where it is needed).

    Parameters
    ----------
    skull_strip : ``"ants"``, ``"deepbet"`` or ``"skip"``.
    has_flair : whether the session has a FLAIR; without one its outputs stay undefined.
    bend : whether SyN is taken after the affine.
    head_template : helps ``"ants"`` if it shows a whole head; None for the packaged brain alone.
    given_mask : whether the brain mask comes from elsewhere; `skull_strip` is then not looked at.

    Inputs
    ------
    t1w, flair : files as they are in the dataset.
    given_mask : of the brain, in the space of the T1w, any grid.

    Outputs
    -------
    t1w_preproc : float32, bias-corrected, whole head, on the T1w's own grid.
    brain_mask : uint8, on the T1w grid; it only gets here if it passed the quality check.
    flair_preproc : float32, bias-corrected, whole head, on the T1w grid.
    t1w_to_template_affine, flair_to_t1w : ITK ``.mat``, each the one that resamples the first onto
        the second's grid, so that it maps points of the second to the first.
    t1w_to_template_xfm, template_to_t1w_xfm : ITK composites, ``.h5``, same convention.
    mask_qc : JSON of `rela_bids.brain_mask.MaskQuality`.
    """
    template = str(templates.brain_t1w())
    inputnode = Node(IdentityInterface(["t1w", "flair", "given_mask"]), "inputnode")
    outputnode = Node(
        IdentityInterface(
            [
                "t1w_preproc",
                "brain_mask",
                "flair_preproc",
                "t1w_to_template_affine",
                "flair_to_t1w",
                "t1w_to_template_xfm",
                "template_to_t1w_xfm",
                "mask_qc",
            ]
        ),
        "outputnode",
    )
    load_t1w = Node(LoadVolume(), "load_t1w", mem_gb=1)
    n4_t1w = Node(CorrectBias(out_name="t1w_preproc.nii.gz"), "n4_t1w", mem_gb=2)
    brain_mask = _brain_mask_node(skull_strip, head_template, given_mask)
    template_affine = Node(BrainToTemplate(template=template), "template_affine", mem_gb=2)
    judge_mask = Node(JudgeMask(template=template), "judge_mask", mem_gb=1)
    template_xfm = Node(Composites(template=template, bend=bend), "template_xfm", mem_gb=2)

    workflow = Workflow(name)
    workflow.connect(
        [
            (inputnode, load_t1w, [("t1w", "in_file")]),
            (load_t1w, n4_t1w, [("out_file", "in_file")]),
            (n4_t1w, brain_mask, [("out_file", "t1w")]),
            (n4_t1w, template_affine, [("out_file", "t1w")]),
            (brain_mask, template_affine, [("mask", "mask")]),
            (inputnode, judge_mask, [("t1w", "source")]),
            (n4_t1w, judge_mask, [("out_file", "t1w")]),
            (brain_mask, judge_mask, [("mask", "mask")]),
            (template_affine, judge_mask, [("affine", "affine")]),
            (n4_t1w, template_xfm, [("out_file", "t1w")]),
            (judge_mask, template_xfm, [("mask", "mask")]),
            (template_affine, template_xfm, [("affine", "affine")]),
            (n4_t1w, outputnode, [("out_file", "t1w_preproc")]),
            (judge_mask, outputnode, [("mask", "brain_mask"), ("quality", "mask_qc")]),
            (template_affine, outputnode, [("affine", "t1w_to_template_affine")]),
            (
                template_xfm,
                outputnode,
                [
                    ("to_template", "t1w_to_template_xfm"),
                    ("from_template", "template_to_t1w_xfm"),
                ],
            ),
        ]
    )
    if given_mask:
        workflow.connect(inputnode, "given_mask", brain_mask, "given_mask")
    if has_flair:
        _connect_flair(workflow, inputnode, n4_t1w, judge_mask, outputnode)
    return workflow


def _brain_mask_node(
    skull_strip: str, head_template: HeadTemplate | None, given_mask: bool
) -> Node:
    if given_mask:
        return Node(AdoptMask(), "brain_mask", mem_gb=1)
    extract = ExtractBrain(template=str(templates.brain_t1w()), method=skull_strip)
    if head_template is not None and head_template.whole_head:
        extract.inputs.head_t1w = str(head_template.t1w)
        extract.inputs.head_mask = str(head_template.mask)
    return Node(extract, "brain_mask", mem_gb=2)


def _connect_flair(
    workflow: Workflow, inputnode: Node, n4_t1w: Node, judge_mask: Node, outputnode: Node
) -> None:
    load_flair = Node(LoadVolume(), "load_flair", mem_gb=1)
    n4_flair = Node(CorrectBias(), "n4_flair", mem_gb=2)
    flair_to_t1w = Node(FlairToT1w(), "flair_to_t1w", mem_gb=2)
    workflow.connect(
        [
            (inputnode, load_flair, [("flair", "in_file")]),
            (load_flair, n4_flair, [("out_file", "in_file")]),
            (n4_flair, flair_to_t1w, [("out_file", "flair")]),
            (n4_t1w, flair_to_t1w, [("out_file", "t1w")]),
            (judge_mask, flair_to_t1w, [("mask", "mask")]),
            (
                flair_to_t1w,
                outputnode,
                [("flair", "flair_preproc"), ("affine", "flair_to_t1w")],
            ),
        ]
    )
