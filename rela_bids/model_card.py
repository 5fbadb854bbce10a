"""The card that goes with every trained model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rela_bids.training import TrainingPlan

NOT_FOR = """\
- Not for clinical use: no diagnosis, no treatment, no selection of patients for either.
- Not as a stand-in for a measured PET. MRI does not determine amyloid or tau: two people with the
  same MRI may differ in both, and the model can only say what is likely in people like those that
  it was trained on.
- Not for people, scanners or tracers unlike those below without a validation of your own.
"""


def model_card(
    plan: "TrainingPlan",
    provenance: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    sha256: str,
) -> str:
    """Markdown: data, people, split, settings, versions, hash, scores, and what it is not for.

    `rows` are those of `rela_bids.training.score_held_out`.
    """
    config, settings = plan.config, plan.settings
    grid = f"{' x '.join(map(str, config.grid.shape))} voxels of {config.grid.voxel_size:g} mm"
    simulated = (
        "**Trained on simulated PET: good for trying the software, and for nothing else.**\n\n"
        if plan.simulated
        else ""
    )
    return f"""# {plan.name}

Synthetic PET from {" and ".join(config.inputs)}, by RelA-Diffusion (arXiv 2602.21345).

{simulated}## What it must not be used for

{NOT_FOR}
## Data

{plan.trained_on}

{_tracer_table(plan, provenance)}
The split is by person and is in `splits.tsv`.

## Held-out people

Means over people, with 95% bootstrap intervals over people. PSNR in dB and MAE in SUVR, both in
the brain mask; the range of the PSNR is the constant of the tracer above. Every person is in
`metrics.tsv`. "Mean PET" is the mean of the training people's PET, the same for everybody.

{_score_table(rows)}
## Settings

| | |
|---|---|
| preset | {config.preset} |
| grid | {grid} |
| intensities | {config.intensity} |
| adversarial loss | {config.loss.adversarial}, weight {config.loss.adversarial_weight:g} |
| steps of training | {provenance["steps"]}, batches of {config.optimiser.batch_size} |
| seed | {settings.seed} |
| sampling | {config.n_samples} samples of {config.sampling_steps} steps |
| versions | {", ".join(f"{name} {v}" for name, v in provenance["versions"].items())} |
| SHA-256 of `model.safetensors` | `{sha256}` |

The whole configuration is in the metadata of `model.safetensors`.
"""


def _tracer_table(plan: "TrainingPlan", provenance: Mapping[str, Any]) -> str:
    lines = ["| tracer | name | people | reference region | range, SUVR |", "|---|---|---|---|---|"]
    for label, tracer in plan.tracers.items():
        people = provenance["people_per_tracer"][label]
        lines.append(
            f"| {label} | {tracer.name} | {people} | {tracer.reference_region} | "
            f"{tracer.suvr_scale:g} |"
        )
    return "\n".join(lines) + "\n"


def _score_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| tracer | people | PSNR | PSNR without FLAIR | PSNR, mean PET | MAE | MAE, mean PET |",
        "|---|---|---|---|---|---|---|",
    ]
    columns = ("psnr", "psnr_without_flair", "psnr_mean_pet", "mae_suvr", "mae_suvr_mean_pet")
    for label in dict.fromkeys(row["tracer"] for row in rows):
        chosen = [row for row in rows if row["tracer"] == label]
        people = len({row["participant_id"] for row in chosen})
        cells = [_mean_and_interval(chosen, column) for column in columns]
        lines.append(f"| {label} | {people} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean_and_interval(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """``22.1 [21.0, 23.2]`` over people, whose sessions are averaged first."""
    from rela_bids.model.metrics import bootstrap_interval

    by_person: dict[str, list[float]] = {}
    for row in rows:
        if row[column] != "n/a":
            by_person.setdefault(row["participant_id"], []).append(row[column])
    if not by_person:
        return "n/a"
    values = [float(np.mean(sessions)) for sessions in by_person.values()]
    if len(values) == 1:
        return f"{values[0]:.3g}"
    low, high = bootstrap_interval(values)
    return f"{np.mean(values):.3g} [{low:.3g}, {high:.3g}]"
