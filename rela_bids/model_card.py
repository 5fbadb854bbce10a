"""The card that goes with every trained model, and the words and numbers of it for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rela_bids.held_out import Row
    from rela_bids.training import TrainedModel

METHOD = "RelA-Diffusion (arXiv 2602.21345)"
SIMULATED = "Trained on simulated PET: good for trying the software, and for nothing else."
NOT_FOR = """\
- Not for clinical use: no diagnosis, no treatment, no selection of patients for either.
- Not as a stand-in for a measured PET. MRI does not determine amyloid or tau: two people with the
  same MRI may differ in both, and the model can only say what is likely in people like those that
  it was trained on.
- Not for people, scanners or tracers unlike those below without a validation of your own.
"""
PRIVATE = """\
`splits.tsv`, `metrics.tsv`, `figures` and `report.html` tell of single people. Leave them out when
the model is passed on, unless these people have agreed.
"""
SCORES = """\
Means over people, whose sessions are averaged first, with 95% bootstrap intervals over people. PSNR
in dB, SSIM (three-dimensional, Gaussian window) and MAE in SUVR are taken in the brain mask; the
range of PSNR and SSIM is the constant of the tracer above. Synthetic PET was made as for users: the
mean of the samples. "Mean PET" is the mean of the training people's PET, the same for everybody.
Every session is in `metrics.tsv`.
"""
WATCHED_TOO = """\
The training curve was drawn from the same people. Nothing was chosen by it: the last averaged
weights are kept, whatever it looks like.
"""

# Column of metrics.tsv, name in the table, decimal places.
SCORE_COLUMNS = (
    ("psnr", "PSNR", ".1f"),
    ("psnr_mean_pet", "PSNR, mean PET", ".1f"),
    ("psnr_without_flair", "PSNR without FLAIR", ".1f"),
    ("ssim", "SSIM", ".3f"),
    ("ssim_mean_pet", "SSIM, mean PET", ".3f"),
    ("mae_suvr", "MAE", ".3f"),
    ("mae_suvr_mean_pet", "MAE, mean PET", ".3f"),
)
INPUT_NAMES = {"t1w": "T1w", "flair": "FLAIR"}

# An interval from fewer people is too narrow to go by.
FEWEST_PEOPLE = 5


@dataclass(frozen=True)
class Verdict:
    """Whether synthetic PET of a tracer is nearer to the truth than the mean PET, in a sentence."""

    tracer: str
    better: bool
    text: str


def model_card(trained: "TrainedModel") -> str:
    """Markdown: data, people, split, scores, settings, versions, hashes, and what it is not for."""
    simulated = f"**{SIMULATED}**\n\n" if trained.plan.simulated else ""
    verdicts = "".join(f"- {_text(verdict.text)}\n" for verdict in verdicts_of(trained))
    return f"""# {_text(trained.plan.name)}

{made_from(trained)}

{simulated}## What it must not be used for

{NOT_FOR}
## Data

{_text(trained.plan.trained_on)}

{_markdown(people_table(trained))}
The split is by person and is in `splits.tsv`.

{PRIVATE}
## Held-out people

Those of the part "{trained.judged}" of the split.

{_markdown(score_table(trained))}
{verdicts}
{SCORES}
{watched_too(trained)}## Settings

{_markdown([("", ""), *settings_of(trained)])}
The whole configuration is in the metadata of `model.safetensors`.

## Versions and hashes

{_markdown([("", ""), *versions_of(trained)])}
The hash of the data is that of the lines "session, image, SHA-256 of its prepared file", sorted.
"""


Table = list[tuple[str, ...]]


def made_from(trained: "TrainedModel") -> str:
    """What the model does, in a sentence."""
    inputs = " and ".join(INPUT_NAMES[name] for name in trained.plan.config.inputs)
    return f"Synthetic PET from {inputs}, by {METHOD}."


def people_table(trained: "TrainedModel") -> Table:
    """People and sessions of each tracer and part; the first row has the names of the columns."""
    parts = ("train", "validation", "test")
    head = ("tracer", "name", *parts, "reference region", "range, SUVR")
    provenance = trained.provenance
    rows = []
    for label, tracer in trained.plan.tracers.items():
        people, sessions = provenance["people"][label], provenance["sessions"][label]
        counts = (_people(people[part], sessions[part]) for part in parts)
        region, scale = tracer.reference_region, f"{tracer.suvr_scale:g}"
        rows.append((label, tracer.name, *counts, region, scale))
    return [head, *rows]


def _people(people: int, sessions: int) -> str:
    return str(people) if people == sessions else f"{people} ({sessions} sessions)"


def score_table(trained: "TrainedModel") -> Table:
    """Means and intervals for each tracer; the first row has the names of the columns."""
    lines = []
    for label in trained.plan.tracers:
        rows = [row for row in trained.scores if row["tracer"] == label]
        people = len({row["participant_id"] for row in rows})
        cells = (
            _mean_and_interval(over_people(rows, column), digits)
            for column, _, digits in SCORE_COLUMNS
        )
        lines.append((label, _people(people, len(rows)), *cells))
    return [("tracer", "people", *(name for _, name, _ in SCORE_COLUMNS)), *lines]


def over_people(rows: Sequence["Row"], column: str) -> list[float]:
    """One value for each person who has any, whose sessions are averaged."""
    by_person: dict[str, list[float]] = {}
    for row in rows:
        if row[column] != "n/a":
            by_person.setdefault(row["participant_id"], []).append(row[column])
    return [float(np.mean(sessions)) for sessions in by_person.values()]


def _mean_and_interval(values: Sequence[float], digits: str) -> str:
    """``22.1 [21.0, 23.2]``; no interval for one person."""
    from rela_bids.quantification import bootstrap_over_people

    if not values:
        return "n/a"
    mean = f"{np.mean(values):{digits}}"
    if len(values) == 1:
        return mean
    low, high = bootstrap_over_people(np.mean, values)
    return f"{mean} [{low:{digits}}, {high:{digits}}]"


def verdicts_of(trained: "TrainedModel") -> list[Verdict]:
    """For each tracer, by the PSNR of the same people with either."""
    return [
        _verdict(
            f"{tracer.name} ({label})",
            label,
            [row for row in trained.scores if row["tracer"] == label],
            trained.judged,
        )
        for label, tracer in trained.plan.tracers.items()
    ]


def _verdict(name: str, label: str, rows: Sequence["Row"], part: str) -> Verdict:
    from rela_bids.quantification import bootstrap_over_people

    if not rows:
        return Verdict(label, False, f'{name}: not scored, nobody in "{part}" has it.')
    pairs = (over_people(rows, column) for column in ("psnr", "psnr_mean_pet"))
    gains = [ours - baseline for ours, baseline in zip(*pairs, strict=True)]
    people = "1 person" if len(gains) == 1 else f"{len(gains)} people"
    by = f"PSNR {_mean_and_interval(gains, '+.2f')} dB against the mean PET, {people}."
    if np.mean(gains) <= 0:
        return Verdict(label, False, f"{name}: does not beat the mean PET. {by}")
    if len(gains) < FEWEST_PEOPLE or bootstrap_over_people(np.mean, gains)[0] <= 0:
        return Verdict(label, False, f"{name}: not shown to beat the mean PET. {by}")
    return Verdict(label, True, f"{name}: beats the mean PET. {by}")


def watched_too(trained: "TrainedModel") -> str:
    """What to know of the training curve where it is of the people who were scored."""
    return f"{WATCHED_TOO}\n" if trained.judged == trained.watched else ""


def settings_of(trained: "TrainedModel") -> Table:
    """Names and values of the settings that tell most, those of the trainer among them."""
    config, settings = trained.plan.config, trained.plan.settings
    loss, optimiser = config.loss, config.optimiser
    given = {name: value for name, value in asdict(settings).items() if value is not None}
    trainer = ", ".join(f"{name} {value}" for name, value in given.items())
    return [
        ("preset", config.preset),
        ("grid", f"{_times(config.grid.shape)} voxels of {config.grid.voxel_size:g} mm"),
        ("intensities", config.intensity),
        ("network", f"{config.network.architecture}, channels {_listed(config.network.channels)}"),
        ("prediction", config.diffusion.prediction),
        ("adversarial loss", f"{loss.adversarial}, weight {loss.adversarial_weight:g}"),
        ("learning rate", f"{optimiser.generator_lr:g}, {optimiser.schedule}"),
        ("steps of training", f"{trained.provenance['steps']}, batches of {optimiser.batch_size}"),
        ("time of training", f"{trained.seconds:.0f} s on {trained.provenance['device']}"),
        ("sampling", f"{config.n_samples} samples of {config.sampling_steps} steps"),
        ("seed", str(settings.seed)),
        ("trainer", trainer),
    ]


def versions_of(trained: "TrainedModel") -> Table:
    """Names and values of hashes and versions."""
    return [
        ("SHA-256 of `model.safetensors`", trained.sha256),
        ("SHA-256 of the data", trained.provenance["data_sha256"]),
        *trained.provenance["versions"].items(),
    ]


def whole_configuration(config: Mapping[str, Any], prefix: str = "") -> Table:
    """A nested configuration as names and values.

    >>> whole_configuration({"grid": {"shape": (8, 8, 8)}, "n_samples": 2})
    [('grid.shape', '8, 8, 8'), ('n_samples', '2')]
    """
    rows: Table = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            rows += whole_configuration(value, f"{prefix}{name}.")
        else:
            shown = _listed(value) if isinstance(value, list | tuple) else str(value)
            rows.append((prefix + name, shown))
    return rows


def _times(values: Sequence[object]) -> str:
    return " x ".join(map(str, values))


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _markdown(table: Table) -> str:
    head, *rows = table
    lines = [head, ("---",) * len(head), *rows]
    cells = ([_text(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _text(words: str) -> str:
    """Words of others, which Markdown would otherwise pass on as HTML."""
    return words.replace("<", "&lt;")
