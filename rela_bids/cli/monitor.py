"""``--resource-monitor``: time and peak memory of every step, and bytes of intermediate files."""

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from nipype.pipeline.engine import Node
from rich.table import Table

from rela_bids.atomic import write_text
from rela_bids.cli.execution import session_of

GB_PER_GIB = 1024**3 / 1e9


@dataclass(frozen=True)
class StepUse:
    """What one step of a session took.

    Attributes
    ----------
    seconds : of computing, without waiting.
    peak_memory_gb : the largest resident memory of its process, sampled once a second; what earlier
        steps left in that process is counted too.
    estimated_gb : what the step is planned with under ``--mem``.
    """

    session: str
    step: str
    seconds: float
    peak_memory_gb: float
    cpu_percent: float
    estimated_gb: float


class ResourceMonitor:
    """Keeps what Nipype measures of each node.

    `labels` are those of sessions, by their workflows' names.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._began = datetime.now(UTC)
        self.steps: list[StepUse] = []
        self.intermediate_bytes: dict[str, int] = {}

    def finished(self, node: Node) -> None:
        """Keep what the node took, unless an earlier run had done it."""
        runtime = node.result.runtime
        if runtime is None or datetime.fromisoformat(runtime.startTime) < self._began:
            return
        self.steps.append(
            StepUse(
                session=self._labels[session_of(node)],
                step=node.name,
                seconds=round(runtime.duration, 2),
                peak_memory_gb=round((runtime.get("mem_peak_gb") or 0.0) * GB_PER_GIB, 3),
                cpu_percent=round(runtime.get("cpu_percent") or 0.0, 1),
                estimated_gb=node.mem_gb,
            )
        )

    def weigh(self, name: str, folder: Path) -> None:
        """Note the size of a session's intermediate files; `name` is its workflow's."""
        files = (path.stat() for path in folder.rglob("*") if path.is_file())
        self.intermediate_bytes[self._labels[name]] = sum(file.st_size for file in files)

    def write(self, path: Path) -> Path:
        """Write a row for each step and session, tab-separated."""
        text = io.StringIO()
        table = csv.writer(text, delimiter="\t", lineterminator="\n")
        table.writerow(field.name for field in fields(StepUse))
        table.writerows(astuple(step) for step in self.steps)
        return write_text(path, text.getvalue())

    def table(self) -> Table:
        """The same for people: a row for each step, over all sessions, the longest first."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("step")
        for name in ("sessions", "median s", "most s", "peak GB", "planned GB"):
            table.add_column(name, justify="right")
        by_step: dict[str, list[StepUse]] = {}
        for step in self.steps:
            by_step.setdefault(step.step, []).append(step)
        for name, uses in sorted(by_step.items(), key=lambda item: -_median_seconds(item[1])):
            table.add_row(
                name.replace("_", " "),
                str(len(uses)),
                f"{_median_seconds(uses):.1f}",
                f"{max(use.seconds for use in uses):.1f}",
                f"{max(use.peak_memory_gb for use in uses):.2f}",
                f"{max(use.estimated_gb for use in uses):.2f}",
            )
        return table

    def disk_line(self) -> str:
        """What intermediate files take, for people."""
        sizes = [size / 1e6 for size in self.intermediate_bytes.values()]
        if not sizes:
            return "no session was finished, so the size of intermediate files is not known"
        return f"intermediate files: {median(sizes):.0f} MB a session, at most {max(sizes):.0f} MB"


def _median_seconds(uses: Iterable[StepUse]) -> float:
    return median(use.seconds for use in uses)
