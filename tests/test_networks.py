"""The networks: what the paper's is, and what the fast one does with its inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from rela_bids.model.checkpoint import load_model, read_published
from rela_bids.model.diffusion import Schedule
from rela_bids.model.networks import build_denoiser, build_discriminator
from rela_bids.model.presets import PRESETS
from rela_bids.model.runtime import half_precision, sampling_on

SHAPE = (8, 16, 8)


def random_weights(network: torch.nn.Module) -> torch.nn.Module:
    """Weights of which none is zero, as after training."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return network.eval()


def inputs(
    seed: int = 0, shape: tuple[int, int, int] = SHAPE
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two volumes, their timesteps and tracers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, *shape, generator=generator)
    return x, torch.tensor([999, 249]), torch.tensor([0, 2])


@pytest.fixture
def fast() -> torch.nn.Module:
    torch.manual_seed(0)
    return random_weights(build_denoiser(PRESETS["fast"].network, 3))


@pytest.fixture
def paper() -> torch.nn.Module:
    torch.manual_seed(0)
    return random_weights(build_denoiser(PRESETS["paper"].network, 3))


def parameters(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_the_paper_has_as_many_parameters_as_published(paper):
    assert parameters(paper) == 3_038_017


def test_the_fast_denoiser_fits_into_a_file_of_five_megabytes(fast):
    assert parameters(fast) * 4 < 4.9e6


def test_the_paper_predicts_the_authors_noise(reference_numbers):
    expected = np.load(reference_numbers / "forward.npz")
    model = load_model(reference_numbers / "generator_random_weights.pt")
    noisy, t1w, flair, timesteps, labels = (
        torch.from_numpy(expected[key])
        for key in ("noisy", "t1w", "flair", "timesteps", "tracer_index")
    )
    x = torch.cat((noisy, t1w, flair), dim=1)
    with torch.inference_mode():
        predicted = model.network(x, timesteps, labels)
    np.testing.assert_allclose(predicted, expected["eps_pred"], atol=1e-4)


def test_the_papers_discriminator_gives_the_authors_logits(reference_numbers):
    expected = np.load(reference_numbers / "forward.npz")
    discriminator = build_discriminator(PRESETS["paper"].discriminator, 3).eval()
    published = read_published(reference_numbers / "discriminator_published.pt")
    discriminator.load_state_dict(published["model_state_dict"])
    for kind in ("real", "fake"):
        pet = torch.from_numpy(expected[f"disc_{kind}"])
        mri = torch.zeros(1, 2, *pet.shape[2:])
        with torch.inference_mode():
            logits = discriminator(pet, mri, torch.tensor([0]))
        np.testing.assert_allclose(logits, expected[f"disc_{kind}_logits"], atol=1e-4)


def test_the_papers_attention_computes_what_the_plain_one_computes(paper):
    plain = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=3,
        out_channels=1,
        num_res_blocks=2,
        channels=(16, 32, 64),
        attention_levels=(False, False, True),
        norm_num_groups=8,
        num_head_channels=(0, 0, 64),
        with_conditioning=True,
        cross_attention_dim=64,
        num_class_embeds=4,
    ).eval()
    plain.load_state_dict(paper.state_dict())
    x, timesteps, labels = inputs()
    with torch.inference_mode():
        expected = plain(x, timesteps, class_labels=labels)
        torch.testing.assert_close(paper(x, timesteps, labels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_a_pass_is_the_same_in_one_part_or_in_two(name, request):
    network = request.getfixturevalue(name)
    x, timesteps, labels = inputs()
    with torch.inference_mode():
        whole = network(x, timesteps, labels)
        parts = network.denoise(x[:, :1], network.encode(x[:, 1:]), timesteps, labels)
    assert whole.shape == (2, 1, *SHAPE)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_every_input_matters(name, request):
    network = request.getfixturevalue(name)
    x, timesteps, labels = inputs()
    other, _, _ = inputs(seed=1)
    with torch.inference_mode():
        before = network(x, timesteps, labels)
        assert not torch.allclose(network(x, timesteps.flip(0), labels), before)
        assert not torch.allclose(network(x, timesteps, labels.flip(0)), before)
        for channel in range(3):
            changed = x.clone()
            changed[:, channel] = other[:, channel]
            assert not torch.allclose(network(changed, timesteps, labels), before)


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_several_noisy_pet_of_one_mri_are_each_denoised_by_itself(name, request):
    network = request.getfixturevalue(name)
    x, timesteps, labels = inputs()
    other, _, _ = inputs(seed=1)
    with torch.inference_mode():
        both = network(torch.cat((other[:, :1], x), dim=1), timesteps, labels)
        first = network(torch.cat((other[:, :1], x[:, 1:]), dim=1), timesteps, labels)
        second = network(x, timesteps, labels)
    torch.testing.assert_close(both, torch.cat((first, second), dim=1), atol=1e-4, rtol=1e-4)


def test_the_fast_denoiser_begins_as_the_mean_pet_within_the_brain():
    network = build_denoiser(PRESETS["fast"].network, 2).eval()
    ramp = torch.linspace(-0.5, 0.5, 16).reshape(1, 1, 1, 1, 16).expand(2, 1, 16, 16, 16)
    network.core.usual_uptake.begin(ramp * torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1, 1))
    x, timesteps, labels = inputs(shape=(16, 16, 16))
    x[:, 1:, :4] = 0
    with torch.inference_mode():
        made = network(x, timesteps, labels.clamp(max=1))
    torch.testing.assert_close(made[1, :, 4:], -ramp[0, :, 4:], atol=0.05, rtol=0)
    assert (made[:, :, :4] == -1).all()


@pytest.mark.parametrize("channel", [1, 2])
def test_the_fast_denoiser_is_told_which_modality_is_missing(fast, channel):
    x, timesteps, labels = inputs()
    x[:, channel] = 0
    hardly_there = x.clone()
    hardly_there[:, channel] = 1e-20
    with torch.inference_mode():
        missing, present = (fast(each, timesteps, labels) for each in (x, hardly_there))
    assert (missing - present).abs().max() > 1e-3


def test_the_fast_denoiser_works_as_on_a_graphics_card(fast):
    """Mixed precision and channels-last weights, here on the CPU: nearly the same PET."""
    x, timesteps, labels = inputs(shape=(16, 16, 16))
    with sampling_on("cpu", half_precision("cpu")):
        expected = fast(x, timesteps, labels)
    network = fast.to(memory_format=torch.channels_last_3d)
    with sampling_on("cpu", torch.bfloat16):
        made = network(x, timesteps, labels)
    assert expected.dtype == torch.float32
    assert not torch.equal(made.float(), expected)
    assert (made.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_the_fast_denoiser_treats_each_of_a_batch_alone(fast):
    x, timesteps, labels = inputs()
    x[0, 2] = 0
    with torch.inference_mode():
        together = fast(x, timesteps, labels)
        alone = [fast(x[i : i + 1], timesteps[i : i + 1], labels[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_the_fast_denoiser_cannot_draw_a_checkerboard_on_even_ground(fast):
    width = PRESETS["fast"].network.channels[0]
    features = torch.randn(1, width, 1, 1, 1).expand(-1, -1, 10, 10, 10)
    with torch.inference_mode():
        inner = fast.refinement.out(features)[..., 5:-5, 5:-5, 5:-5]
    assert inner.std() < 1e-5


def test_a_model_of_more_tracers_has_more_classes():
    for name, n_classes in (("paper", 6), ("fast", 6)):
        network = build_denoiser(PRESETS[name].network, 6)
        x, timesteps, _ = inputs()
        assert network(x, timesteps, torch.tensor([n_classes - 1] * 2)).isfinite().all()


def test_the_papers_discriminator_sees_the_pet_alone():
    torch.manual_seed(0)
    discriminator = build_discriminator(PRESETS["paper"].discriminator, 3).eval()
    x, _, labels = inputs(shape=(32, 32, 32))
    before = discriminator(x[:, :1], x[:, 1:], labels)
    assert torch.equal(before, discriminator(x[:, :1], x[:, 1:] * 0, labels * 0))
    assert not torch.allclose(before, discriminator(x[:, :1] * 0, x[:, 1:], labels))


def test_the_fast_discriminator_sees_pet_mri_and_tracer():
    torch.manual_seed(0)
    discriminator = random_weights(build_discriminator(PRESETS["fast"].discriminator, 3))
    x, _, labels = inputs(shape=(32, 32, 32))
    before = discriminator(x[:, :1], x[:, 1:], labels)
    assert before.shape[:2] == (2, 1)
    for pet, mri, tracers in (
        (x[:, :1] * 0, x[:, 1:], labels),
        (x[:, :1], x[:, 1:] * 0, labels),
        (x[:, :1], x[:, 1:], labels.flip(0)),
    ):
        assert not torch.allclose(before, discriminator(pet, mri, tracers))


def test_the_fast_denoiser_can_be_made_smaller():
    config = replace(PRESETS["fast"].network, channels=(16, 16))
    x, timesteps, labels = inputs()
    assert build_denoiser(config, 3)(x, timesteps, labels).shape == (2, 1, *SHAPE)


@pytest.mark.slow
def test_the_fast_denoiser_learns_to_read_the_level_of_uptake_off_the_noisy_pet():
    """MRI is the same for all here, so that nothing but the noisy PET can tell them apart."""
    torch.manual_seed(0)
    network = build_denoiser(PRESETS["fast"].network, 1)
    schedule = Schedule(PRESETS["fast"].diffusion)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    brain = torch.zeros(1, 1, 16, 16, 16)
    brain[..., 3:13, 3:13, 3:13] = 1
    t, label, errors = torch.tensor([249]), torch.tensor([0]), []
    for _ in range(200):
        level = 0.5 * torch.randn(1, generator=generator)
        pet = brain * level.clamp(-1, 1) - (1 - brain)
        x_t = schedule.add_noise(pet, torch.randn(pet.shape, generator=generator), t)
        output = network(torch.cat((x_t, brain, brain), dim=1), t, label)
        loss = (output - pet).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        errors.append((output - pet)[brain > 0].mean().item())
    assert np.std(errors[-50:]) < 0.2
