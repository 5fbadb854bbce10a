"""Tables of people who do not exist, as the participant level leaves them, without any image.

For trying out the group level on as many sessions as wanted.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rela_bids.templates import atlas_names
from rela_bids.tracers import TRACERS

ATLAS = "DesikanKilliany"
COMPOSITE = "global-composite"
SUVR_HEAD = "index\tregion\tvolume_ml\tmean\tstd\tscale\tscale_value\n"
METRICS_HEAD = (
    "psnr_brain\tpsnr_volume\tssim_brain\tssim_volume\tmae_brain\tmae_volume\tdata_range\n"
)


@dataclass(frozen=True)
class MadeUp:
    """How tables are made up.

    Attributes
    ----------
    fidelity : how much of a person's difference from the others the model sees, 0 to 1.
    bias : of every synthetic SUVR.
    sessions : labels; empty for no session level.
    measured : whether there is a measured PET.
    """

    tracers: Sequence[str] = ("18FAV45",)
    sessions: Sequence[str] = ()
    fidelity: float = 0.6
    bias: float = 0.0
    measured: bool = True
    model: str = "made-up"
    model_sha256: str = "0" * 64
    simulated: bool = True
    seed: int = 0


def write_people(out: Path, labels: Sequence[str], made_up: MadeUp) -> None:
    """Write the tables of people into `out`, a folder of derivatives; the same for the same seed.

    What is true of a person depends on the label and the seed; what the model makes of it, on the
    model's hash too.
    """
    for label in labels:
        for session in made_up.sessions or (None,):
            for tracer in made_up.tracers:
                _write_scan(out, label, session, tracer, made_up)


def write_participants(bids_dir: Path, labels: Sequence[str], seed: int = 0) -> None:
    """Write ``participants.tsv`` with the ages of `write_people`'s people, and the description."""
    bids_dir.mkdir(parents=True, exist_ok=True)
    rows = [f"sub-{label}\t{_age(_generator(label, seed)):.1f}\n" for label in labels]
    (bids_dir / "participants.tsv").write_text("participant_id\tage\n" + "".join(rows), "utf-8")
    description = {"Name": "People who do not exist", "BIDSVersion": "1.10.0"}
    (bids_dir / "dataset_description.json").write_text(json.dumps(description), "utf-8")


def _generator(*key: object) -> np.random.Generator:
    return np.random.default_rng(list(repr(key).encode()))


def _age(generator: np.random.Generator) -> float:
    return float(generator.uniform(55, 90))


def _write_scan(out: Path, label: str, session: str | None, tracer: str, made_up: MadeUp) -> None:
    names = {index: name for index, name in atlas_names().items() if index > 0}
    person = _generator(label, made_up.seed)
    age = _age(person)
    burden = np.clip(person.normal((age - 60) / 60, 0.3), 0, 1)
    size = person.normal(1, 0.1)
    usual = _generator(tracer, "usual").uniform(0.9, 1.4, len(names))
    load = _generator(tracer, "load").uniform(0, 1, len(names))
    visit = _generator(label, session, tracer, made_up.seed)
    true = usual + load * burden + visit.normal(0, 0.05, len(names))
    error = _generator(label, session, tracer, made_up.seed, made_up.model_sha256)
    seen = usual + load * (0.4 + made_up.fidelity * (burden - 0.4)) + made_up.bias
    synthetic = seen + error.normal(0, 0.05, len(names))
    volumes = size * _generator("volumes").uniform(2, 12, len(names))
    volumes *= 1 - 0.003 * (age - 55) + person.normal(0, 0.03, len(names))
    parts = [f"sub-{label}"] + ([f"ses-{session}"] if session else [])
    stem = out.joinpath(*parts, "pet") / "_".join([*parts, f"trc-{tracer}"])
    stem.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"synth": (synthetic, 0.04)} | ({"measured": (true, None)} if made_up.measured else {})
    for kind, (means, spread) in kinds.items():
        text = _table(names, volumes, means, spread, tracer)
        path = stem.with_name(f"{stem.name}_seg-{ATLAS}_desc-{kind}_suvr.tsv")
        path.write_text(text, "utf-8")
        sidecar = _sidecar(tracer, made_up, synthetic=kind == "synth")
        path.with_suffix(".json").write_text(json.dumps(sidecar), "utf-8")
    if made_up.measured:
        mae = float(np.abs(synthetic - true).mean())
        psnr = 20 * np.log10(3 / (1.5 * mae))
        row = (psnr, psnr + 6, 1 - mae, 1 - mae / 4, mae, mae / 4, 3.0)
        path = stem.with_name(f"{stem.name}_space-T1w_desc-agreement_metrics.tsv")
        path.write_text(METRICS_HEAD + "\t".join(f"{value:.6g}" for value in row) + "\n", "utf-8")


def _table(
    names: dict[int, str],
    volumes: np.ndarray,
    means: np.ndarray,
    spread: float | None,
    tracer: str,
) -> str:
    std = "n/a" if spread is None else f"{spread:.6g}"
    rows = [
        f"{index}\t{name}\t{volume:.6g}\t{mean:.6g}\t{std}\tn/a\tn/a\n"
        for (index, name), volume, mean in zip(names.items(), volumes, means, strict=True)
    ]
    cortex = np.array([name.startswith("ctx-") for name in names.values()])
    composite = float(np.average(means[cortex], weights=volumes[cortex]))
    conversion = TRACERS[tracer].conversion
    on_scale = "n/a\tn/a"
    if conversion:
        on_scale = f"{conversion.scale}\t{conversion.slope * composite + conversion.intercept:.6g}"
    rows.append(
        f"n/a\t{COMPOSITE}\t{volumes[cortex].sum():.6g}\t{composite:.6g}\t{std}\t{on_scale}\n"
    )
    return SUVR_HEAD + "".join(rows)


def _sidecar(tracer: str, made_up: MadeUp, *, synthetic: bool) -> dict[str, object]:
    known = TRACERS[tracer]
    content: dict[str, object] = {
        "Synthetic": synthetic,
        "Units": "SUVR",
        "ReferenceRegion": known.reference_region,
        "TracerName": known.name,
        "AtlasName": "Desikan-Killiany",
    }
    if not synthetic:
        return content
    return content | {
        "Model": {
            "Name": made_up.model,
            "SHA256": made_up.model_sha256,
            "TrainedOn": "no PET at all: these numbers are made up",
            "TrainedOnSimulatedPET": made_up.simulated,
        },
        "Samples": 8,
        "SamplingSteps": 4,
    }
