"""What runs the graph: our own process pool, or the Nipype plugin that a file names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.settings import Resources

if TYPE_CHECKING:
    from rela_bids.cli.execution import Observer, Runner

# Of Nipype's. Our pool stands for the first; the second hands the whole graph to SLURM at once; the
# others submit a job for each node and poll it.
POOLS = ("MultiProc", "LegacyMultiProc", "Linear")
GRAPH = "SLURMGraph"
QUEUES = ("SLURM", "SGE", "PBS", "LSF", "OAR")


@dataclass(frozen=True)
class Plugin:
    """A Nipype plugin's name and arguments."""

    name: str = "MultiProc"
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_plugin(path: Path | None) -> Plugin:
    """The plugin that a YAML file names, as fMRIPrep's: ``plugin`` and ``plugin_args``.

    Raises
    ------
    MissingInputError, BadDataError
        If the file is not there or is not such a YAML.
    UsageError
        If the plugin is unknown here.
    """
    if path is None:
        return Plugin()
    content = _read_yaml(path)
    arguments = content.get("plugin_args") or {}
    unknown = sorted({*content} - {"plugin", "plugin_args"}, key=str)
    if "plugin" not in content or unknown or not isinstance(arguments, dict):
        raise BadDataError(
            f"--nipype-plugin-file {path} must have plugin, a name, and may have plugin_args, a "
            "mapping, and nothing else: mend it"
        )
    name = str(content["plugin"])
    if name not in (*POOLS, GRAPH, *QUEUES):
        raise UsageError(
            f"--nipype-plugin-file {path}: plugin {name} is not one of "
            f"{', '.join((*POOLS, GRAPH, *QUEUES))}: choose one of them"
        )
    return Plugin(name, arguments)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingInputError(
            f"--nipype-plugin-file {path} cannot be read ({error.strerror}): check the path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadDataError(f"--nipype-plugin-file {path} is not YAML: mend it") from error
    return content if isinstance(content, dict) else {}


def make_runner(
    plugin: Plugin,
    resources: Resources,
    memory_gb: float,
    order: Iterable[str],
    observer: "Observer",
) -> "Runner":
    """The plugin, ready to run; see `rela_bids.cli.execution.SessionPool` for the arguments."""
    from rela_bids.cli.execution import SessionPool
    from rela_bids.cli.slurm import SlurmGraph, queue_plugin

    if plugin.name == GRAPH:
        return SlurmGraph(plugin.arguments, observer)
    if plugin.name in QUEUES:
        return queue_plugin(plugin.name, plugin.arguments, observer)
    return SessionPool(
        nprocs=1 if plugin.name == "Linear" else resources.nprocs,
        memory_gb=memory_gb,
        order=order,
        observer=observer,
        arguments=plugin.arguments,
    )
