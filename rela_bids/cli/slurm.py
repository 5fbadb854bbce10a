"""Nipype's plugins for batch queues, made to wait for their jobs and to say what becomes of them.

Nipype's own SLURMGraph submits the graph and returns: nobody learns whether it was finished.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype.pipeline import plugins
from nipype.pipeline.engine import Node
from nipype.pipeline.plugins.slurmgraph import SLURMGraphPlugin

from rela_bids.cli.execution import Observed, Observer, Runner, last_line, optional_part
from rela_bids.exceptions import UsageError

POLL_SECONDS = 2.0

# A file that a job has written may be seen here some seconds after the queue has dropped the job.
GRACE_SECONDS = 10.0


@dataclass
class _Job:
    """One node in the queue; `done` is a file that its script leaves when it ends well."""

    node: Node
    done: Path
    log: Path
    after: list["_Job"]
    started: bool = False
    gone_since: float | None = None
    failed: bool = False


class SlurmGraph(SLURMGraphPlugin):
    """Submits every node as a SLURM job that waits for those it depends on, and sees them end.

    Parameters
    ----------
    arguments : Nipype's ``plugin_args``; ``template`` and ``sbatch_args`` are used.
    """

    def __init__(self, arguments: Mapping[str, Any], observer: Observer) -> None:
        super().__init__(plugin_args=dict(arguments))
        self.failures = 0
        self._observer = observer
        self._jobs: dict[str, _Job] = {}
        self._stop_early = False
        self._session_failed = False

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Submit the graph and wait until no job of it is left."""
        self._observer.planned(graph.nodes())
        self._stop_early = config["execution"]["stop_on_first_crash"] == "true"
        super().run(graph, config, updatehash)

    def close(self) -> None:
        """Cancel what is still in the queue."""
        if self._jobs:
            _ask("scancel", *self._jobs)

    def _submit_graph(
        self, pyfiles: list[str], dependencies: dict[int, list[int]], nodes: list[Node]
    ) -> None:
        submitted: list[tuple[str, _Job]] = []
        for index, (node, pyfile) in enumerate(zip(nodes, pyfiles, strict=True)):
            earlier = [submitted[before] for before in dependencies[index]]
            script = self._write_script(node, Path(pyfile))
            number = self._submit(node, script, [other for other, _ in earlier])
            job = _Job(node, script.with_suffix(".done"), _log(script), [job for _, job in earlier])
            submitted.append((number, job))
            self._jobs[number] = job
        self._wait()

    def _write_script(self, node: Node, pyfile: Path) -> Path:
        (template,) = self._get_args(node, ["template"])
        script = pyfile.with_suffix(".sh")
        done = shlex.quote(str(script.with_suffix(".done")))
        here, command = shlex.quote(str(script.parent)), shlex.join([sys.executable, str(pyfile)])
        lines = f"{template}\ncd {here} && {command} && touch {done}\n"
        script.write_text(lines, encoding="utf-8")
        return script

    def _submit(self, node: Node, script: Path, after: Collection[str]) -> str:
        (sbatch_args,) = self._get_args(node, ["sbatch_args"])
        sent = _ask(
            "sbatch",
            "--parsable",
            "--kill-on-invalid-dep=yes",
            f"--job-name={node.name}",
            f"--output={_log(script)}",
            *([f"--dependency=afterok:{':'.join(after)}"] if after else []),
            *shlex.split(sbatch_args),
            str(script),
        )
        if sent.returncode:
            raise UsageError(
                f"SLURM does not take the job ({sent.stderr.strip()}): mend sbatch_args in the "
                "file of --nipype-plugin-file"
            )
        return sent.stdout.strip().split(";")[0]

    def _wait(self) -> None:
        while self._jobs:
            time.sleep(POLL_SECONDS)
            states = _queue()
            for number, job in list(self._jobs.items()):
                if self._has_ended(job, None if states is None else states.get(number, "")):
                    del self._jobs[number]
            self._observer.tick()
            if self._stop_early and self._session_failed:
                return

    def _has_ended(self, job: _Job, state: str | None) -> bool:
        """Look at one job; `state` is SLURM's, empty if it has none, None if it did not answer."""
        if not job.started and (state == "RUNNING" or job.done.exists()):
            job.started = True
            self._observer.started(job.node)
        if job.done.exists():
            self._observer.finished(job.node)
            return True
        if state != "":
            job.gone_since = None
            return False
        job.gone_since = job.gone_since or time.monotonic()
        if time.monotonic() - job.gone_since < GRACE_SECONDS:
            return False
        self._fail(job)
        return True

    def _fail(self, job: _Job) -> None:
        job.failed = True
        if any(other.failed for other in job.after):
            return  # What it waits for has been told of.
        self.failures += 1
        self._session_failed |= optional_part(job.node) is None
        traceback = _traceback(job)
        self._observer.failed(job.node, last_line(traceback), traceback)


def queue_plugin(name: str, arguments: Mapping[str, Any], observer: Observer) -> Runner:
    """Nipype's plugin of that name, which submits a job for each node when it can run."""
    # Nipype's SLURM plugin names jobs after it, and it may be missing in a job.
    os.environ.setdefault("LOGNAME", "rela_bids")
    base = getattr(plugins, f"{name}Plugin")
    plugin = type(f"Observed{name}Plugin", (Observed, base), {})(plugin_args=dict(arguments))
    plugin.observe(observer)
    return plugin


def _log(script: Path) -> Path:
    return script.with_suffix(".log")


def _ask(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's commands; raises UsageError where it is missing."""
    path = shutil.which(name)
    if path is None:
        raise UsageError(
            f"--nipype-plugin-file: {name} is not on this machine: run where jobs are submitted, "
            "or choose the plugin MultiProc"
        )
    command = [path, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - no shell


def _queue() -> dict[str, str] | None:
    """State of each of this user's jobs that has not ended; None if SLURM does not answer."""
    listed = _ask("squeue", "--noheader", "--format=%i %T", f"--user={os.getuid()}")
    if listed.returncode:
        return None
    return dict(line.split(maxsplit=1) for line in listed.stdout.splitlines() if line.strip())


def _traceback(job: _Job) -> str:
    """What Nipype's report, which the job has left, says of the error; it is replaced by ours."""
    folder = Path(job.node.config["execution"]["crashdump_dir"])
    texts = []
    for path in folder.glob(f"crash-*-{job.node._id}-*.txt"):
        text = path.read_text(encoding="utf-8", errors="replace")
        # Nodes of several sessions have one name, but not in full.
        if f"Node: {job.node.fullname}\n" in text:
            texts.append(text)
            path.unlink()
    if not texts:
        return f"RuntimeError: SLURM ended the job, for time or memory perhaps: {job.log} says why"
    return texts[-1][max(texts[-1].find("Traceback"), 0) :]
