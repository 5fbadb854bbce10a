"""What a run is asked to do: frozen dataclasses, passed explicitly, saved as TOML.

`rela_bids.cli.parser.parse` makes a `Settings` of the command line; ``OUT/logs/<run>.toml`` holds
it. Nothing heavy is imported here, so that ``--help`` answers at once.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from rela_bids.exceptions import BadDataError, MissingInputError

Level = Literal["participant", "group"]
SkullStrip = Literal["ants", "deepbet", "skip"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Preset = Literal["fast", "paper"]

DEFAULT_MODEL = "phantom"


def available_cpus() -> int:
    """Processors this process may use: what a scheduler grants, not what the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Selection:
    """Which images to use. Labels have no ``sub-``, ``ses-``, ``trc-``; empty means all.

    Attributes
    ----------
    filters : per image (``t1w``, ``flair``, ``pet``) the pybids entity names and the values that
        they must have: one value or a tuple of them, ``"*"`` any value, ``""`` no such entity.
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    tracers: tuple[str, ...] = ()
    filters: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True)
class AnatomySettings:
    """How T1w and FLAIR are prepared, and the spaces that outputs are written in.

    Attributes
    ----------
    skull_strip_template : for ``"ants"``, see `rela_bids.head_templates.find_template`.
    output_spaces : ``T1w``, ``MNI152NLin2009cAsym``, or other templates of TemplateFlow,
        ``NAME[:cohort-N][:res-N]``, see `rela_bids.head_templates.find_space`.
    """

    skull_strip: SkullStrip = "ants"
    skull_strip_template: str | None = None
    output_spaces: tuple[str, ...] = ("T1w",)


@dataclass(frozen=True)
class SynthesisSettings:
    """How PET is sampled. `n_samples` and `sampling_steps` of None are the model's own."""

    model: str = DEFAULT_MODEL
    n_samples: int | None = None
    sampling_steps: int | None = None
    device: Device = "auto"
    random_seed: int = 0


@dataclass(frozen=True)
class RegionSettings:
    """Regional tables: whether they are made, and of which atlas.

    Attributes
    ----------
    atlas, labels : image and table of a user's atlas, see `rela_bids.atlases.read_atlas`; None for
        the packaged one.
    """

    wanted: bool = True
    atlas: Path | None = None
    labels: Path | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """What ``group --train`` makes, and for how long. None leaves it to the preset.

    Attributes
    ----------
    model_name : of the folder ``OUT/models/<model_name>``; None names it after the preset.
    max_seconds : of training, without the preprocessing.
    changes : of the preset and of the trainer, as in the ``--train-config`` file.
    split : a table of people and their parts, or a column of participants.tsv.
    devices, num_nodes : processes on each node, and nodes.
    """

    preset: Preset = "fast"
    model_name: str | None = None
    epochs: int | None = None
    max_seconds: float | None = None
    batch_size: int | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    split: str | None = None
    resume: bool = False
    devices: int = 1
    num_nodes: int = 1

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model_name or self.preset


@dataclass(frozen=True)
class GroupSettings:
    """What ``group`` does besides its tables.

    Attributes
    ----------
    compare : other output folders, whose models are compared with those of this one.
    cutoffs : as `rela_bids.group.positivity.parse_cutoff` takes them.
    """

    compare: tuple[Path, ...] = ()
    cutoffs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resources:
    """Bounds on processes, threads per process, and memory in GB (None: no bound).

    The number of threads does not follow that of processes, since sums over more threads may come
    out different in their last bits, and results must not depend on the machine's size.
    """

    nprocs: int = field(default_factory=available_cpus)
    omp_nthreads: int = 1
    mem_gb: float | None = None


@dataclass(frozen=True)
class Settings:
    """A whole run. Folders are absolute.

    Attributes
    ----------
    derivatives : datasets of other pipelines, whose brain masks and PET are used as they are.
    tracer_files : TOML files of tracers, see `rela_bids.tracer_config`.
    plugin_file : YAML of a Nipype plugin, see `rela_bids.cli.plugins`; None for our own pool.
    clean_workdir : whether a session's intermediate files go when it is done.
    train : whether the group level trains a model.
    command : the arguments of the command line, for messages and records.
    """

    bids_dir: Path
    output_dir: Path
    work_dir: Path
    level: Level = "participant"
    selection: Selection = field(default_factory=Selection)
    anatomy: AnatomySettings = field(default_factory=AnatomySettings)
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)
    regions: RegionSettings = field(default_factory=RegionSettings)
    train: bool = False
    training: TrainingSettings = field(default_factory=TrainingSettings)
    group: GroupSettings = field(default_factory=GroupSettings)
    derivatives: tuple[Path, ...] = ()
    tracer_files: tuple[Path, ...] = ()
    resources: Resources = field(default_factory=Resources)
    skip_bids_validation: bool = False
    bids_database_dir: Path | None = None
    plugin_file: Path | None = None
    clean_workdir: bool = False
    resource_monitor: bool = False
    write_graph: bool = False
    stop_on_first_crash: bool = False
    dry_run: bool = False
    verbose: int = 0
    command: tuple[str, ...] = ()

    @property
    def log_level(self) -> str:
        """Of Nipype's loggers: quiet unless asked."""
        return ("CRITICAL", "INFO", "DEBUG")[min(self.verbose, 2)]

    @property
    def bend(self) -> bool:
        """Whether SyN bends the T1w to the template, the slowest step by far.

        It does where images in its space or regions are made.
        """
        in_template = "MNI152NLin2009cAsym" in self.anatomy.output_spaces
        return in_template or (self.regions.wanted and not self.train)


def to_dict(settings: Any) -> dict[str, Any]:
    """A dataclass as plain dicts, lists, strings and numbers; what is None is left out."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def from_dict(values: Mapping[str, Any]) -> Settings:
    """The inverse of `to_dict`; what is left out takes its default.

    Raises
    ------
    BadDataError
        If a name is unknown, one without a default is missing, or a value has the wrong type.
    """
    settings: Settings = build(Settings, values, "settings")
    return settings


def to_toml(settings: Settings) -> str:
    """Settings as TOML text."""
    import tomli_w

    return tomli_w.dumps(to_dict(settings))


def from_toml(text: str) -> Settings:
    """The inverse of `to_toml`.

    Raises
    ------
    BadDataError
        If the text is not TOML, or as for `from_dict`.
    """
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadDataError(f"The settings are not valid TOML ({error}): mend the file") from error
    return from_dict(values)


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """A user's TOML file; `option` is the one that named it.

    Raises
    ------
    MissingInputError
        If it cannot be read.
    BadDataError
        If it is not TOML in UTF-8.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise MissingInputError(
            f"{option} {path} cannot be read ({error.strerror}): check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"{option} {path} is not TOML in UTF-8 ({error}): mend it") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def build(kind: type, values: Any, where: str) -> Any:
    """An instance of the dataclass `kind`; `where` names the table in error messages.

    Raises
    ------
    BadDataError
        As `from_dict`.
    """
    if not isinstance(values, Mapping):
        raise BadDataError(f"{where} must be a table of settings, not {values!r}: mend it")
    known = {item.name: item.type for item in fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise BadDataError(f"{where} has no setting {unknown[0]!r}: take it out or mend its name")
    converted = {
        name: _typed(known[name], value, f"{where}.{name}") for name, value in values.items()
    }
    try:
        return kind(**converted)
    except TypeError as error:
        raise BadDataError(f"{where} is incomplete ({error}): add what is missing") from error


def _typed(kind: Any, value: Any, where: str) -> Any:
    """`value`, as read from TOML, in the annotated type of its field."""
    if isinstance(kind, type) and is_dataclass(kind):
        return build(kind, value, where)
    if isinstance(kind, UnionType):
        kind = next(option for option in get_args(kind) if option is not type(None))
    origin = get_origin(kind)
    if origin is tuple and isinstance(value, list | tuple):
        item_kind = get_args(kind)[0]
        return tuple(_typed(item_kind, item, where) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        return {name: _frozen(item) for name, item in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if origin is Literal and value in get_args(kind):
        return value
    # `type(...) is`, since True is an instance of int.
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise BadDataError(f"{where} cannot be {value!r}: mend it")


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
