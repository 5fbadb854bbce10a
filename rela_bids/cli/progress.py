"""What the terminal shows while a run goes on, and the table at its end."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from nipype.pipeline.engine import Node
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from rela_bids.cli.execution import optional_part, session_of
from rela_bids.interfaces.synthesis import PROGRESS_FILE


@dataclass
class SessionState:
    """One session during a run; times in seconds.

    Attributes
    ----------
    nodes : how many it has.
    pending : the full names of those that have not ended, and still can.
    warnings : errors of parts that it is done without.
    crash : the report on its error.
    """

    label: str
    nodes: int = 0
    pending: set[str] = field(default_factory=set)
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    crash: Path | None = None
    timings: dict[str, float] = field(default_factory=dict)
    began: float = 0.0

    @property
    def done(self) -> int:
        """How many of its nodes have ended."""
        return self.nodes - len(self.pending)

    @property
    def finished(self) -> bool:
        """All of its nodes have ended well, but for optional ones."""
        return not self.pending and self.nodes > 0 and self.error is None


class Progressing:
    """Follows the nodes of all sessions; an `execution.Observer`.

    On a terminal, each session that is being worked on has a line with its step and a bar, and
    loses it when it is done. Elsewhere (a log file) only the end of each session is written.

    Parameters
    ----------
    labels : of each session, by its workflow's name.
    on_end : called with a session's workflow name and state when it is done or has failed.
    on_crash : called with a node that failed, its error and its traceback; returns the file in
        which they are kept.
    on_node : called with each node that has ended well, before `on_end`.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        on_end: "OnEnd",
        stream: TextIO | None = None,
        on_crash: Callable[[Node, str, str], Path | None] = lambda node, error, traceback: None,
        on_node: Callable[[Node], None] = lambda node: None,
    ) -> None:
        self.states = {name: SessionState(label) for name, label in labels.items()}
        self.console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._on_end, self._on_crash, self._on_node = on_end, on_crash, on_node
        self._began: dict[str, float] = {}
        self._sampling: dict[str, Path] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.fields[label]}"),
            TextColumn("{task.description}", style="dim"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> "Progressing":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def planned(self, nodes: Iterable[Node]) -> None:
        """Take in how much there is to do."""
        for node in nodes:
            state = self.states[session_of(node)]
            state.nodes += 1
            state.pending.add(node.fullname)

    def started(self, node: Node) -> None:
        """Show the node as its session's step."""
        name, state = session_of(node), self.states[session_of(node)]
        self._began[node.fullname] = time.monotonic()
        state.began = state.began or time.monotonic()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task("", label=state.label, total=state.nodes)
        self._bars.update(self._tasks[name], description=node.name.replace("_", " "))
        if node.name == "sample_pet":
            self._sampling[name] = Path(node.output_dir()) / PROGRESS_FILE

    def finished(self, node: Node) -> None:
        """Count the node, and end its session with the last one."""
        name, state = session_of(node), self.states[session_of(node)]
        if node.fullname not in state.pending:
            return  # one that ran on after its optional part had failed
        state.pending.remove(node.fullname)
        self._on_node(node)
        if node.fullname in self._began:
            state.timings[node.name] = time.monotonic() - self._began.pop(node.fullname)
        if node.name == "sample_pet":
            self._sampling.pop(name, None)
        if name in self._tasks:
            self._bars.update(self._tasks[name], total=state.nodes, completed=state.done)
        self._end_if_finished(name, state)

    def _end_if_finished(self, name: str, state: SessionState) -> None:
        if state.finished:
            self._end(name, f"done in {_duration(time.monotonic() - state.began)}", "green")

    def failed(self, node: Node, error: str, traceback: str) -> None:
        """Keep the first error of a session: what follows follows from it.

        That of an optional part is a warning, and what else belongs to the part is not waited for.
        """
        name, state = session_of(node), self.states[session_of(node)]
        crash = self._on_crash(node, error, traceback)
        if part := optional_part(node):
            self._do_without(name, state, part, f"{node.name.replace('_', ' ')}: {error}")
        elif state.error is None:
            state.crash = crash
            state.error = f"{node.name.replace('_', ' ')}: {error}"
            self._end(name, f"failed at {state.error}", "red")

    def _do_without(self, name: str, state: SessionState, part: str, error: str) -> None:
        lost = {node for node in state.pending if part in node.split(".")}
        if lost:
            state.pending -= lost
            line = f"{part.removesuffix('_wf').replace('_', ' PET of ')} left out, {error}"
            state.warnings.append(line[0].upper() + line[1:])
            self.console.print(Text.assemble(f"{state.label}  ", (state.warnings[-1], "yellow")))
            self._end_if_finished(name, state)

    def tick(self) -> None:
        """Show how far sampling is, which one node does for long."""
        for name, path in self._sampling.items():
            try:
                done, total = map(int, path.read_text().split())
            except (OSError, ValueError):
                continue
            self._bars.update(
                self._tasks[name], description="sampling PET", completed=done, total=total
            )

    def _end(self, name: str, outcome: str, style: str) -> None:
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        self._sampling.pop(name, None)
        state = self.states[name]
        self.console.print(Text.assemble(f"{state.label}  ", (outcome, style)))
        self._on_end(name, state)


class OnEnd:
    """Type of what is told of a session's end."""

    def __call__(self, name: str, state: SessionState) -> None:
        """Called once per session."""


def summary_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """The table at the end of a run: session, outcome, and the reason or the report."""
    styles = {"done": "green", "done before": "green", "left out": "yellow", "failed": "red"}
    table = Table("session", "outcome", box=None, pad_edge=False, header_style="bold")
    # Folded and not cut off, since the name of a file comes last.
    table.add_column("", overflow="fold")
    for label, outcome, detail in rows:
        table.add_row(Text(label), Text(outcome, styles.get(outcome, "")), Text(detail))
    return table


def _duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> _duration(9.4), _duration(125)
    ('9 s', '2 min 05 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
