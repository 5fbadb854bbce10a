"""Ancestral sampling, and where its noise comes from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rela_bids.model.denoiser import Denoiser, Features
from rela_bids.model.diffusion import Schedule

Callback = Callable[[int, Tensor], None]


def noise_generator(seed: int, *names: object) -> torch.Generator:
    """A generator on the CPU, seeded by a hash of `seed` and `names`.

    With subject, session, tracer and sample number as names, a session's noise does not depend on
    what else ran, in what order, or on which device.
    """
    # repr keeps ("a", "b") and ("a b",) apart, and None and "None".
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Noise:
    """Where the noise of one sample comes from: all that `generator` draws, times `sign`."""

    generator: torch.Generator
    sign: float = 1.0


def sample_noise(schedule: Schedule, number: int, seed: int, *names: object) -> Noise:
    """The noise of sample `number`, from 0, of what `names` tell; see `noise_generator`.

    With antithetic sampling, samples 2 n and 2 n + 1 are drawn from opposite noise.
    """
    if not schedule.config.antithetic:
        return Noise(noise_generator(seed, *names, number))
    pair, second = divmod(number, 2)
    return Noise(noise_generator(seed, *names, pair), -1.0 if second else 1.0)


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    mri: Tensor,
    class_labels: Tensor,
    schedule: Schedule,
    steps: int,
    noises: Sequence[Noise],
    callback: Callback | None = None,
) -> Tensor:
    """Synthetic PET in [-1, 1], (N, 1, X, Y, Z), on the device of `mri`.

    `mri` is (N, 2, X, Y, Z), or (1, 2, X, Y, Z) for N samples of one session; `class_labels` (N,)
    int64; one noise each. One volume at a time, so that neither the memory nor the bytes of a
    sample depend on N. See `sample_with_features` for `callback`.
    """
    shape = mri.shape[2:]
    encoded = [denoiser.encode(one) for one in mri.split(1)]
    if len(encoded) == 1:
        encoded = encoded * len(noises)
    return torch.cat(
        [
            sample_with_features(denoiser, features, shape, label, schedule, steps, noise, callback)
            for features, label, noise in zip(encoded, class_labels.tolist(), noises, strict=True)
        ]
    )


@torch.inference_mode()
def sample_with_features(
    denoiser: Denoiser,
    features: Features,
    shape: Sequence[int],
    class_label: int,
    schedule: Schedule,
    steps: int,
    noise: Noise,
    callback: Callback | None = None,
) -> Tensor:
    """One synthetic PET in [-1, 1], (1, 1, X, Y, Z).

    `features` is ``denoiser.encode(mri)`` of a batch of one: computed once, it serves every step,
    sample and tracer of a session. After each pass, ``callback(step, clean)`` is given the step's
    number from 0 and the clean prediction.
    """
    device = features[0].device
    labels = torch.tensor([class_label], device=device)
    timesteps = schedule.sampling_timesteps(steps)

    def draw() -> Tensor:
        return noise.sign * schedule.draw_noise((1, 1, *shape), noise.generator).to(device)

    x = draw()
    for step, (t, s) in enumerate(zip(timesteps, (*timesteps[1:], None), strict=True)):
        output = denoiser.denoise(x, features, torch.tensor([t], device=device), labels)
        clean = schedule.clean_prediction(output, x, t)
        if callback is not None:
            callback(step, clean)
        if s is not None:
            x = schedule.ancestral_step(clean, x, t, s, draw())
    return clean
