"""Prepared examples in, a trained model with its card, its split and its scores out."""

import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rela_bids.atomic import write_text
from rela_bids.exceptions import ExitCode, RelaBidsError, UsageError
from rela_bids.held_out import COLUMNS, HeldOut, Row, judge
from rela_bids.model_card import model_card
from rela_bids.splits import SPLITS, count_people, settle_split, tracers_by_person
from rela_bids.tracers import Tracer

if TYPE_CHECKING:
    from rela_bids.model.budget import TrainSettings
    from rela_bids.model.dataset import PreparedDataset, Record
    from rela_bids.model.presets import ModelConfig
    from rela_bids.model.trainer import Outcome

PACKAGES = ("rela_bids", "torch", "monai", "lightning-fabric", "numpy")
MODEL_FILE = "model.safetensors"


class TrainingInterruptedError(RelaBidsError):
    """A signal ended the training before its budget was spent; a checkpoint was written."""

    exit_code = ExitCode.SESSION_FAILED


@dataclass(frozen=True)
class TrainingPlan:
    """What to train.

    Attributes
    ----------
    name : of the model, which becomes the folder ``OUT/models/<name>``.
    config, tracers : of the model; its classes are `tracers` in their order.
    settings : of the trainer.
    trained_on : the data, in words, for the model's file and card.
    simulated : the PET was not measured.
    split : ``train``, ``validation`` or ``test`` by subject; None draws one by the seed.
    start_from : a model of the same network and tracers, on any grid, whose weights are begun with.
    """

    name: str
    config: "ModelConfig"
    tracers: Mapping[str, Tracer]
    settings: "TrainSettings"
    trained_on: str
    simulated: bool = False
    split: Mapping[str, str] | None = None
    start_from: Path | None = None


@dataclass(frozen=True)
class TrainedModel:
    """All that there is to tell of a training, for card and report.

    Attributes
    ----------
    provenance : as in the model's file; JSON can hold it.
    sha256 : of the model's file.
    seconds : of training, that of interrupted runs included.
    judged, watched : the part that was scored, and the part that the training curve is of.
    scores : a row for each pair of `judged`, see `rela_bids.held_out.COLUMNS`.
    held_out : pairs to look at, a few for each tracer.
    """

    plan: TrainingPlan
    provenance: Mapping[str, Any]
    sha256: str
    seconds: float
    judged: str
    watched: str
    scores: Sequence[Row]
    held_out: Sequence[HeldOut]


OnScored = Callable[[Path, TrainedModel], object]


def train_model(
    manifest: Sequence["Record"],
    plan: TrainingPlan,
    output_dir: Path,
    *,
    resume: bool = False,
    on_scored: OnScored | None = None,
) -> Path:
    """Train on prepared examples; returns ``OUT/models/<name>``, where the model lies.

    `manifest` is what `rela_bids.model.dataset.read_manifest` finds. Nothing is written before the
    data are known to be good. The model file comes last: where it is, all else is too, also what
    ``on_scored(folder, trained)`` writes. Every process of a training calls this function; the
    first alone writes and calls `on_scored`.

    Raises
    ------
    BadDataError
        As `rela_bids.splits.settle_split`, or where an example is not on the model grid.
    UsageError
        As `check_new`; or if a run is resumed with other people or another split.
    TrainingInterruptedError
        After SIGTERM or Ctrl-C.
    TrainingDivergedError
        On a loss that is not finite.
    """
    from rela_bids.model.checkpoint import load_model
    from rela_bids.model.trainer import fit

    folder = check_new(output_dir, plan.name, resume=resume)
    people = tracers_by_person(manifest)
    split = settle_split(people, plan.tracers, plan.split, plan.settings.seed)
    parts = _parts(manifest, split, plan)
    _keep_split(folder / "splits.tsv", _splits_table(split, people), plan.settings)
    judged, watched = (
        next(part for part in order if len(parts[part]))
        for order in (("test", "validation"), ("validation", "test"))
    )
    start = load_model(plan.start_from).network.state_dict() if plan.start_from else None
    outcome = fit(parts["train"], parts[watched], folder, plan.settings, resume=resume, start=start)
    if not outcome.finished:
        raise TrainingInterruptedError(
            f"training of {plan.name} was interrupted at step {outcome.step}: "
            "go on with the same command and --resume"
        )
    if outcome.main:
        _finish(folder, plan, parts, (judged, watched), outcome, on_scored)
    return folder


def check_new(output_dir: Path, name: str, *, resume: bool) -> Path:
    """``OUT/models/<name>``, if a model may be made there.

    Raises
    ------
    UsageError
        If it holds a model or a checkpoint and `resume` was not asked for.
    """
    from rela_bids.model.trainer import CHECKPOINT

    folder = output_dir / "models" / name
    if not resume and any((folder / file).exists() for file in (CHECKPOINT, MODEL_FILE)):
        raise UsageError(f"{folder} holds a model: add --resume, or choose another --model-name")
    return folder


def _parts(
    manifest: Sequence["Record"], split: Mapping[str, str], plan: TrainingPlan
) -> dict[str, "PreparedDataset"]:
    from rela_bids.model.dataset import PreparedDataset

    return {
        part: PreparedDataset(
            [record for record in manifest if split.get(record.subject) == part],
            plan.config,
            plan.tracers,
        )
        for part in SPLITS
    }


def _keep_split(path: Path, text: str, settings: "TrainSettings") -> None:
    """The split of a resumed run must be the one it began with, or held-out people were seen."""
    from rela_bids.model.runtime import start_fabric

    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{path} is another split than that of these people and --split: resume with the "
            "same ones, or train under another name"
        )
    fabric = start_fabric(settings.device, settings.devices, settings.num_nodes)
    if fabric.is_global_zero:
        write_text(path, text)


def _splits_table(split: Mapping[str, str], people: Mapping[str, Iterable[str]]) -> str:
    rows = [
        (f"sub-{subject}", part, ",".join(sorted(people[subject])))
        for subject, part in sorted(split.items())
    ]
    return table(("participant_id", "split", "tracers"), rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Tab-separated text, four significant digits for each number."""
    shown = [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
        for row in rows
    ]
    return "".join("\t".join(row) + "\n" for row in [list(columns), *shown])


def _finish(
    folder: Path,
    plan: TrainingPlan,
    parts: Mapping[str, "PreparedDataset"],
    judged_and_watched: tuple[str, str],
    outcome: "Outcome",
    on_scored: OnScored | None,
) -> None:
    """Score the averaged weights on the people held out and write everything."""
    from rela_bids.model.checkpoint import load_model, save_model
    from rela_bids.model.networks import build_denoiser
    from rela_bids.model.runtime import training_device
    from rela_bids.model.trainer import averaged_weights

    network = build_denoiser(plan.config.network, len(plan.tracers))
    network.load_state_dict(averaged_weights(folder))
    provenance = _provenance(plan, parts, outcome.step)
    partial = folder / f".{MODEL_FILE}"
    sha256 = save_model(partial, network, plan.config, plan.tracers, provenance)
    # Judged is the file itself, as its users will read it.
    model = load_model(partial, training_device(plan.settings.device))
    judged, watched = judged_and_watched
    scores, held_out = judge(model, parts["train"], parts[judged], plan.settings)
    trained = TrainedModel(
        plan, provenance, sha256, outcome.seconds, judged, watched, scores, held_out
    )
    rows = ([row[column] for column in COLUMNS] for row in scores)
    write_text(folder / "metrics.tsv", table(COLUMNS, rows))
    write_text(folder / "model_card.md", model_card(trained))
    if on_scored is not None:
        on_scored(folder, trained)
    partial.replace(folder / MODEL_FILE)


def _provenance(
    plan: TrainingPlan, parts: Mapping[str, "PreparedDataset"], steps: int
) -> dict[str, Any]:
    """Nothing here depends on the clock, so that the same training gives the same file."""
    records = {record.name: record for data in parts.values() for record, _ in data.pairs}
    split = {record.subject: part for part, data in parts.items() for record, _ in data.pairs}
    people = tracers_by_person(records.values())
    sessions = {
        label: {part: sum(label == own for _, own in data.pairs) for part, data in parts.items()}
        for label in plan.tracers
    }
    return {
        "trained_on": plan.trained_on,
        "simulated": plan.simulated,
        "people": count_people(people, plan.tracers, split),
        "sessions": sessions,
        "data_sha256": data_sha256(records.values(), plan.tracers),
        "seed": plan.settings.seed,
        "steps": steps,
        "device": _device_name(plan.settings.device),
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
    }


def data_sha256(records: Iterable["Record"], tracers: Iterable[str]) -> str:
    """Of the lines ``<session> <image> <sha256 of its .npy file>``, sorted by session's name.

    The images are mask, T1w, FLAIR where there is one, and PET of `tracers`, in this order.
    """
    from rela_bids.model.description import sha256

    digest = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.name):
        kinds = ["mask", "t1w"] + ["flair"] * record.flair
        kinds += [f"pet-{label}" for label in tracers if label in record.tracers]
        for kind in kinds:
            file_hash = sha256(record.folder / f"{kind}.npy")
            digest.update(f"{record.name} {kind} {file_hash}\n".encode())
    return digest.hexdigest()


def _device_name(device: str) -> str:
    import torch

    from rela_bids.model.runtime import training_device

    kind = training_device(device)
    return torch.cuda.get_device_name() if kind == "cuda" else f"{kind} ({platform.machine()})"
