"""What a training step minimises: RelA-Diffusion's two updates.

The loop in `rela_bids.model.trainer` takes any class of this shape, so that other systems can be
trained by the same loop, on the same data, within the same time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rela_bids.model.diffusion import Schedule
from rela_bids.model.losses import discriminator_loss, generator_loss
from rela_bids.model.networks import build_denoiser, build_discriminator
from rela_bids.model.presets import ModelConfig
from rela_bids.model.sampling import sample

Batch = Mapping[str, Tensor]


class RelaDiffusion:
    """The denoiser and, where the loss is adversarial, its discriminator.

    Attributes
    ----------
    networks : by name; "denoiser" is the one whose weights are averaged and kept.
    learning_rates : of each.
    terms : columns of the training curve.
    """

    terms = (
        "denoiser_denoising",
        "denoiser_l1",
        "denoiser_adversarial",
        "discriminator_adversarial",
        "discriminator_r1",
        "discriminator_r2",
    )

    def __init__(self, config: ModelConfig, n_tracers: int):
        self.config = config
        self.schedule = Schedule(config.diffusion)
        self.networks: dict[str, nn.Module] = {
            "denoiser": build_denoiser(config.network, n_tracers)
        }
        self.learning_rates = {"denoiser": config.optimiser.generator_lr}
        if config.loss.adversarial != "none":
            self.networks["discriminator"] = build_discriminator(config.discriminator, n_tracers)
            self.learning_rates["discriminator"] = config.optimiser.discriminator_lr

    def draw(self, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Timesteps (B,) and noise (B, 1, X, Y, Z), one generator for each volume; on the CPU."""
        shape = (1, 1, *self.config.grid.shape)
        timesteps = [self.schedule.draw_timesteps(1, g) for g in generators]
        noise = [self.schedule.draw_noise(shape, g) for g in generators]
        return {"timesteps": torch.cat(timesteps), "noise": torch.cat(noise)}

    def losses(
        self, trained: Mapping[str, nn.Module], batch: Batch, *, adversarial: bool
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each network's loss terms, in the order of the updates.

        The loop takes the gradient step on one before it asks for the next. `trained` are the
        networks as the loop wraps them; `adversarial` is False during the warm-up.
        """
        pet, mri, t = batch["pet"], batch["mri"], batch["timesteps"]
        tracer, noise = batch["tracer"], batch["noise"]
        x_t = self.schedule.add_noise(pet, noise, t)
        output = trained["denoiser"](torch.cat([x_t, mri], dim=1), t, tracer)
        clean = self.schedule.clean_prediction(output, x_t, t)
        target = self.schedule.target(pet, noise)
        adversarial = adversarial and "discriminator" in self.networks
        logits = None
        if adversarial:
            with frozen(self.networks["discriminator"]) as judge:
                logits = judge(clean, mri, tracer), judge(pet, mri, tracer)
        yield "denoiser", generator_loss(self.config.loss, output, target, clean, pet, logits)
        if adversarial:
            fake, real = (x.detach().clone().requires_grad_() for x in (clean, pet))
            judge = trained["discriminator"]
            fake_logits, real_logits = judge(fake, mri, tracer), judge(real, mri, tracer)
            yield (
                "discriminator",
                discriminator_loss(self.config.loss, fake, real, fake_logits, real_logits),
            )

    def predict(
        self,
        denoiser: nn.Module,
        mri: Tensor,
        tracer: Tensor,
        generators: Sequence[torch.Generator],
        steps: int,
    ) -> Tensor:
        """Synthetic PET in [-1, 1], (N, 1, X, Y, Z); see `sampling.sample`."""
        return sample(denoiser, mri, tracer, self.schedule, steps, generators)


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """`network` with weights that take no gradient; its inputs still do."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)
