"""The training curve: TSV, TensorBoard, and a progress bar or, without a terminal, some lines."""

import csv
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rela_bids.atomic import write_text

CURVE = "training.tsv"
SECONDS_BETWEEN_LINES = 60.0


class TrainingCurve:
    """Losses and held-out PSNR by step; a context manager.

    Rows beyond `step`, which a killed run wrote after its last checkpoint, are dropped. With
    `active` False, in all processes but the first, it only averages.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], step: int, total: int | None, *, active: bool
    ):
        self.path, self.step, self.total, self.active = folder / CURVE, step, total, active
        self.terms = [column for column in columns if "psnr_" not in column]
        self.columns = ["step", "epoch", "seconds", "learning_rate", *columns]
        self.sums: dict[str, Tensor | float] = {}
        self.steps = 0

    def __enter__(self) -> "TrainingCurve":
        if self.active:
            rows = read_curve(self.path) if self.path.exists() and self.step else []
            kept = [row for row in rows if int(row["step"]) <= self.step]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = [self.columns, *([row[c] for c in self.columns] for row in kept)]
            text = "".join("\t".join(line) + "\n" for line in lines)
            write_text(self.path, text)
            self.events = SummaryWriter(self.path.parent / "tensorboard", purge_step=self.step + 1)
            self.bar = tqdm(total=self.total, initial=self.step, unit="step", disable=None)
            self.last_line = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.bar.close()
            self.events.close()

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add one step's losses to the means."""
        for name, value in terms.items():
            if name in self.terms:
                self.sums[name] = self.sums.get(name, 0.0) + value.detach()

    def advance(self) -> None:
        """One step is done."""
        self.steps += 1
        if self.active:
            self.bar.update()

    def means(self) -> dict[str, float]:
        """Mean losses since this was last asked."""
        means = {name: float(value) / max(self.steps, 1) for name, value in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row."""
        if not self.active:
            return
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in values.items()}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(
                file, self.columns, restval="n/a", delimiter="\t", lineterminator="\n"
            ).writerow(row)
        for name, value in values.items():
            self.events.add_scalar(name, value, step)
        self._show(step, values)

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        shown = {
            name.removeprefix("denoiser_"): f"{value:.4g}"
            for name, value in values.items()
            if name.startswith(("denoiser_", "psnr_", "mean_pet_")) and math.isfinite(value)
        }
        self.bar.set_postfix(shown)
        if self.bar.disable and time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            of = f" of {self.total}" if self.total else f", {values['seconds']:.0f} s"
            told = ", ".join(f"{name} {value}" for name, value in shown.items())
            print(f"training: step {step}{of}: {told}", file=sys.stderr, flush=True)
            self.last_line = time.monotonic()


def read_curve(path: Path) -> list[dict[str, str]]:
    """The rows of a training curve."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
