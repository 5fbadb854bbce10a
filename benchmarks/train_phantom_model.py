"""Train the model that comes with the package, on phantoms: render, train, install.

    python benchmarks/train_phantom_model.py --folder FOLDER --people 400 --max-time 04:00:00 \
        --install

Started again with the same options after an interruption, it goes on where it was.
"""

import argparse
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

import rela_bids
from rela_bids.model.budget import TrainSettings
from rela_bids.model.checkpoint import save_model
from rela_bids.model.dataset import (
    Example,
    PreparedDataset,
    Record,
    read_manifest,
    write_example,
)
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS
from rela_bids.model.trainer import averaged_weights, fit
from rela_bids.phantom.training import write_training_examples
from rela_bids.tracers import TRACERS
from rela_bids.training import TrainingPlan, train_model
from rela_bids.volumes import Grid

NAME = "phantom"
CONFIG = PRESETS["fast"]
TRACED = ("11CPIB", "18FAV45", "18FAV1451", "11CPBR28", "18FFDG")
TRACERS_OF_MODEL = {label: TRACERS[label] for label in TRACED}
# People held out, and how many of them, the first, are scored; the others draw the curve.
HELD_OUT, SCORED = 20, 10
BUNDLED = Path(rela_bids.__file__).parent / "data" / f"{NAME}.safetensors"

# The core is trained on volumes half as fine, by the energy score alone; then the whole.
COARSE_SHARE = 0.4


def main() -> None:
    """Run the command line."""
    options = _parser().parse_args()
    prepared = options.folder / f"examples-seed{options.seed}"
    for _ in _render(prepared, options):
        pass
    records = read_manifest(prepared)[: options.people]
    coarse = [coarsened(record, options.folder / "coarse") for record in records]
    start = _train_core(coarse, options)
    folder = _train(records, options, start)
    print((folder / "model_card.md").read_text())
    if options.install:
        shutil.copyfile(folder / "model.safetensors", BUNDLED)
        shutil.copyfile(folder / "model_card.md", BUNDLED.with_suffix(".md"))
        print(f"installed as {BUNDLED}")


def _train_core(records: list[Record], options: argparse.Namespace) -> Path:
    """Train the core on coarse volumes for its share of the time; returns its file."""
    config = replace(
        CONFIG,
        grid=coarser(CONFIG.grid),
        network=replace(CONFIG.network, refined=False),
        loss=replace(CONFIG.loss, adversarial="none"),
    )
    folder = options.folder / "models" / "core"
    file = folder / "model.safetensors"
    if file.exists():
        return file
    held_out, train = (
        PreparedDataset(part, config, TRACERS_OF_MODEL)
        for part in (records[: _held_out(records)], records[_held_out(records) :])
    )
    outcome = fit(train, held_out, folder, _settings(options, COARSE_SHARE), resume=True)
    if not outcome.finished:
        raise SystemExit(1)
    network = build_denoiser(config.network, len(TRACERS_OF_MODEL))
    network.load_state_dict(averaged_weights(folder))
    save_model(file, network, config, TRACERS_OF_MODEL, {})
    return file


def _train(records: list[Record], options: argparse.Namespace, start: Path) -> Path:
    """Train all of it for the rest of the time; returns the model's folder."""
    subjects = [record.subject for record in records]
    held_out = _held_out(records)
    plan = TrainingPlan(
        name=NAME,
        config=CONFIG,
        tracers=TRACERS_OF_MODEL,
        settings=_settings(options, 1 - COARSE_SHARE),
        trained_on=f"{len(subjects) - held_out} digital phantoms with simulated PET",
        simulated=True,
        split={s: _part(i, held_out) for i, s in enumerate(subjects)},
        start_from=start,
    )
    done = options.folder / "models" / NAME
    if (done / "model.safetensors").exists():
        return done
    return train_model(records, plan, options.folder, resume=True)


def _held_out(records: list[Record]) -> int:
    """The first so many are held out."""
    return min(HELD_OUT, len(records) // 4)


def _part(index: int, held_out: int) -> str:
    """The part of the split that a phantom belongs to."""
    if index >= held_out:
        return "train"
    return "test" if index < max(1, held_out * SCORED // HELD_OUT) else "validation"


def _settings(options: argparse.Namespace, share: float) -> TrainSettings:
    return TrainSettings(
        seed=options.seed,
        max_seconds=options.max_time * share,
        device="cpu",
        threads=options.threads,
    )


def coarser(grid: Grid) -> Grid:
    """The grid of blocks of 2 x 2 x 2 voxels."""
    origin = tuple(o + grid.voxel_size / 2 for o in grid.origin)
    return Grid(tuple(n // 2 for n in grid.shape), 2 * grid.voxel_size, origin)


def coarsened(record: Record, folder: Path) -> Record:
    """An example averaged over blocks of 2 x 2 x 2 voxels."""

    def halve(kind: str) -> np.ndarray:
        x, y, z = (n // 2 for n in record.shape)
        return np.asarray(record.load(kind), np.float32).reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))

    mask = halve("mask") > 0.5
    example = Example(
        record.subject,
        record.session,
        halve("t1w") * mask,
        halve("flair") * mask if record.flair else None,
        mask,
        {label: halve(f"pet-{label}") * mask for label in record.tracers},
    )
    if not (folder / record.name).exists():
        write_example(folder, example)
    return replace(record, shape=mask.shape, folder=folder / record.name)


def _render(prepared: Path, options: argparse.Namespace) -> Iterator[object]:
    """Render the phantoms that are not there yet, one process for each thread."""
    there = {path.parent.name for path in prepared.glob("[!.]*/example.json")}
    missing = [i for i in range(options.people) if f"sub-phantom{i:05d}" not in there]
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_render_one, prepared, options.seed, i) for i in missing]
        for task in tqdm(tasks, desc="rendering", unit="phantom", disable=not tasks):
            yield task.result()


def _render_one(prepared: Path, seed: int, index: int) -> None:
    write_training_examples(
        prepared,
        n=1,
        seed=seed,
        tracers=list(TRACERS_OF_MODEL.values()),
        grid=CONFIG.grid,
        first=index,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for examples and model")
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--max-time", type=_seconds, required=True, metavar="HH:MM:SS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--install", action="store_true", help="into the package")
    return parser


def _seconds(text: str) -> float:
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    return float(hours * 3600 + minutes * 60 + seconds)


if __name__ == "__main__":
    main()
