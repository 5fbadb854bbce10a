"""A model against the measured PET of people that it has not seen."""

from dataclasses import dataclass

import numpy as np
import torch

from rela_bids.model.dataset import PreparedDataset
from rela_bids.model.denoiser import Denoiser
from rela_bids.model.objective import RelaDiffusion
from rela_bids.model.sampling import sample_noise
from rela_bids.quantification import mae, psnr
from rela_bids.volumes import Array, unit_to_suvr


@dataclass(frozen=True)
class Score:
    """PSNR in dB and MAE in SUVR, both in the brain mask."""

    psnr: float
    mae: float


def predict_suvr(
    objective: RelaDiffusion,
    denoiser: Denoiser,
    data: PreparedDataset,
    index: int,
    *,
    upper_bound: float,
    seed: int,
    steps: int,
    n_samples: int,
    without: str | None = None,
) -> Array:
    """The mean of `n_samples` synthetic PET of a pair, SUVR, (X, Y, Z).

    `upper_bound` is the SUVR that the network's 1 stands for. `without` withholds ``t1w`` or
    ``flair``. The noise depends on seed and pair alone.
    """
    item, (record, label) = data[index], data.pairs[index]
    device = next(denoiser.parameters()).device
    mri = torch.from_numpy(item["mri"])[None].to(device)
    if without is not None:
        mri[:, ("t1w", "flair").index(without)] = 0
    schedule = objective.schedule
    noises = [sample_noise(schedule, k, seed, record.name, label) for k in range(n_samples)]
    tracer = torch.full((n_samples,), item["tracer"], device=device)
    unit = objective.predict(denoiser, mri, tracer, noises, steps)
    suvr = unit_to_suvr(unit.float().mean(0)[0].cpu().numpy(), upper_bound)
    return np.where(item["mask"][0], suvr, np.float32(0))


def score(predicted: Array, data: PreparedDataset, index: int) -> Score:
    """`predicted`, SUVR, against the measured PET of a pair."""
    measured, mask = data.suvr(index), data[index]["mask"][0]
    data_range = data.tracers[data.pairs[index][1]].suvr_scale
    return Score(psnr(predicted, measured, mask, data_range), mae(predicted, measured, mask))


def validate(
    objective: RelaDiffusion,
    denoiser: Denoiser,
    data: PreparedDataset,
    mean_pet: dict[str, Array],
    upper_bounds: dict[str, float],
    *,
    seed: int,
    steps: int,
    volumes: int,
) -> dict[str, float]:
    """Mean PSNR by tracer, ``psnr_<label>``, and that of the mean PET, over a few pairs."""
    scores: dict[str, list[float]] = {}
    pairs = dict.fromkeys(data.balanced_index(0, n) for n in range(volumes if len(data) else 0))
    for index in pairs:
        label = data.pairs[index][1]
        predicted = predict_suvr(
            objective,
            denoiser,
            data,
            index,
            upper_bound=upper_bounds[label],
            seed=seed,
            steps=steps,
            n_samples=1,
        )
        scores.setdefault(f"psnr_{label}", []).append(score(predicted, data, index).psnr)
        baseline = score(mean_pet[label], data, index).psnr
        scores.setdefault(f"mean_pet_psnr_{label}", []).append(baseline)
    return {column: float(np.mean(values)) for column, values in scores.items()}
