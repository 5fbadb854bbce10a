"""What is compared: each system is a configuration and an objective, trained and sampled alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from rivals import FICD, MTGD, CycleGAN, DiffGAN, Regression
from torch import nn

from rela_bids.model.dataset import PreparedDataset
from rela_bids.model.inference import to_suvr
from rela_bids.model.objective import RelaDiffusion
from rela_bids.model.presets import PRESETS, ModelConfig, override
from rela_bids.model.sampling import sample_noise
from rela_bids.templates import reference_region_on
from rela_bids.volumes import Array, Grid

Objective = Callable[[ModelConfig, int], RelaDiffusion]
FAST = PRESETS["fast"]


@dataclass(frozen=True)
class System:
    """One row of the table.

    Attributes
    ----------
    text : what it is, for the table.
    changes : to the preset, nested as in `presets.to_dict`.
    objective : what is trained.
    samples, steps : how its image is made: the mean of samples of so many passes; None as `fast`.
    preset : what the changes are to.
    people : how many of the held-out people it is scored on at most, where passes are dear.
    """

    text: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective = RelaDiffusion
    samples: int | None = None
    steps: int | None = None
    preset: str = "fast"
    people: int | None = None

    def config(self, grid: Grid) -> ModelConfig:
        """Its configuration on a grid."""
        return override(replace(PRESETS[self.preset], grid=grid), self.changes)

    @property
    def sampling(self) -> tuple[int, int]:
        """Samples, and steps of each."""
        preset = PRESETS[self.preset]
        return self.samples or preset.n_samples, self.steps or preset.sampling_steps


AS_PUBLISHED = {
    "timesteps": 1000,
    "zero_terminal_snr": False,
    "prediction": "epsilon",
    "trained_timesteps": [],
    "noise_octaves": 1,
    "antithetic": False,
}
PAPERS_LOSS = {"denoising_weight": 1.0, "l1_weight": 1.0, "energy_weight": 0.0}

SYSTEMS: dict[str, System] = {
    "fast": System("`fast`"),
    "regression": System("U-Net regression", objective=Regression, samples=1, steps=1),
    "no-adversary": System("`fast` without adversarial loss", {"loss": {"adversarial": "none"}}),
    "standard-gan": System("`fast`, standard GAN loss", {"loss": {"adversarial": "standard"}}),
    "no-t1w": System("`fast` without T1w", {"inputs": ["flair"]}),
    "no-flair": System("`fast` without FLAIR", {"inputs": ["t1w"]}),
    "paper": System("`paper`", preset="paper", samples=1, steps=10, people=5),
    "cyclegan": System("CycleGAN", objective=CycleGAN, samples=1, steps=1),
    "diffgan": System("DiffGAN", objective=DiffGAN, samples=4, steps=4),
    "ficd": System("FICD", objective=FICD, samples=2, steps=20),
    "mtgd": System("MTGD", objective=MTGD, samples=2, steps=20, people=10),
    "no-energy": System("`fast`, MSE and L1 for the energy score", {"loss": PAPERS_LOSS}),
    "four-steps": System(
        "`fast`, trained and sampled on four timesteps",
        {"diffusion": {"trained_timesteps": [999, 749, 499, 249]}},
        samples=8,
        steps=4,
    ),
    "papers-recipe": System(
        "the paper's losses and diffusion, denoiser of `fast`",
        {"diffusion": AS_PUBLISHED, "loss": {**PAPERS_LOSS, "adversarial_weight": 1.0}},
        samples=2,
        steps=20,
    ),
}


def draw_samples(
    objective: RelaDiffusion,
    denoiser: nn.Module,
    data: PreparedDataset,
    index: int,
    upper_bound: float,
    sampling: tuple[int, int],
    seed: int,
) -> Array:
    """Samples of a pair, SUVR, (K, X, Y, Z), as `rela_bids.model.inference` makes them."""
    item, (record, label) = data[index], data.pairs[index]
    mask, grid = item["mask"][0], data.config.grid
    n, steps = sampling
    noises = [sample_noise(objective.schedule, k, seed, record.name, label) for k in range(n)]
    mri = torch.from_numpy(item["mri"])[None]
    units = objective.predict(denoiser, mri, torch.full((n,), item["tracer"]), noises, steps)
    minmax = data.config.intensity == "minmax"
    region = reference_region_on(data.tracers[label].reference_region, grid) if minmax else None
    return np.stack([to_suvr(unit[0].numpy(), upper_bound, mask, region) for unit in units])


def pairs_of_first(data: PreparedDataset, people: int | None) -> Sequence[int]:
    """Indices of the pairs of the first so many people."""
    names = list(dict.fromkeys(record.name for record, _ in data.pairs))[:people]
    return [index for index, (record, _) in enumerate(data.pairs) if record.name in names]
