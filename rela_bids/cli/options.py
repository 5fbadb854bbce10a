"""The options of the command line, by group."""

from pathlib import Path
from typing import Any, get_args

from rela_bids.bids.filters import FILTERED_IMAGES
from rela_bids.cli.argument_types import (
    MAX_SEED,
    duration,
    folder,
    gigabytes,
    integer,
    label_of,
    name,
    space,
)
from rela_bids.settings import (
    DEFAULT_MODEL,
    AnatomySettings,
    Device,
    Preset,
    SkullStrip,
    SynthesisSettings,
    TrainingSettings,
)


def add_selection(group: Any) -> None:
    """Which people, sessions, tracers and images."""
    group.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        action="extend",
        type=label_of("sub"),
        default=[],
        metavar="LABEL",
        help="people to process, with or without sub- (default: all)",
    )
    group.add_argument(
        "--session-label",
        "--session_label",
        nargs="+",
        action="extend",
        type=label_of("ses"),
        default=[],
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    group.add_argument(
        "--tracer-label",
        "--tracer_label",
        nargs="+",
        action="extend",
        type=label_of("trc"),
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
        type=folder,
        metavar="DIR",
        help="pybids database of the dataset, made when it is not there; delete it when the "
        "dataset has changed",
    )
    group.add_argument(
        "-d",
        "--derivatives",
        nargs="+",
        action="extend",
        type=folder,
        default=[],
        metavar="DIR",
        help="datasets of other pipelines (fMRIPrep, PETPrep): their brain masks, and in training "
        "their PET in space-T1w, are used as they are",
    )


def add_anatomy(group: Any) -> None:
    """How MRI is prepared."""
    default = AnatomySettings()
    group.add_argument(
        "--output-spaces",
        nargs="+",
        type=space,
        default=list(default.output_spaces),
        metavar="SPACE",
        help="spaces in which PET is written: MNI152NLin2009cAsym, or a TemplateFlow name that is "
        "on disk, such as MNI152NLin6Asym:res-2; T1w is always among them (default: T1w alone)",
    )
    group.add_argument(
        "--skull-strip",
        choices=get_args(SkullStrip),
        default=default.skull_strip,
        help="how the brain mask is made; skip for images already stripped (default: %(default)s)",
    )
    group.add_argument(
        "--skull-strip-template",
        metavar="NAME|FILE",
        help="T1w template of a whole head for --skull-strip ants: a TemplateFlow name that is on "
        "disk, Colin27, packaged, or a file with its mask beside it (default: the first there is)",
    )
    group.add_argument(
        "--no-regions",
        action="store_true",
        help="make no tables of SUVR by region; saves the slowest step, SyN, unless "
        "--output-spaces needs it",
    )
    group.add_argument(
        "--atlas",
        nargs=2,
        type=folder,
        metavar=("FILE", "LABELS.tsv"),
        help="another atlas than the packaged Desikan-Killiany: labels in MNI152NLin2009cAsym, and "
        "a table with the columns index and name, as BIDS' dseg.tsv",
    )


def add_synthesis(group: Any) -> None:
    """What PET is sampled with."""
    default = SynthesisSettings()
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|PATH",
        help="a bundled model's name, or a model's file or folder (default: %(default)s)",
    )
    group.add_argument(
        "--n-samples",
        type=integer(1),
        metavar="N",
        help="samples that are averaged into one PET (default: the model's)",
    )
    group.add_argument(
        "--sampling-steps",
        type=integer(1),
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
        type=integer(0, MAX_SEED),
        default=default.random_seed,
        metavar="N",
        help="seed of the sampler's noise and of training (default: %(default)s)",
    )


def add_training(group: Any) -> None:
    """What is trained, and for how long."""
    default = TrainingSettings()
    group.add_argument("--train", action="store_true", help="train a model on MRI and PET")
    group.add_argument(
        "--preset",
        choices=get_args(Preset),
        default=default.preset,
        help="fast, or paper, the method as published (default: %(default)s)",
    )
    group.add_argument(
        "--model-name",
        type=name,
        metavar="NAME",
        help="folder in OUT/models (default: the preset's name)",
    )
    group.add_argument(
        "--epochs",
        type=integer(1),
        metavar="N",
        help="passes over the data (default: the preset's)",
    )
    group.add_argument(
        "--max-time",
        type=duration,
        metavar="HH:MM:SS",
        help="time to train for, without the preprocessing; the schedule follows the clock",
    )
    group.add_argument(
        "--batch-size", type=integer(1), metavar="N", help="volumes a step and process"
    )
    group.add_argument(
        "--train-config",
        type=Path,
        metavar="FILE",
        help="TOML with any other setting of the model and the trainer, such as "
        "inputs = ['t1w'], [grid] voxel_size = 4 or [loss] adversarial = 'none'",
    )
    group.add_argument(
        "--tracer-config",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="FILE",
        help="TOML of a tracer that the software does not know, or of another frame window or "
        "reference region of one that it knows",
    )
    group.add_argument(
        "--split",
        metavar="FILE|COLUMN",
        help="table with participant_id and split (train, validation, test or n/a), or a column "
        "of participants.tsv (default: a fifth of the people is held out, drawn by the seed)",
    )
    group.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint, or begin"
    )
    group.add_argument(
        "--devices",
        type=integer(1),
        default=default.devices,
        metavar="N",
        help="processes that train on each node (default: %(default)s)",
    )
    group.add_argument(
        "--num-nodes",
        type=integer(1),
        default=default.num_nodes,
        metavar="N",
        help="nodes, with one process for each device started by srun or torchrun (default: "
        "%(default)s)",
    )


def add_group(group: Any) -> None:
    """What the group level compares."""
    group.add_argument(
        "--compare",
        nargs="+",
        action="extend",
        type=folder,
        default=[],
        metavar="OUT",
        help="other output folders, made with other models or settings: differences from them, "
        "over the people that both have",
    )
    group.add_argument(
        "--positivity-cutoff",
        nargs="+",
        action="extend",
        default=[],
        metavar="TRC=VALUE",
        help="who counts as positive on measured PET: SUVR of the composite, or with a unit, such "
        "as 18FAV45=20CL or 18FAV1451=2CenTauRz (default: published cut-offs, where there are)",
    )


def add_running(group: Any) -> None:
    """What a run may take, and where it may write."""
    group.add_argument(
        "--nprocs",
        type=integer(1),
        metavar="N",
        help="processes at a time (default: the processors granted)",
    )
    group.add_argument(
        "--omp-nthreads",
        type=integer(1),
        default=1,
        metavar="N",
        help="threads of the step that samples PET (default: 1; with another number the last "
        "bits of an image may differ)",
    )
    group.add_argument(
        "--mem",
        type=gigabytes,
        metavar="SIZE",
        help="memory to stay under, in GB or with a unit: 16, 16G, 8000M (default: no bound)",
    )
    group.add_argument(
        "-w",
        "--work-dir",
        type=folder,
        default="work",
        metavar="DIR",
        help="where intermediate files go (default: %(default)s in the current folder)",
    )
    group.add_argument(
        "--clean-workdir",
        action="store_true",
        help="remove the intermediate files of each session when it is done, so that the work "
        "folder holds only sessions that are being worked on or have failed",
    )
    group.add_argument(
        "--nipype-plugin-file",
        "--use-plugin",
        type=folder,
        metavar="FILE",
        help="YAML with a Nipype plugin and its plugin_args, as fMRIPrep's, such as SLURMGraph "
        "(default: a process pool of --nprocs processes)",
    )
    group.add_argument(
        "--resource-monitor",
        action="store_true",
        help="measure time and peak memory of each step: a table at the end and in OUT/logs",
    )
    group.add_argument(
        "--write-graph",
        action="store_true",
        help="write the graph of one session's steps to the work folder, as SVG where Graphviz is",
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
