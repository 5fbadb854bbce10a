"""Nipype's process pool, made to finish session after session and to say what happens.

Nipype's own `MultiProcPlugin` works breadth-first over all sessions, so that nothing is finished
until almost everything is, waits forever for a worker that was killed, and reports to a log.
"""

import ctypes
import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any, Protocol

from nipype.pipeline.engine import Node, Workflow
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer

from workflows.base import OPTIONAL

# From Linux' prctl.h: the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1

WORKER_KILLED = (
    "A worker process was killed, most likely for want of memory: give the job more memory, or "
    "lower --nprocs or --mem"
)


class Observer(Protocol):
    """What is told of each node: its session's workflow name, its own name, and its state."""

    def planned(self, nodes: Iterable[Node]) -> None:
        """All the nodes there will be."""

    def started(self, node: Node) -> None:
        """A node was sent to a worker."""

    def finished(self, node: Node) -> None:
        """A node ended well."""

    def failed(self, node: Node, error: str, traceback: str) -> None:
        """A node ended with the exception whose text is `error`."""

    def tick(self) -> None:
        """Some tenths of a second have passed."""


class Runner(Protocol):
    """A Nipype plugin that counts the nodes that failed and leaves nothing behind."""

    failures: int

    def close(self) -> None:
        """Leave no process or job behind."""


class Observed:
    """Mixed into a Nipype plugin that polls its jobs: tells an observer what becomes of nodes."""

    procs: list[Node]

    def observe(self, observer: Observer) -> None:
        """Tell `observer` from now on."""
        self._observer = observer
        self.failures = 0
        self._status_callback = self._tell

    def close(self) -> None:
        """Leave no process or job behind."""

    def _prerun_check(self, graph: Any) -> None:
        super()._prerun_check(graph)  # type: ignore[misc]
        self._observer.planned(graph.nodes())

    def _tell(self, node: Node, status: str) -> None:
        if status == "start":
            self._observer.started(node)
        elif status == "end":
            self._observer.finished(node)

    def _report_crash(self, node: Node, result: dict[str, Any] | None = None) -> str:
        # In the place of Nipype's own report, which is made for its developers.
        traceback = "".join(result["traceback"]) if result else ""
        self.failures += 1
        self._observer.failed(node, last_line(traceback), traceback)
        return ""

    def _clean_queue(self, jobid: int, graph: Any, result: Any = None) -> Any:
        """Forget what depends on a node that failed; an optional one never ends the run."""
        config = self._config
        if optional_part(self.procs[jobid]):
            execution = {**config["execution"], "stop_on_first_crash": "false"}
            self._config = {**config, "execution": execution}
        try:
            return super()._clean_queue(jobid, graph, result)  # type: ignore[misc]
        finally:
            self._config = config

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        super()._send_procs_to_workers(updatehash, graph)  # type: ignore[misc]
        self._observer.tick()


class SessionPool(Observed, MultiProcPlugin):
    """A process pool that prefers the session that was begun first.

    `order` names the sessions' workflows in the order in which they are to be finished. Workers
    are started fresh (spawned), since forking after numerical libraries have started threads can
    deadlock. `arguments` are others of Nipype's MultiProc plugin.
    """

    def __init__(
        self,
        *,
        nprocs: int,
        memory_gb: float,
        order: Iterable[str],
        observer: Observer,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        bounds = {"n_procs": nprocs, "memory_gb": memory_gb, "raise_insufficient": False}
        super().__init__(plugin_args={**bounds, **arguments})
        self.observe(observer)
        self.pool = self._new_pool()
        self._rank = {name: rank for rank, name in enumerate(order)}

    def close(self) -> None:
        """End the workers."""
        workers = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self.processors,
            initializer=_begin_worker,
            # Nipype's resource monitor leaves its notes where a process is.
            initargs=(os.environ.get("NIPYPE_CONFIG_DIR", self._cwd),),
            mp_context=get_context("spawn"),
        )

    def _sort_jobs(self, jobids: Any, scheduler: str = "tsort") -> list[int]:
        return sorted(jobids, key=lambda job: (self._rank.get(session_of(self.procs[job]), 0), job))

    def _async_callback(self, args: "Future[dict[str, Any]]") -> None:
        """Store a result; a worker that died has none, which Nipype would wait for forever."""
        try:
            super()._async_callback(args)
        except BrokenProcessPool:
            taskid = next(task for task, future in self._task_obj.items() if future is args)
            self._taskresult[taskid] = {
                "result": None,
                "traceback": [f"MemoryError: {WORKER_KILLED}\n"],
                "taskid": taskid,
            }

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        try:
            return super()._submit_job(node, updatehash)
        except BrokenProcessPool:
            self.pool = self._new_pool()
            return super()._submit_job(node, updatehash)


def _begin_worker(cwd: str) -> None:
    """A worker dies with the run that started it, even if that is killed outright."""
    process_initializer(cwd)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def session_of(node: Node) -> str:
    """Name of the session's workflow that a node belongs to.

    The full name is ``top.session.step.node``.
    """
    return str(node.fullname).split(".")[1]


def optional_part(node: Node) -> str | None:
    """The workflow without which a node's session is done, if the node belongs to one."""
    parts = str(node.fullname).split(".")
    return next((part for part in parts if part.startswith(OPTIONAL)), None)


# What to do about errors that are not ours, by what they say.
_REMEDIES = {
    r"\[Errno (28|122)\]": "free space, or give another folder with -w",
    r"\[Errno (13|30)\]": "mend the folder's permissions, or give another with -w",
    r"MemoryError|can't allocate memory|out of memory": "give the job more memory, or lower "
    "--nprocs",
}


def last_line(traceback: str) -> str:
    """The message of the exception that a traceback ends with, and a remedy where one is known.

    Nipype puts the traceback of a node, indented, below one of its own.

    >>> last_line("Traceback ...\\n\\trela_bids.exceptions.BadDataError: x is empty\\n")
    'x is empty'
    >>> last_line("Traceback ...\\nRuntimeError: no\\n")
    'RuntimeError: no'
    >>> last_line("OSError: [Errno 28] No space left: '/x'")
    "OSError: [Errno 28] No space left: '/x': free space, or give another folder with -w"
    """
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    line = (raised or lines or ["unknown error"])[-1]
    ours = re.sub(r"^rela_bids\.[\w.]+: ", "", line)
    if ours != line or WORKER_KILLED in line:
        return ours
    remedies = (remedy for said, remedy in _REMEDIES.items() if re.search(said, line))
    return ": ".join([line, *list(remedies)[:1]])


def run_workflow(workflow: Workflow, plugin: Runner) -> None:
    """Run `workflow` on `plugin`; failures of nodes are told to its observer, not raised.

    No worker or job is left behind, however the run ends.
    """
    try:
        workflow.run(plugin=plugin)
    except Exception:
        if not plugin.failures:
            raise
    finally:
        plugin.close()
