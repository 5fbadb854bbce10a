"""Figures of a session and the record from which a person's report is put together."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe


def init_session_report_wf(*, session, settings, plan, name="report_wf"):
    workflow = pe.Workflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                "t1w_preproc",
                "brain_mask",
                "flair_preproc",
                "t1w_to_template_affine",
                "mask_qc",
                "mean",
                "std",
            ]
        ),
        name="inputnode",
    )
    workflow.add_nodes([inputnode])
    return workflow
