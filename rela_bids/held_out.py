"""A trained model on people that it has not seen, sampled as users will sample it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rela_bids.model.inference import Sampling, SyntheticPET, sample_session
from rela_bids.templates import reference_region_on
from rela_bids.volumes import Array

if TYPE_CHECKING:
    from rela_bids.model.budget import TrainSettings
    from rela_bids.model.checkpoint import Model
    from rela_bids.model.dataset import PreparedDataset

METRICS = ("psnr", "ssim", "mae_suvr")
COLUMNS = (
    "participant_id",
    "session_id",
    "tracer",
    *METRICS,
    "psnr_without_flair",
    *(f"{metric}_mean_pet" for metric in METRICS),
)

# Synthetic PET kept in memory, so that few held-out people need not be sampled again to be shown.
KEPT = 16

Row = Mapping[str, Any]
Sampler = Callable[[int], SyntheticPET]


@dataclass(frozen=True)
class HeldOut:
    """A held-out pair to look at; arrays (X, Y, Z) on the model grid, RAS+.

    Attributes
    ----------
    rank : ``best``, ``median`` or ``worst`` PSNR of its tracer; ``only`` where there is one pair.
    scores : its row of metrics, keys as `COLUMNS`.
    t1w : the scanner's units, zero outside the brain.
    measured, synthetic, std : SUVR; `std` is that of the samples.
    """

    rank: str
    scores: Row
    mask: NDArray[np.bool_]
    t1w: Array
    measured: Array
    synthetic: Array
    std: Array


def judge(
    model: "Model",
    train: "PreparedDataset",
    judged: "PreparedDataset",
    settings: "TrainSettings",
) -> tuple[list[Row], list[HeldOut]]:
    """The metrics of each pair of `judged`, and for each tracer those to look at.

    Metrics are in the brain: dB, structural similarity, SUVR. ``_mean_pet`` are those of the mean
    PET of `train`, the same for everybody; without FLAIR, the same model is given the T1w alone.
    """
    from rela_bids.model.runtime import cpu_threads

    sampler = lru_cache(KEPT)(partial(_sample, model, judged, settings))
    without_flair = partial(_sample, model, judged, settings, without_flair=True)
    with cpu_threads(settings.threads):
        rows = list(_score(judged, train.mean_pet(), sampler, without_flair))
        shown = [_show(judged, index, rank, rows, sampler) for index, rank in ranked(rows)]
    return rows, shown


def ranked(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """Indices of the best, the median and the worst PSNR of each tracer, in this order."""
    chosen = []
    for label in dict.fromkeys(row["tracer"] for row in rows):
        order = sorted(
            (i for i, row in enumerate(rows) if row["tracer"] == label),
            key=lambda i: (-rows[i]["psnr"], i),
        )
        if len(order) == 1:
            chosen.append((order[0], "only"))
            continue
        median = [(order[(len(order) - 1) // 2], "median")] if len(order) > 2 else []
        chosen += [(order[0], "best"), *median, (order[-1], "worst")]
    return chosen


def _sample(
    model: "Model",
    data: "PreparedDataset",
    settings: "TrainSettings",
    index: int,
    *,
    without_flair: bool = False,
) -> SyntheticPET:
    import torch

    record, label = data.pairs[index]
    sampling = Sampling(
        n_samples=model.config.n_samples,
        steps=model.config.sampling_steps,
        seed=settings.seed,
        names=(record.subject, record.session or ""),
        device=str(next(model.network.parameters()).device),
        threads=torch.get_num_threads(),
    )
    flair = np.array(record.load("flair")) if record.flair and not without_flair else None
    t1w, mask = np.array(record.load("t1w")), np.array(record.load("mask"))
    (pet,) = sample_session(model, t1w, flair, mask, [label], sampling, reference_region_on)
    return pet


def _score(
    data: "PreparedDataset", mean_pet: Mapping[str, Array], sampler: Sampler, without_flair: Sampler
) -> Iterator[Row]:
    from tqdm import tqdm

    for index, (record, label) in enumerate(tqdm(data.pairs, "scoring", unit="PET", disable=None)):
        drop = data.config.inputs == ("t1w", "flair") and record.flair
        scores = _metrics(sampler(index).mean, data, index)
        baseline = _metrics(np.where(record.load("mask"), mean_pet[label], 0), data, index)
        yield {
            "participant_id": f"sub-{record.subject}",
            "session_id": f"ses-{record.session}" if record.session else "n/a",
            "tracer": label,
            **scores,
            "psnr_without_flair": (
                _metrics(without_flair(index).mean, data, index)["psnr"] if drop else "n/a"
            ),
            **{f"{metric}_mean_pet": value for metric, value in baseline.items()},
        }


def _metrics(predicted: Array, data: "PreparedDataset", index: int) -> dict[str, float]:
    from rela_bids.quantification import mae, psnr, ssim

    record, label = data.pairs[index]
    measured, mask = data.suvr(index), np.array(record.load("mask"))
    data_range = data.tracers[label].suvr_scale
    values = (
        psnr(predicted, measured, mask, data_range),
        ssim(predicted, measured, mask, data_range),
        mae(predicted, measured, mask),
    )
    return dict(zip(METRICS, values, strict=True))


def _show(
    data: "PreparedDataset", index: int, rank: str, rows: Sequence[Row], sampler: Sampler
) -> HeldOut:
    record, _ = data.pairs[index]
    pet, mask = sampler(index), np.array(record.load("mask"))
    t1w = np.where(mask, record.load("t1w"), 0).astype(np.float32)
    return HeldOut(rank, rows[index], mask, t1w, data.suvr(index), pet.mean, pet.std)
