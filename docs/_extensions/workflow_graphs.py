"""The directive ``workflow-graph``: a graph of `workflows`, drawn by Nipype as docs are built.

The graphs are those of a session with T1w, FLAIR and one florbetapir PET.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from nipype import Workflow, logging
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from rela_bids import templates
from rela_bids.atlases import packaged_atlas
from rela_bids.bids.query import Session
from rela_bids.frames import PetPlan
from rela_bids.settings import Settings
from rela_bids.synthesis import plan_synthesis
from rela_bids.tracers import TRACERS
from rela_bids.volumes import Grid
from workflows.anatomical import init_anatomical_wf
from workflows.model_inputs import init_model_inputs_wf
from workflows.pet_target import init_pet_target_wf
from workflows.quantification import init_regions_wf
from workflows.subject import init_session_wf
from workflows.synthesis import init_synthesis_wf
from workflows.training import init_training_session_wf

TRACER = TRACERS["18FAV45"]
SESSION = Session("01", "1", t1w=Path("/bids/T1w.nii.gz"), flair=Path("/bids/FLAIR.nii.gz"))
SETTINGS = Settings(Path("/bids"), Path("/out"), Path("/work"))
GRID = Grid.about((0.0, -18.0, 5.0), (80, 96, 80), 2.0)


def _plan() -> Any:
    return plan_synthesis(SETTINGS.synthesis, [TRACER.label])


def _pet() -> PetPlan:
    # Nodes want a file that is there; this one is not looked into.
    return PetPlan(templates.brain_t1w(), (0,), (20.0,), (50.0, 70.0))


GRAPHS: dict[str, Callable[[], Workflow]] = {
    "session": lambda: init_session_wf(
        session=SESSION, settings=SETTINGS, plan=_plan(), atlas=packaged_atlas()
    ),
    "anatomical": lambda: init_anatomical_wf(skull_strip="ants", has_flair=True, bend=False),
    "model_inputs": lambda: init_model_inputs_wf(grid=GRID, has_flair=True),
    "synthesis": lambda: init_synthesis_wf(
        plan=_plan(),
        names=["01", "1"],
        has_flair=True,
        output_spaces=("T1w",),
        resources=SETTINGS.resources,
    ),
    "regions": lambda: init_regions_wf(
        session=SESSION, settings=SETTINGS, plan=_plan(), atlas=packaged_atlas()
    ),
    "pet_target": lambda: init_pet_target_wf(plan=_pet(), tracer=TRACER, grid=GRID),
    "training_session": lambda: init_training_session_wf(
        session=SESSION,
        settings=SETTINGS,
        targets={SESSION.label: {TRACER.label: _pet()}},
        tracers={TRACER.label: TRACER},
        grid=GRID,
        folder=Path("/work/examples"),
    ),
}


class WorkflowGraph(SphinxDirective):
    """A picture of the graph that `GRAPHS` names; a list of its links where Graphviz is missing."""

    required_arguments = 1
    option_spec = {"style": str}  # noqa: RUF012  docutils reads it from the class

    def run(self) -> list[nodes.Node]:
        """Draw it into the folder of images of the built pages."""
        name, style = self.arguments[0], self.options.get("style", "orig")
        workflow = GRAPHS[name]()
        if shutil.which("dot") is None:
            return [_links(workflow)]
        folder = Path(self.env.app.doctreedir, "graphs")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.svg"
        workflow.write_graph(str(path.with_suffix(".dot")), graph2use=style, format="svg")
        relative = os.path.relpath(path, self.env.srcdir)
        picture = nodes.image(uri=relative, alt=f"graph of the workflow {name}")
        # A click opens it in full size, where Sphinx puts it.
        return [nodes.reference("", "", picture, refuri=f"_images/{path.name}")]


def _links(workflow: Workflow) -> nodes.Node:
    text = "\n".join(f"{a.name} -> {b.name}" for a, b in workflow._graph.edges())
    note = nodes.paragraph(text="Graphviz was not there when this page was built. The links:")
    return nodes.container("", note, nodes.literal_block(text, text))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("workflow-graph", WorkflowGraph)
    logging.getLogger("nipype.workflow").setLevel("WARNING")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
