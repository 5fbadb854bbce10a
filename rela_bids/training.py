"""Prepared examples in, a trained model with its card, its split and its scores out."""

import csv
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rela_bids.atomic import write_text
from rela_bids.exceptions import (
    BadDataError,
    ExitCode,
    MissingInputError,
    RelaBidsError,
    UsageError,
)
from rela_bids.model_card import model_card
from rela_bids.tracers import Tracer

if TYPE_CHECKING:
    from rela_bids.model.budget import TrainSettings
    from rela_bids.model.dataset import PreparedDataset, Record
    from rela_bids.model.objective import RelaDiffusion
    from rela_bids.model.presets import ModelConfig
    from rela_bids.volumes import Array

HELD_OUT_FRACTION = 0.2
SPLITS = ("train", "validation", "test")
PACKAGES = ("rela_bids", "torch", "monai", "lightning-fabric", "numpy")


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


def train_model(
    manifest: Sequence["Record"], plan: TrainingPlan, output_dir: Path, *, resume: bool = False
) -> Path:
    """Train on prepared examples; returns ``OUT/models/<name>``, where the model lies.

    `manifest` is what `rela_bids.model.dataset.read_manifest` finds. Nothing is written before the
    data are known to be good. The model file comes last: where it is, all else is too.

    Raises
    ------
    BadDataError
        On no pairs, a tracer without pairs or with one person only, or too few people to hold out.
    UsageError
        If the folder holds a model or a checkpoint and `resume` was not asked for.
    TrainingInterruptedError
        After SIGTERM or Ctrl-C.
    TrainingDivergedError
        On a loss that is not finite.
    """
    from rela_bids.model.checkpoint import load_model
    from rela_bids.model.dataset import PreparedDataset
    from rela_bids.model.trainer import CHECKPOINT, fit

    people = people_per_tracer(manifest, plan.tracers)
    split = dict(plan.split or split_subjects(manifest, plan.tracers, seed=plan.settings.seed))
    parts = {
        part: PreparedDataset(
            [record for record in manifest if split.get(record.subject) == part],
            plan.config,
            plan.tracers,
        )
        for part in SPLITS
    }
    _check_parts(parts, plan)
    folder = output_dir / "models" / plan.name
    if not resume and ((folder / CHECKPOINT).exists() or (folder / "model.safetensors").exists()):
        raise UsageError(f"{folder} holds a model: add --resume, or choose another --model-name")
    _write_split(folder / "splits.tsv", _splits_table(split, manifest))
    watched = parts["validation"] if len(parts["validation"]) else parts["test"]
    start = load_model(plan.start_from).network.state_dict() if plan.start_from else None
    outcome = fit(parts["train"], watched, folder, plan.settings, resume=resume, start=start)
    if not outcome.finished:
        raise TrainingInterruptedError(
            f"training of {plan.name} was interrupted at step {outcome.step}: "
            "go on with the same command and --resume"
        )
    if outcome.main:
        judged = parts["test"] if len(parts["test"]) else parts["validation"]
        _finish(folder, plan, parts["train"], judged, people, outcome.step)
    return folder


def people_per_tracer(manifest: Sequence["Record"], tracers: Iterable[str]) -> dict[str, int]:
    """How many people have each tracer.

    Raises
    ------
    BadDataError
        If a tracer has nobody, or one person only, whom nothing could be held out against.
    """
    people = {
        label: {record.subject for record in manifest if label in record.tracers}
        for label in tracers
    }
    if not any(people.values()):
        raise BadDataError(
            f"no session has both a T1w and a PET of {', '.join(people) or 'any tracer'}: "
            "nothing to train on; look at the BIDS names and --tracer-label"
        )
    for label, found in people.items():
        if len(found) < 2:
            who = f"one person only (sub-{next(iter(found))})" if found else "nobody"
            raise BadDataError(
                f"tracer {label} has {who} with MRI and PET: leave it out with --tracer-label, or "
                "add people"
            )
    return {label: len(found) for label, found in people.items()}


def split_subjects(
    manifest: Sequence["Record"], tracers: Iterable[str], *, seed: int
) -> dict[str, str]:
    """``train`` or ``test`` for each subject: every tracer is in both, drawn by the seed.

    A fifth of the people is held out, and more where tracers with few people make it so.
    """
    people = {
        label: sorted({r.subject for r in manifest if label in r.tracers}) for label in tracers
    }
    subjects = sorted(set().union(*people.values()))
    order = [subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))]
    held: list[str] = []

    def spare(subject: str) -> bool:
        return all(set(found) - {*held, subject} for found in people.values() if subject in found)

    for found in sorted(people.values(), key=len):
        candidates = [s for s in order if s in found and spare(s)]
        if candidates and not set(held) & set(found):
            held.append(candidates[0])
    for subject in order:
        if len(held) < round(HELD_OUT_FRACTION * len(subjects)) and subject not in held:
            held += [subject] * spare(subject)
    return {subject: "test" if subject in held else "train" for subject in subjects}


def read_split(path: Path, column: str = "split") -> dict[str, str]:
    """A split from a table with ``participant_id`` and `column`: ``splits.tsv``, participants.tsv.

    Rows with ``n/a`` take no part.

    Raises
    ------
    MissingInputError, BadDataError
        If the file is not there, lacks a column, or names another part than those of `SPLITS`.
    """
    if not path.exists():
        raise MissingInputError(f"--split: {path} is not there; check the path")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or not {"participant_id", column} <= set(rows[0]):
        raise BadDataError(f"{path} needs the columns participant_id and {column}, tab-separated")
    split = {
        row["participant_id"].removeprefix("sub-"): row[column]
        for row in rows
        if row[column] not in ("n/a", "", None)
    }
    for subject, part in split.items():
        if part not in SPLITS:
            raise BadDataError(
                f"{path}: sub-{subject} is in {part!r}; write one of {', '.join(SPLITS)} or n/a"
            )
    return split


def _check_parts(parts: Mapping[str, "PreparedDataset"], plan: TrainingPlan) -> None:
    for label in plan.tracers:
        if not any(label == found for _, found in parts["train"].pairs):
            raise BadDataError(
                f"tracer {label} has nobody in the training part of the split: move people into "
                "it, or leave the tracer out with --tracer-label"
            )
    if not len(parts["validation"]) + len(parts["test"]):
        raise BadDataError("nobody is held out: put some people into validation or test (--split)")


def _write_split(path: Path, text: str) -> None:
    """The split of a resumed run must be the one it began with, or held-out people were seen."""
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{path} is another split than that of these people and --split: resume with the "
            "same ones, or train under another name"
        )
    write_text(path, text)


def _splits_table(split: Mapping[str, str], manifest: Sequence["Record"]) -> str:
    tracers: dict[str, set[str]] = {}
    for record in manifest:
        tracers.setdefault(record.subject, set()).update(record.tracers)
    rows = [
        (f"sub-{subject}", part, ",".join(sorted(tracers[subject])))
        for subject, part in sorted(split.items())
        if subject in tracers
    ]
    return table(("participant_id", "split", "tracers"), rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Tab-separated text, four significant digits for each number."""
    shown = [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
        for row in rows
    ]
    return "".join("\t".join(row) + "\n" for row in [list(columns), *shown])


METRICS = ("psnr", "mae_suvr", "psnr_without_flair", "psnr_mean_pet", "mae_suvr_mean_pet")


def score_held_out(
    objective: "RelaDiffusion",
    train: "PreparedDataset",
    judged: "PreparedDataset",
    settings: "TrainSettings",
) -> list[dict[str, object]]:
    """The metrics of each pair of `judged`, dB and SUVR in the brain; keys as in metrics.tsv.

    The objective's denoiser is sampled as its configuration says. Without FLAIR, the same model is
    given the T1w alone.
    """
    from rela_bids.model.evaluation import predict_suvr, score
    from rela_bids.model.runtime import cpu_threads, training_device

    config = judged.config
    denoiser = objective.networks["denoiser"].eval().to(training_device(settings.device))
    mean_pet, upper_bounds = train.mean_pet(), train.upper_bounds()
    rows = []
    for index, (record, label) in enumerate(judged.pairs):

        def predicted(without: str | None, index: int = index, label: str = label) -> "Array":
            return predict_suvr(
                objective,
                denoiser,
                judged,
                index,
                upper_bound=upper_bounds[label],
                seed=settings.seed,
                steps=config.sampling_steps,
                n_samples=config.n_samples,
                without=without,
            )

        with cpu_threads(settings.threads):
            model = score(predicted(None), judged, index)
            without_flair: float | str = "n/a"
            if config.inputs == ("t1w", "flair") and record.flair:
                without_flair = score(predicted("flair"), judged, index).psnr
        baseline = score(mean_pet[label], judged, index)
        rows.append(
            {
                "participant_id": f"sub-{record.subject}",
                "session_id": f"ses-{record.session}" if record.session else "n/a",
                "tracer": label,
                "psnr": model.psnr,
                "mae_suvr": model.mae,
                "psnr_without_flair": without_flair,
                "psnr_mean_pet": baseline.psnr,
                "mae_suvr_mean_pet": baseline.mae,
            }
        )
    return rows


def _finish(
    folder: Path,
    plan: TrainingPlan,
    train: "PreparedDataset",
    judged: "PreparedDataset",
    people: Mapping[str, int],
    steps: int,
) -> None:
    """Score the averaged weights on the people held out and write everything."""
    from rela_bids.model.checkpoint import save_model
    from rela_bids.model.objective import RelaDiffusion
    from rela_bids.model.trainer import averaged_weights

    objective = RelaDiffusion(plan.config, len(plan.tracers))
    network = objective.networks["denoiser"]
    network.load_state_dict(averaged_weights(folder))
    network.eval()
    rows = score_held_out(objective, train, judged, plan.settings)
    columns = ("participant_id", "session_id", "tracer", *METRICS)
    write_text(folder / "metrics.tsv", table(columns, ([row[c] for c in columns] for row in rows)))
    provenance = {
        "trained_on": plan.trained_on,
        "simulated": plan.simulated,
        "people_per_tracer": dict(people),
        "seed": plan.settings.seed,
        "steps": steps,
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
    }
    partial = folder / ".model.safetensors"
    sha256 = save_model(partial, network, plan.config, plan.tracers, provenance)
    card = model_card(plan, provenance, rows, sha256)
    write_text(folder / "model_card.md", card)
    partial.replace(folder / "model.safetensors")
