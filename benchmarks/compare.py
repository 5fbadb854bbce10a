"""`fast` against others: same phantoms, split, grid and time of training; one table.

    python benchmarks/compare.py --folder FOLDER --out docs/benchmarks.md

renders phantoms, trains each system for the same time, scores it on people held out, and writes
FOLDER/table.md, with --out also into the page, between its marks. Started again with the same
options, it goes on where it was; `--systems` limits it to some.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from processes import in_a_process_of_its_own
from scores import score_samples
from systems import FAST, SYSTEMS, draw_samples, pairs_of_first
from tables import comparison_table, insert_table
from tqdm import tqdm

from rela_bids.atomic import write_text
from rela_bids.model.budget import TrainSettings
from rela_bids.model.dataset import PreparedDataset, read_manifest
from rela_bids.model.presets import ModelConfig
from rela_bids.model.trainer import averaged_weights, fit
from rela_bids.phantom.training import write_training_examples
from rela_bids.tracers import TRACERS
from rela_bids.volumes import Grid

TRACED = ("18FAV45", "18FAV1451", "11CPBR28", "18FFDG")
ROUNDS_OF_TIMING = 3


@dataclass(frozen=True)
class Setting:
    """What is the same for all systems."""

    folder: Path
    people: int
    held_out: int
    voxel_size: float
    seconds: float
    seed: int
    tracers: tuple[str, ...]
    prepared: Path | None = None

    @property
    def grid(self) -> Grid:
        """That of `fast`, in other voxels."""
        return FAST.grid.with_voxel_size(self.voxel_size, multiple_of=FAST.network.stride)

    @property
    def examples(self) -> Path:
        """Where the phantoms are."""
        return self.prepared or self.folder / f"examples-{self.voxel_size:g}mm-seed{self.seed}"

    def parts(self, config: ModelConfig) -> tuple[PreparedDataset, PreparedDataset]:
        """Training people, and those held out, who are the first."""
        tracers = {label: TRACERS[label] for label in self.tracers}
        records = read_manifest(self.examples)[: self.people]
        held_out, train = records[: self.held_out], records[self.held_out :]
        return PreparedDataset(train, config, tracers), PreparedDataset(held_out, config, tracers)


def main() -> None:
    """Run the command line."""
    options = _parser().parse_args()
    setting = Setting(
        folder=options.folder,
        people=options.people,
        held_out=options.held_out,
        voxel_size=options.voxel_size,
        seconds=options.seconds,
        seed=options.seed,
        tracers=tuple(options.tracers),
        prepared=options.examples,
    )
    if setting.prepared is None:
        render(setting)
    for name in options.systems:
        in_a_process_of_its_own(train, setting, name)
        in_a_process_of_its_own(score, setting, name)
    in_a_process_of_its_own(score_mean_pet, setting)
    finished = [n for n in ("mean-pet", *SYSTEMS) if (scores_file(setting, n)).exists()]
    in_a_process_of_its_own(time_together, setting, finished)
    table = comparison_table(
        {name: json.loads(scores_file(setting, name).read_text()) for name in finished},
        json.loads((setting.folder / "times.json").read_text()),
        conditions(setting),
    )
    write_text(setting.folder / "table.md", table)
    print(table)
    if options.out:
        insert_table(options.out, "comparison", table)


def conditions(setting: Setting) -> str:
    """What the numbers were measured under, in a sentence."""
    x, y, z = setting.grid.shape
    return (
        f"{setting.people - setting.held_out} phantoms to train on and {setting.held_out} held "
        f"out, {len(setting.tracers)} tracers ({', '.join(setting.tracers)}), {x} x {y} x {z} "
        f"voxels of {setting.voxel_size:g} mm, {setting.seconds:.0f} s of training for each on "
        f"one thread, seed {setting.seed}, torch {torch.__version__}."
    )


def render(setting: Setting) -> None:
    """The phantoms that are not there yet."""
    tracers = [TRACERS[label] for label in setting.tracers]
    for index in tqdm(range(setting.people), "rendering", unit="phantom", disable=None):
        if not (setting.examples / f"sub-phantom{index:05d}" / "example.json").exists():
            write_training_examples(
                setting.examples,
                n=1,
                seed=setting.seed,
                tracers=tracers,
                grid=setting.grid,
                first=index,
            )


def train(setting: Setting, name: str) -> None:
    """Train a system, or go on with it."""
    folder = setting.folder / "systems" / name
    if (folder / "trained.json").exists():
        return
    system = SYSTEMS[name]
    data, held_out = setting.parts(system.config(setting.grid))
    settings = TrainSettings(
        seed=setting.seed,
        max_seconds=setting.seconds,
        device="cpu",
        threads=1,
        log_every=50,
        validate_every=10**9,
    )
    outcome = fit(data, held_out, folder, settings, resume=True, objective=system.objective)
    if not outcome.finished:
        raise SystemExit(1)
    write_text(folder / "trained.json", json.dumps({"steps": outcome.step}))


def scores_file(setting: Setting, name: str) -> Path:
    """Where the scores of a system are."""
    return setting.folder / "systems" / name / "scores.json"


def _trained(setting: Setting, name: str, held_out: PreparedDataset) -> tuple[Any, Any]:
    objective = SYSTEMS[name].objective(held_out.config, len(setting.tracers))
    denoiser = objective.networks["denoiser"]
    denoiser.load_state_dict(averaged_weights(setting.folder / "systems" / name))
    return objective, denoiser.eval().requires_grad_(False)


def score(setting: Setting, name: str) -> None:
    """Sample each held-out pair and keep its scores."""
    file, system = scores_file(setting, name), SYSTEMS[name]
    if file.exists():
        return
    torch.set_num_threads(1)
    data, held_out = setting.parts(system.config(setting.grid))
    objective, denoiser = _trained(setting, name, held_out)
    bounds, rows = data.upper_bounds(), []
    for index in tqdm(pairs_of_first(held_out, system.people), name, unit="PET", disable=None):
        if not held_out[index]["mri"].any():
            continue  # A person without FLAIR, where FLAIR is all that the system is given.
        samples = draw_samples(
            objective,
            denoiser,
            held_out,
            index,
            bounds[held_out.pairs[index][1]],
            system.sampling,
            setting.seed,
        )
        rows.append(_row(held_out, index, samples))
    k, steps = system.sampling
    trained = json.loads((file.parent / "trained.json").read_text())
    kept = {
        "text": system.text,
        "rows": rows,
        "samples": k,
        "passes": k * steps,
        "steps": trained["steps"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    write_text(file, json.dumps(kept))


def score_mean_pet(setting: Setting) -> None:
    """The mean training PET, the same for everybody."""
    file = scores_file(setting, "mean-pet")
    if file.exists():
        return
    data, held_out = setting.parts(SYSTEMS["fast"].config(setting.grid))
    mean = data.mean_pet()
    rows = []
    for index, (record, label) in enumerate(held_out.pairs):
        row = _row(held_out, index, np.where(record.load("mask"), mean[label], 0)[None])
        # Its regions differ between people by the edge of their masks, which is no prediction.
        rows.append({k: v for k, v in row.items() if not k.startswith("regional")})
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {"text": "mean training PET", "rows": rows, "samples": 1, "passes": 0, "steps": 0}
    write_text(file, json.dumps(kept))


def _row(data: PreparedDataset, index: int, samples: np.ndarray) -> dict[str, Any]:
    record, label = data.pairs[index]
    mask, scale = np.asarray(record.load("mask")), data.tracers[label].suvr_scale
    scores = score_samples(samples, data.suvr(index), mask, scale, data.config.grid)
    return {"person": record.name, "tracer": label, **scores}


def time_together(setting: Setting, names: Sequence[str]) -> None:
    """Processor time of one volume of each system, in turns, so that all meet the same machine."""
    torch.set_num_threads(1)
    runs: dict[str, list[float]] = {name: [] for name in names if name in SYSTEMS}
    ready = {}
    for name in runs:
        _, held_out = setting.parts(SYSTEMS[name].config(setting.grid))
        ready[name] = (*_trained(setting, name, held_out), held_out)
    for _ in range(ROUNDS_OF_TIMING):
        for name, (objective, denoiser, held_out) in ready.items():
            start = time.process_time()
            draw_samples(
                objective, denoiser, held_out, 0, 1.0, SYSTEMS[name].sampling, setting.seed
            )
            runs[name].append(time.process_time() - start)
    times = {name: statistics.median(seconds) for name, seconds in runs.items()}
    write_text(setting.folder / "times.json", json.dumps(times))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for phantoms and systems")
    parser.add_argument("--examples", type=Path, help="phantoms of this grid, in place of new ones")
    parser.add_argument("--out", type=Path, help="page with marks to put the table between")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--people", type=int, default=320)
    parser.add_argument("--held-out", type=int, default=20)
    parser.add_argument("--voxel-size", type=float, default=4.0, help="mm")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training for each system")
    parser.add_argument("--tracers", nargs="+", choices=TRACERS, default=TRACED)
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
