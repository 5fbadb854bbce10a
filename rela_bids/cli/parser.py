"""Arguments to `Settings`. Imports nothing heavy, so that ``--help`` answers at once."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from rela_bids import __version__
from rela_bids.bids.filters import FILTERED_IMAGES, read_filters
from rela_bids.exceptions import MissingInputError, UsageError
from rela_bids.settings import (
    DEFAULT_MODEL,
    AnatomySettings,
    Device,
    Level,
    Resources,
    Selection,
    Settings,
    SkullStrip,
    Space,
    SynthesisSettings,
    available_cpus,
)

MAX_SEED = 2**32 - 1

_LABEL = re.compile(r"[a-zA-Z0-9+]+")
_MEMORY = re.compile(r"(\d+(?:\.\d*)?)\s*([TGMK]?)B?", re.IGNORECASE)
_GB_PER = {"T": 1e3, "G": 1.0, "": 1.0, "M": 1e-3, "K": 1e-6}


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are `UsageError` and so end with the BIDS exit code for usage."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required"):
            message += " (they come before options that take several values)"
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str]) -> Settings:
    """The settings that a command line asks for.

    Raises
    ------
    UsageError
        If an option is unknown, has a bad value, or contradicts another.
    MissingInputError
        If the dataset's folder or the filter file is not there.
    BadDataError
        If the filter file is not a JSON object in UTF-8.
    SystemExit
        After ``--help`` and ``--version``.
    """
    arguments = build_parser().parse_args(argv)
    settings = _settings(arguments)
    _check_folders(settings)
    return settings


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``rela_bids``."""
    parser = _Parser(
        prog="rela_bids",
        description="Synthetic PET from T1w and T2-FLAIR MRI, as a BIDS App.",
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", type=_folder, help="root of the BIDS dataset")
    parser.add_argument("output_dir", type=_folder, help="where the derivatives are written")
    parser.add_argument("level", choices=get_args(Level), help="what to do")
    parser.add_argument("--version", action="version", version=f"rela_bids {__version__}")
    _add_selection(parser.add_argument_group("which data"))
    _add_anatomy(parser.add_argument_group("anatomy"))
    _add_synthesis(parser.add_argument_group("synthesis"))
    _add_running(parser.add_argument_group("running"))
    return parser


def _add_selection(group: Any) -> None:
    group.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        action="extend",
        type=_label("sub"),
        default=[],
        metavar="LABEL",
        help="people to process, with or without sub- (default: all)",
    )
    group.add_argument(
        "--session-label",
        "--session_label",
        nargs="+",
        action="extend",
        type=_label("ses"),
        default=[],
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    group.add_argument(
        "--tracer-label",
        "--tracer_label",
        nargs="+",
        action="extend",
        type=_label("trc"),
        default=[],
        metavar="LABEL",
        help="tracers, with or without trc- (default: all that the model knows)",
    )
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON of entities that images must have, as fMRIPrep\'s: {"t1w": {"acquisition": '
        f'"mprage"}}}}; the keys {", ".join(FILTERED_IMAGES)} are used, others ignored',
    )
    group.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="go on without a usable dataset_description.json",
    )
    group.add_argument(
        "--bids-database-dir",
        type=_folder,
        metavar="DIR",
        help="pybids database of the dataset, made when it is not there; delete it when the "
        "dataset has changed",
    )


def _add_anatomy(group: Any) -> None:
    default = AnatomySettings()
    group.add_argument(
        "--output-spaces",
        nargs="+",
        choices=get_args(Space),
        default=list(default.output_spaces),
        metavar="SPACE",
        help=f"spaces in which PET is written, of {', '.join(get_args(Space))}; T1w is always "
        "among them (default: T1w alone)",
    )
    group.add_argument(
        "--skull-strip",
        choices=get_args(SkullStrip),
        default=default.skull_strip,
        help="how the brain mask is made; skip for images already stripped (default: %(default)s)",
    )


def _add_synthesis(group: Any) -> None:
    default = SynthesisSettings()
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|PATH",
        help="a bundled model's name, or a model's file or folder (default: %(default)s)",
    )
    group.add_argument(
        "--n-samples",
        type=_integer(1),
        metavar="N",
        help="samples that are averaged into one PET (default: the model's)",
    )
    group.add_argument(
        "--sampling-steps",
        type=_integer(1),
        metavar="N",
        help="steps of the sampler (default: the model's)",
    )
    group.add_argument(
        "--device",
        choices=get_args(Device),
        default=default.device,
        help="where the model runs (default: %(default)s)",
    )
    group.add_argument(
        "--random-seed",
        type=_integer(0, MAX_SEED),
        default=default.random_seed,
        metavar="N",
        help="seed of the sampler's noise (default: %(default)s)",
    )


def _add_running(group: Any) -> None:
    group.add_argument(
        "--nprocs",
        type=_integer(1),
        metavar="N",
        help="processes at a time (default: the processors granted)",
    )
    group.add_argument(
        "--omp-nthreads",
        type=_integer(1),
        default=1,
        metavar="N",
        help="threads of the step that samples PET (default: 1; with another number the last "
        "bits of an image may differ)",
    )
    group.add_argument(
        "--mem",
        type=_gigabytes,
        metavar="SIZE",
        help="memory to stay under, in GB or with a unit: 16, 16G, 8000M (default: no bound)",
    )
    group.add_argument(
        "-w",
        "--work-dir",
        type=_folder,
        default="work",
        metavar="DIR",
        help="where intermediate files go (default: %(default)s in the current folder)",
    )
    group.add_argument(
        "--stop-on-first-crash",
        action="store_true",
        help="end the run when a session fails (default: finish the others)",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="list what would be read and written, and touch nothing",
    )
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more")


def _settings(arguments: argparse.Namespace) -> Settings:
    filters = read_filters(arguments.bids_filter_file) if arguments.bids_filter_file else {}
    nprocs = arguments.nprocs or available_cpus()
    return Settings(
        bids_dir=arguments.bids_dir,
        output_dir=arguments.output_dir,
        work_dir=arguments.work_dir,
        level=arguments.level,
        selection=Selection(
            participants=_unique(arguments.participant_label),
            sessions=_unique(arguments.session_label),
            tracers=_unique(arguments.tracer_label),
            filters=filters,
        ),
        anatomy=AnatomySettings(
            skull_strip=arguments.skull_strip,
            output_spaces=_unique(["T1w", *arguments.output_spaces]),
        ),
        synthesis=SynthesisSettings(
            model=arguments.model,
            n_samples=arguments.n_samples,
            sampling_steps=arguments.sampling_steps,
            device=arguments.device,
            random_seed=arguments.random_seed,
        ),
        resources=Resources(nprocs, arguments.omp_nthreads, arguments.mem),
        skip_bids_validation=arguments.skip_bids_validation,
        bids_database_dir=arguments.bids_database_dir,
        stop_on_first_crash=arguments.stop_on_first_crash,
        dry_run=arguments.dry_run,
        verbose=arguments.verbose,
    )


def _check_folders(settings: Settings) -> None:
    """Refuse folders that would mix inputs, outputs and intermediate files."""
    bids_dir, output_dir, work_dir = settings.bids_dir, settings.output_dir, settings.work_dir
    if not _is_folder(bids_dir):
        raise MissingInputError(
            f"bids_dir {bids_dir} is not a folder that can be read: check the path"
        )
    if bids_dir.is_relative_to(output_dir):
        raise UsageError(
            f"output_dir {output_dir} is or holds bids_dir: give another folder, for example "
            f"{bids_dir / 'derivatives' / 'rela_bids'}"
        )
    derivatives = bids_dir / "derivatives"
    within = output_dir.is_relative_to(bids_dir)
    if within and (output_dir == derivatives or not output_dir.is_relative_to(derivatives)):
        raise UsageError(
            f"output_dir {output_dir} lies among the input data: give a folder outside, or "
            f"{derivatives / 'rela_bids'}"
        )
    if work_dir.is_relative_to(bids_dir) and not (within and work_dir.is_relative_to(output_dir)):
        raise UsageError(f"--work-dir {work_dir} lies in bids_dir: give a folder outside with -w")
    if work_dir == output_dir:
        raise UsageError(f"--work-dir {work_dir} is output_dir too: give another folder with -w")
    for option, folder in (("output_dir", output_dir), ("--work-dir", work_dir)):
        if folder.is_file():
            raise UsageError(f"{option} {folder} is a file: give a folder")


def _unique(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be resolved ({error})") from error


def _is_folder(path: Path) -> bool:
    """As `Path.is_dir`, and False where that fails for permissions or the length of a name."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _label(prefix: str) -> Any:
    def label(text: str) -> str:
        bare = text.removeprefix(f"{prefix}-")
        if not _LABEL.fullmatch(bare):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a label of letters and digits (folders come before options)"
            )
        return bare

    return label


def _integer(least: int, most: int | None = None) -> Any:
    def integer(text: str) -> int:
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {bounds}")
        return number

    return integer


def _gigabytes(text: str) -> float:
    match = _MEMORY.fullmatch(text.strip())
    size = float(match[1]) * _GB_PER[match[2].upper()] if match else 0.0
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 16, 16G or 8000M")
    return size
