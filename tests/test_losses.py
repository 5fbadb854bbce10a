"""The loss: the published numbers, and switches that change what they name and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention

from rela_bids.model.checkpoint import read_published
from rela_bids.model.losses import (
    clean_l1_loss,
    denoising_loss,
    discriminator_loss,
    energy_score,
    generator_adversarial_loss,
    generator_loss,
    gradient_penalty,
)
from rela_bids.model.networks import build_discriminator
from rela_bids.model.presets import PRESETS, LossConfig

LOSS = replace(PRESETS["paper"].loss, gamma=0.5)
SHAPE = (2, 1, 6, 7, 8)


def volume(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def critic(weight: torch.Tensor, pet: torch.Tensor) -> torch.Tensor:
    """A small discriminator whose gradient depends on its input."""
    return F.conv3d(pet, weight).tanh()


def generator_gradient(config: LossConfig, *, warm: bool = True) -> torch.Tensor:
    """Of the total loss, by the network's output, which here is the clean prediction too."""
    output, pet = volume(0).requires_grad_(), volume(1)
    weight = volume(2)[:1, :, :3, :3, :3]
    logits = (critic(weight, output), critic(weight, pet)) if warm else None
    total = generator_loss(config, output, volume(3), output, pet, logits)["total"]
    return torch.autograd.grad(total, output)[0]


def discriminator_gradient(config: LossConfig) -> torch.Tensor:
    """Of the total loss, by the discriminator's weight."""
    weight = volume(2)[:1, :, :3, :3, :3].clone().requires_grad_()
    fake, real = volume(0).requires_grad_(), volume(1).requires_grad_()
    logits = critic(weight, fake), critic(weight, real)
    total = discriminator_loss(config, fake, real, *logits)["total"]
    return torch.autograd.grad(total, weight)[0]


def gradient_of(term, *rest: torch.Tensor) -> torch.Tensor:
    output = volume(0).requires_grad_()
    return torch.autograd.grad(term(output, *rest), output)[0]


def test_the_losses_are_the_published_ones(reference_numbers):
    expected = np.load(reference_numbers / "forward.npz")
    discriminator = build_discriminator(PRESETS["paper"].discriminator, 3).eval()
    published = read_published(reference_numbers / "discriminator_published.pt")
    discriminator.load_state_dict(published["model_state_dict"])
    fake, real = (
        torch.from_numpy(expected[key]).requires_grad_() for key in ("disc_fake", "disc_real")
    )
    mri, labels = torch.zeros(1, 2, *real.shape[2:]), torch.tensor([0])
    logits = discriminator(fake, mri, labels), discriminator(real, mri, labels)
    config = replace(PRESETS["paper"].loss, penalty_sum="published")
    generator = generator_adversarial_loss(*logits, "relativistic").item()
    terms = discriminator_loss(config, fake, real, *logits)
    assert generator == pytest.approx(float(expected["generator_loss"]), abs=1e-4)
    total = terms["total"].item()
    assert total == pytest.approx(float(expected["discriminator_loss"]), abs=1e-4)
    # The penalty is 3e-5 here: check that it is there at all.
    penalty = float(expected["discriminator_loss"]) - terms["adversarial"].item()
    assert (terms["r1"] + terms["r2"]).item() == pytest.approx(penalty, abs=1e-6)


def test_the_penalty_is_the_squared_gradient():
    weight = volume(2)[:1]
    pet = volume(0).requires_grad_()
    logits = F.conv3d(pet, weight)
    expected = weight.square().sum().item()
    assert gradient_penalty(pet, logits, "corrected").item() == pytest.approx(expected)


def test_the_published_penalty_is_weaker_by_the_length_of_the_last_axis():
    pet = volume(0).requires_grad_()
    logits = critic(volume(2)[:1, :, :3, :3, :3], pet)
    corrected = gradient_penalty(pet, logits, "corrected")
    published = gradient_penalty(pet, logits, "published")
    assert (corrected / published).item() == pytest.approx(SHAPE[-1])


def test_the_relativistic_loss_looks_at_differences_alone():
    fake, real = volume(0), volume(1)
    loss = generator_adversarial_loss(fake, real, "relativistic")
    torch.testing.assert_close(loss, generator_adversarial_loss(fake + 3, real + 3, "relativistic"))
    assert loss > generator_adversarial_loss(fake + 3, real, "relativistic")


def test_the_standard_loss_does_not_look_at_the_real_image():
    fake, real = volume(0), volume(1)
    loss = generator_adversarial_loss(fake, real, "standard")
    assert torch.equal(loss, generator_adversarial_loss(fake, real + 3, "standard"))


def test_no_adversarial_loss_leaves_the_other_terms_as_they_are():
    rest = gradient_of(denoising_loss, volume(3)) + gradient_of(clean_l1_loss, volume(1))
    torch.testing.assert_close(generator_gradient(replace(LOSS, adversarial="none")), rest)
    torch.testing.assert_close(generator_gradient(LOSS, warm=False), rest)
    assert not torch.allclose(generator_gradient(LOSS), rest)


@pytest.mark.parametrize("kind", ["relativistic", "standard"])
def test_the_kind_of_adversarial_loss_changes_that_term_alone(kind):
    weight = volume(2)[:1, :, :3, :3, :3]
    term = gradient_of(
        lambda output: generator_adversarial_loss(
            critic(weight, output), critic(weight, volume(1)), kind
        )
    )
    rest = generator_gradient(replace(LOSS, adversarial="none"))
    torch.testing.assert_close(generator_gradient(replace(LOSS, adversarial=kind)), rest + term)


def test_the_energy_score_is_switched_on_by_its_weight():
    two = torch.cat((volume(0), volume(4)), dim=1)
    pet = volume(1)
    off, on = (
        generator_loss(replace(LOSS, energy_weight=w), two, pet, two, pet) for w in (0.0, 2.0)
    )
    assert "energy" not in off
    torch.testing.assert_close(on["energy"], 2 * energy_score(two, pet))
    torch.testing.assert_close(on["total"] - off["total"], on["energy"])


def test_the_energy_score_sees_what_is_clipped():
    two, pet = torch.cat((volume(0), volume(4)), dim=1), volume(1)
    config = replace(LOSS, energy_weight=1.0)
    terms = generator_loss(config, two, pet, two.clamp(-1, 1), pet, unclipped=two)
    torch.testing.assert_close(terms["energy"], energy_score(two, pet))


def large_draws(spread: float, level: float, lobes: bool) -> torch.Tensor:
    """The mean energy score of normal predictions of a standard normal truth."""
    generator = torch.Generator().manual_seed(0)
    shape = (256, 1, 1, 1, 1) if lobes else (256, 1, 8, 8, 8)
    truth, first, second = (torch.randn(shape, generator=generator) for _ in range(3))
    draws = level + spread * torch.cat((first, second), dim=1)
    return energy_score(draws.expand(-1, -1, 8, 8, 8), truth.expand(-1, -1, 8, 8, 8))


@pytest.mark.parametrize("lobes", [True, False])
@pytest.mark.parametrize(("spread", "level"), [(0.0, 0.0), (0.4, 0.0), (2.0, 0.0), (1.0, 0.8)])
def test_the_energy_score_is_least_where_samples_are_spread_as_the_truth_is(spread, level, lobes):
    assert large_draws(1.0, 0.0, lobes) < large_draws(spread, level, lobes)


def test_the_energy_score_of_lobes_is_not_deceived_by_grain():
    """Each voxel of these samples is spread as it should be, but no block of voxels is."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn((256, 1, 1, 1, 1), generator=generator).expand(-1, -1, 8, 8, 8)
    grain = torch.randn((256, 2, 8, 8, 8), generator=generator)
    assert large_draws(1.0, 0.0, lobes=True) < energy_score(grain, truth)


@pytest.mark.parametrize(
    ("switch", "term", "other"),
    [("l1_weight", clean_l1_loss, 1), ("denoising_weight", denoising_loss, 3)],
)
def test_a_weight_of_zero_takes_that_term_away_and_nothing_else(switch, term, other):
    difference = generator_gradient(LOSS) - generator_gradient(replace(LOSS, **{switch: 0.0}))
    torch.testing.assert_close(difference, gradient_of(term, volume(other)))
    doubled = generator_gradient(replace(LOSS, **{switch: 2.0})) - generator_gradient(LOSS)
    torch.testing.assert_close(doubled, difference)


def test_the_penalty_has_no_part_in_the_denoisers_loss():
    before = generator_gradient(LOSS)
    for change in ({"gradient_penalty": False}, {"gamma": 9.0}, {"penalty_sum": "published"}):
        assert torch.equal(generator_gradient(replace(LOSS, **change)), before)


def test_the_weights_of_the_denoisers_terms_have_no_part_in_the_discriminators():
    before = discriminator_gradient(LOSS)
    for change in ({"l1_weight": 0.0}, {"denoising_weight": 0.0}, {"adversarial_weight": 9.0}):
        assert torch.equal(discriminator_gradient(replace(LOSS, **change)), before)


def test_the_penalty_can_be_switched_off_and_scales_with_gamma():
    without = discriminator_gradient(replace(LOSS, gradient_penalty=False))
    penalty = discriminator_gradient(LOSS) - without
    assert penalty.abs().max() > 1e-3
    torch.testing.assert_close(discriminator_gradient(replace(LOSS, gamma=0.0)), without)
    twice = discriminator_gradient(replace(LOSS, gamma=2 * LOSS.gamma)) - without
    torch.testing.assert_close(twice, 2 * penalty)
    published = discriminator_gradient(replace(LOSS, penalty_sum="published")) - without
    torch.testing.assert_close(published, penalty / SHAPE[-1])


def test_the_standard_discriminator_loss_keeps_the_same_penalty():
    def penalty(kind: str) -> torch.Tensor:
        config = replace(LOSS, adversarial=kind)
        without = replace(config, gradient_penalty=False)
        return discriminator_gradient(config) - discriminator_gradient(without)

    torch.testing.assert_close(penalty("standard"), penalty("relativistic"))


def test_the_discriminator_learns_to_tell_real_from_synthetic():
    fake, real = volume(0), volume(1)
    for kind in ("relativistic", "standard"):
        config = replace(LOSS, adversarial=kind, gradient_penalty=False)
        worse = discriminator_loss(config, fake, real, fake, fake)["total"]
        assert discriminator_loss(config, fake, real, fake, fake + 2)["total"] < worse


def test_every_term_is_returned_by_name():
    terms = generator_loss(LOSS, *(volume(i) for i in range(4)), (volume(4), volume(5)))
    assert list(terms) == ["denoising", "l1", "adversarial", "total"]
    torch.testing.assert_close(terms["total"], sum(list(terms.values())[:-1]))
