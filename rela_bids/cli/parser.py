"""Arguments to `Settings`. Imports nothing heavy, so that ``--help`` answers at once."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, get_args

from rela_bids import __version__
from rela_bids.bids.filters import read_filters
from rela_bids.cli import options
from rela_bids.cli.argument_types import folder
from rela_bids.cli.train_config import read_changes
from rela_bids.exceptions import MissingInputError, UsageError
from rela_bids.settings import (
    AnatomySettings,
    GroupSettings,
    Level,
    RegionSettings,
    Resources,
    Selection,
    Settings,
    SynthesisSettings,
    TrainingSettings,
    available_cpus,
)


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
    settings = replace(_settings(arguments), command=tuple(argv))
    _check_folders(settings)
    return settings


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``rela_bids``."""
    parser = _Parser(
        prog="rela_bids",
        description="Synthetic PET from T1w and T2-FLAIR MRI, as a BIDS App.",
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", type=folder, help="root of the BIDS dataset")
    parser.add_argument("output_dir", type=folder, help="where the derivatives are written")
    parser.add_argument("level", choices=get_args(Level), help="what to do")
    parser.add_argument("--version", action="version", version=f"rela_bids {__version__}")
    options.add_selection(parser.add_argument_group("which data"))
    options.add_anatomy(parser.add_argument_group("anatomy"))
    options.add_synthesis(parser.add_argument_group("synthesis"))
    options.add_training(parser.add_argument_group("training, with group --train"))
    options.add_group(parser.add_argument_group("the group's report, with group"))
    options.add_running(parser.add_argument_group("running"))
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    _check_level(arguments)
    _check_cutoffs(arguments.positivity_cutoff)
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
            skull_strip_template=arguments.skull_strip_template,
            output_spaces=_unique(["T1w", *arguments.output_spaces]),
        ),
        synthesis=SynthesisSettings(
            model=arguments.model,
            n_samples=arguments.n_samples,
            sampling_steps=arguments.sampling_steps,
            device=arguments.device,
            random_seed=arguments.random_seed,
        ),
        regions=_regions(arguments),
        train=arguments.train,
        training=_training(arguments),
        group=GroupSettings(
            compare=_unique(arguments.compare), cutoffs=_unique(arguments.positivity_cutoff)
        ),
        derivatives=_unique(arguments.derivatives),
        tracer_files=_unique(arguments.tracer_config),
        resources=Resources(nprocs, arguments.omp_nthreads, arguments.mem),
        skip_bids_validation=arguments.skip_bids_validation,
        bids_database_dir=arguments.bids_database_dir,
        plugin_file=arguments.nipype_plugin_file,
        clean_workdir=arguments.clean_workdir,
        resource_monitor=arguments.resource_monitor,
        write_graph=arguments.write_graph,
        stop_on_first_crash=arguments.stop_on_first_crash,
        dry_run=arguments.dry_run,
        verbose=arguments.verbose,
    )


def _regions(arguments: argparse.Namespace) -> RegionSettings:
    if arguments.atlas and arguments.no_regions:
        raise UsageError("--atlas has no effect with --no-regions: leave one out")
    atlas, labels = arguments.atlas or (None, None)
    return RegionSettings(wanted=not arguments.no_regions, atlas=atlas, labels=labels)


def _training(arguments: argparse.Namespace) -> TrainingSettings:
    return TrainingSettings(
        preset=arguments.preset,
        model_name=arguments.model_name,
        epochs=arguments.epochs,
        max_seconds=arguments.max_time,
        batch_size=arguments.batch_size,
        changes=read_changes(arguments.train_config) if arguments.train_config else {},
        split=arguments.split,
        resume=arguments.resume,
        devices=arguments.devices,
        num_nodes=arguments.num_nodes,
    )


# Options that do nothing without --train, and those that do nothing with it.
_TRAINING_ONLY = (
    "preset",
    "model_name",
    "epochs",
    "max_time",
    "batch_size",
    "train_config",
    "tracer_config",
    "split",
    "resume",
    "devices",
    "num_nodes",
)
_SYNTHESIS_ONLY = (
    "model",
    "n_samples",
    "sampling_steps",
    "output_spaces",
    "no_regions",
    "atlas",
)
_IMAGES_ONLY = ("skull_strip", "skull_strip_template", "derivatives", "bids_filter_file", "device")
_GROUP_ONLY = ("compare", "positivity_cutoff")


def _check_level(arguments: argparse.Namespace) -> None:
    """Refuse options that would do nothing: what was asked for would silently not happen."""
    if arguments.train and arguments.level != "group":
        raise UsageError("--train belongs to the group level: rela_bids BIDS OUT group --train")
    if arguments.train:
        _refuse(arguments, (*_SYNTHESIS_ONLY, *_GROUP_ONLY), "has no effect with --train")
    else:
        _refuse(arguments, _TRAINING_ONLY, "needs group --train")
    if arguments.level == "participant":
        _refuse(arguments, _GROUP_ONLY, "needs the group level")
    elif not arguments.train:
        _refuse(arguments, (*_SYNTHESIS_ONLY, *_IMAGES_ONLY), "has no effect with group")


def _refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    parser = build_parser()
    for name in names:
        if getattr(arguments, name) != parser.get_default(name):
            raise UsageError(f"--{name.replace('_', '-')} {why}: leave it out")


def _check_cutoffs(cutoffs: Sequence[str]) -> None:
    if cutoffs:  # or --help would wait for numpy
        from rela_bids.group.positivity import parse_cutoff

        for text in cutoffs:
            parse_cutoff(text)


def _check_folders(settings: Settings) -> None:
    """Refuse folders that would mix inputs, outputs and intermediate files."""
    bids_dir, output_dir, work_dir = settings.bids_dir, settings.output_dir, settings.work_dir
    if not _is_folder(bids_dir):
        raise MissingInputError(
            f"bids_dir {bids_dir} is not a folder that can be read: check the path"
        )
    for dataset in settings.derivatives:
        if not _is_folder(dataset):
            raise MissingInputError(
                f"--derivatives {dataset} is not a folder that can be read: check the path"
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
    if output_dir in settings.group.compare:
        raise UsageError(f"--compare {output_dir} is output_dir itself: give another one's output")
    for option, path in (("output_dir", output_dir), ("--work-dir", work_dir)):
        # os.path, since Path.is_file raises where one may not look.
        if os.path.isfile(path):  # noqa: PTH113
            raise UsageError(f"{option} {path} is a file: give a folder")


def _unique(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _is_folder(path: Path) -> bool:
    """As `Path.is_dir`, and False where that fails for permissions or the length of a name."""
    try:
        return path.is_dir()
    except OSError:
        return False
