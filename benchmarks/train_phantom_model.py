"""Train the model that comes with the package, on phantoms: render, train, install.

    python benchmarks/train_phantom_model.py --folder FOLDER --people 400 --max-time 04:00:00 \
        --install

Started again with the same options after an interruption, it goes on where it was.
"""

import argparse
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

import rela_bids
from rela_bids.model.budget import TrainSettings
from rela_bids.model.dataset import read_manifest
from rela_bids.model.presets import PRESETS
from rela_bids.phantom.training import write_training_examples
from rela_bids.tracers import TRACERS
from rela_bids.training import TrainingPlan, train_model

NAME = "phantom"
CONFIG = PRESETS["fast"]
HELD_OUT = 12
BUNDLED = Path(rela_bids.__file__).parent / "data" / f"{NAME}.safetensors"


def main() -> None:
    """Run the command line."""
    options = _parser().parse_args()
    prepared = options.folder / f"examples-seed{options.seed}"
    for _ in _render(prepared, options):
        pass
    manifest = read_manifest(prepared)[: options.people]
    subjects = [record.subject for record in manifest]
    held_out = min(HELD_OUT, len(subjects) // 4)
    plan = TrainingPlan(
        name=NAME,
        config=CONFIG,
        tracers=TRACERS,
        settings=TrainSettings(
            seed=options.seed, max_seconds=options.max_time, device="cpu", threads=options.threads
        ),
        trained_on=f"{len(subjects) - held_out} phantoms of rela_bids, no measured image",
        simulated=True,
        split={s: "test" if i < held_out else "train" for i, s in enumerate(subjects)},
    )
    folder = train_model(manifest, plan, options.folder, resume=True)
    print((folder / "model_card.md").read_text())
    if options.install:
        shutil.copyfile(folder / "model.safetensors", BUNDLED)
        print(f"installed as {BUNDLED}")


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
        tracers=list(TRACERS.values()),
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
