"""The graph of a whole run: one workflow for each session, independent of each other."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype import config, logging
from nipype.pipeline import engine as pe

from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.query import Session
from rela_bids.settings import Settings

NAME = "rela_bids_wf"

# What names of workflows begin with whose failure is no failure of their session.
OPTIONAL = "measured_"


def init_base_wf(
    *,
    sessions: Sequence[Session],
    settings: Settings,
    run: str,
    init_wf: Callable[..., pe.Workflow],
) -> pe.Workflow:
    """One graph for each session.

    Parameters
    ----------
    sessions : those to process, each with a T1w.
    run : name of this run; crash reports go to ``OUT/sub-X/log/<run>``.
    init_wf : makes the graph of one session; takes ``session`` and ``name``.
    """
    workflow = pe.Workflow(name=NAME, base_dir=str(settings.work_dir))
    derivatives = Derivatives(settings.output_dir)
    for session in sessions:
        session_wf = init_wf(session=session, name=workflow_name(session))
        crash_folder = derivatives.crash_folder(session.subject, run)
        _configure(session_wf, {"crashdump_dir": str(crash_folder)})
        workflow.add_nodes([session_wf])
    return workflow


def workflow_name(session: Session) -> str:
    """Name of a session's workflow: ``sub_01_ses_1_wf``."""
    return "".join(c if c.isalnum() else "_" for c in session.prefix) + "_wf"


def session_folder(settings: Settings, name: str) -> Path:
    """Where a session's intermediate files are; `name` is its workflow's."""
    return settings.work_dir / NAME / name


def write_graph(workflow: pe.Workflow, folder: Path) -> Path:
    """Draw a graph in `folder`; as SVG, or, where Graphviz is missing, in its language."""
    drawing = folder / "graph.dot"
    try:
        workflow.write_graph(str(drawing), graph2use="colored", format="svg")
    except OSError:
        return drawing
    return drawing.with_suffix(".svg")


def configure_nipype(settings: Settings) -> None:
    """What Nipype keeps in a module of its own, for this process."""
    config.update_config(
        {
            "execution": {
                "crashfile_format": "txt",
                # A page and a graph over all sessions, which jobs that share a folder would
                # overwrite for each other.
                "create_report": "false",
                "stop_on_first_crash": str(settings.stop_on_first_crash).lower(),
                "poll_sleep_duration": "0.25",
                "remove_unnecessary_outputs": "false",
                "crashdump_dir": str(settings.work_dir),
            }
        }
    )
    # The file of settings is read once, by the first import, which may have come before it was
    # written.
    for name in ("workflow", "utils", "interface"):
        logging.getLogger(f"nipype.{name}").setLevel(settings.log_level)


def _configure(workflow: pe.Workflow, execution: Mapping[str, Any]) -> None:
    """Execution settings of every node of a workflow; Nipype passes them on in no other way."""
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        node.config = {"execution": dict(execution)}
