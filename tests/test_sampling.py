"""Sampling: seeds, batches, steps, and what a perfect denoiser would give."""

from dataclasses import replace

import pytest
import torch

from rela_bids.model.diffusion import Schedule
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS
from rela_bids.model.sampling import (
    Noise,
    noise_generator,
    sample,
    sample_noise,
    sample_with_features,
)

SHAPE = (16, 16, 16)
# `fast`, trained on more timesteps than the one of the preset.
FAST_DIFFUSION = replace(PRESETS["fast"].diffusion, trained_timesteps=(999, 749, 499, 249))
FAST = Schedule(FAST_DIFFUSION)


class Oracle(torch.nn.Module):
    """Knows the truth, the mean of the MRI's channels, and counts what it is asked for."""

    def __init__(self, prediction: str) -> None:
        super().__init__()
        self.prediction, self.encoded, self.timesteps = prediction, 0, []

    def encode(self, mri):
        self.encoded += 1
        return (mri.mean(1, keepdim=True),)

    def denoise(self, noisy, features, timesteps, class_labels):
        self.timesteps.append(int(timesteps))
        (truth,) = features
        if self.prediction == "sample":
            return truth
        a = Schedule(PRESETS["paper"].diffusion).alphas_cumprod[timesteps].view(-1, 1, 1, 1, 1)
        return (noisy - a.sqrt() * truth) / (1 - a).sqrt()


@pytest.fixture(scope="module")
def denoiser() -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_denoiser(PRESETS["fast"].network, 3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return network.eval()


def mri(n: int = 1) -> torch.Tensor:
    return torch.rand(n, 2, *SHAPE, generator=torch.Generator().manual_seed(1)) - 0.5


def noises(n: int, seed: int = 0) -> list[Noise]:
    return [sample_noise(FAST, number, seed, "01", None, "11CPIB") for number in range(n)]


def labels(*classes: int) -> torch.Tensor:
    return torch.tensor(classes)


@pytest.mark.parametrize(("preset", "steps"), [("fast", 1), ("fast", 4), ("paper", 20)])
def test_a_perfect_denoiser_is_followed_to_the_truth(preset, steps):
    diffusion = FAST_DIFFUSION if preset == "fast" else PRESETS[preset].diffusion
    oracle = Oracle(diffusion.prediction)
    made = sample(oracle, mri(), labels(0), Schedule(diffusion), steps, noises(1))
    torch.testing.assert_close(made, mri().mean(1, keepdim=True), atol=1e-4, rtol=0)
    assert oracle.timesteps == list(Schedule(diffusion).sampling_timesteps(steps))


def test_a_session_is_encoded_once_for_all_its_samples():
    oracle = Oracle("sample")
    made = sample(oracle, mri(), labels(0, 0, 1), FAST, 2, noises(3))
    assert made.shape == (3, 1, *SHAPE)
    assert oracle.encoded == 1
    assert len(oracle.timesteps) == 6


def test_the_same_seed_gives_the_same_bytes(denoiser):
    first, second = (sample(denoiser, mri(), labels(1), FAST, 3, noises(1)) for _ in range(2))
    assert torch.equal(first, second)


def test_another_seed_another_sample_and_another_tracer_differ(denoiser):
    first, second, tracer = sample(
        denoiser, mri(), labels(1, 1, 2), FAST, 2, [*noises(2), *noises(1)]
    )
    other_seed = sample(denoiser, mri(), labels(1), FAST, 2, noises(1, seed=1))[0]
    for other in (second, tracer, other_seed):
        assert not torch.allclose(first, other, atol=1e-3)


def test_a_sample_does_not_depend_on_what_else_is_sampled(denoiser):
    together = sample(denoiser, mri(3), labels(0, 1, 2), FAST, 2, noises(3))
    alone = sample(denoiser, mri(3)[1:2], labels(1), FAST, 2, noises(3)[1:2])
    assert torch.equal(together[1:2], alone)


def test_features_can_be_used_again(denoiser):
    with torch.inference_mode():
        features = denoiser.encode(mri())
    made = [
        sample_with_features(denoiser, features, SHAPE, tracer, FAST, 2, noise)
        for tracer, noise in zip((0, 2), noises(2), strict=True)
    ]
    assert torch.equal(torch.cat(made), sample(denoiser, mri(), labels(0, 2), FAST, 2, noises(2)))


def test_samples_stay_in_the_networks_range(denoiser):
    made = sample(denoiser, 10 * mri(), labels(0), FAST, 4, noises(1))
    assert made.min() >= -1
    assert made.max() <= 1


def test_the_callback_hears_of_every_pass(denoiser):
    heard = []
    made = sample(
        denoiser,
        mri(),
        labels(0, 1),
        FAST,
        2,
        noises(2),
        lambda step, clean: heard.append((step, clean)),
    )
    assert [step for step, _ in heard] == [0, 1, 0, 1]
    assert torch.equal(heard[1][1], made[:1])


def test_samples_of_fast_are_drawn_from_opposite_noise_in_pairs():
    drawn = [FAST.draw_noise((1, 1, 4, 4, 4), noise.generator) * noise.sign for noise in noises(4)]
    assert torch.equal(drawn[1], -drawn[0])
    assert torch.equal(drawn[3], -drawn[2])
    assert not torch.allclose(drawn[2].abs(), drawn[0].abs())


def test_samples_of_paper_are_independent():
    paper = Schedule(PRESETS["paper"].diffusion)
    signs = {sample_noise(paper, number, 0).sign for number in range(4)}
    drawn = {
        torch.rand(1, generator=sample_noise(paper, number, 0).generator).item()
        for number in range(4)
    }
    assert signs == {1.0}
    assert len(drawn) == 4


def test_a_seed_is_of_its_names_alone():
    def drawn(*names: object) -> float:
        return torch.rand(1, generator=noise_generator(*names)).item()

    names = [(0, "01", "1"), (1, "01", "1"), (0, "01", None), (0, "011", ""), (0, "01", 1)]
    assert drawn(*names[0]) == drawn(*names[0])
    assert len({drawn(*each) for each in names}) == len(names)


def test_one_noise_is_asked_for_per_sample(denoiser):
    with pytest.raises(ValueError, match="zip"):
        sample(denoiser, mri(), labels(0, 1), FAST, 1, noises(1))
