"""What a training step minimises: RelA-Diffusion's two updates.

The loop in `rela_bids.model.trainer` takes any class of this shape, so that other systems can be
trained by the same loop, on the same data, within the same time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rela_bids.model.denoiser import Denoiser
from rela_bids.model.diffusion import Schedule
from rela_bids.model.factored import FactoredDenoiser
from rela_bids.model.losses import discriminator_loss, generator_loss, regression_loss
from rela_bids.model.networks import build_denoiser, build_discriminator
from rela_bids.model.presets import ModelConfig
from rela_bids.model.sampling import Noise, sample

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
        "denoiser_energy",
        "denoiser_adversarial",
        "discriminator_adversarial",
        "discriminator_r1",
        "discriminator_r2",
    )

    def __init__(self, config: ModelConfig, n_tracers: int):
        self.config = config
        self.schedule = Schedule(config.diffusion)
        noise = config.diffusion.prediction == "epsilon"
        self.networks: dict[str, nn.Module] = {
            "denoiser": build_denoiser(config.network, n_tracers, predicts_noise=noise)
        }
        self.learning_rates = {"denoiser": config.optimiser.generator_lr}
        if config.loss.adversarial != "none":
            self.networks["discriminator"] = build_discriminator(config.discriminator, n_tracers)
            self.learning_rates["discriminator"] = config.optimiser.discriminator_lr

    def begin(self, mean_pet: Tensor) -> None:
        """Before the first step: the mean PET of each tracer, (tracers, 1, X, Y, Z), in [-1, 1].

        Outside the brain it goes on as it is at the edge.
        """
        denoiser = self.networks["denoiser"]
        if isinstance(denoiser, FactoredDenoiser) and self.config.diffusion.prediction == "sample":
            denoiser.core.usual_uptake.begin(mean_pet)

    def draw(self, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Timesteps (B,) and noise (B, K, X, Y, Z), one generator for each volume; on the CPU.

        K, draws of the noise for one volume, is 2 where the loss has an energy score, and else 1.
        """
        shape = (1, 2 if self.config.loss.energy_weight else 1, *self.config.grid.shape)
        timesteps = [self.schedule.draw_timesteps(1, g) for g in generators]
        noise = [self.schedule.draw_noise(shape, g) for g in generators]
        return {"timesteps": torch.cat(timesteps), "noise": torch.cat(noise)}

    def losses(
        self, trained: Mapping[str, nn.Module], batch: Batch, *, adversarial: bool
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each network's loss terms, in the order of the updates.

        The loop takes the gradient step on one before it asks for the next. `trained` are the
        networks as the loop wraps them; `adversarial` is False during the warm-up, when a denoiser
        that is to be trained by the energy score learns the mean of all samples, see `regress`.
        """
        if self.config.loss.energy_weight and not adversarial:
            output = self.regress(trained["denoiser"], batch["mri"], batch["tracer"])
            yield "denoiser", regression_loss(output, batch["pet"])
            return
        pet, mri, t = batch["pet"], batch["mri"], batch["timesteps"]
        tracer, noise = batch["tracer"], batch["noise"]
        x_t = self.schedule.add_noise(pet, noise, t)
        output = trained["denoiser"](torch.cat([x_t, mri], dim=1), t, tracer)
        free = self.schedule.clean_prediction(output, x_t, t, clip=False)
        clean = free.clamp(-1.0, 1.0)
        target = self.schedule.target(pet, noise)
        adversarial = adversarial and "discriminator" in self.networks
        logits = None
        if adversarial:
            with frozen(self.networks["discriminator"]) as judge:
                logits = judge(clean[:, :1], mri, tracer), judge(pet, mri, tracer)
        yield (
            "denoiser",
            generator_loss(self.config.loss, output, target, clean, pet, logits, free),
        )
        if adversarial:
            fake, real = (x.detach().clone().requires_grad_() for x in (clean[:, :1], pet))
            judge = trained["discriminator"]
            fake_logits, real_logits = judge(fake, mri, tracer), judge(real, mri, tracer)
            yield (
                "discriminator",
                discriminator_loss(self.config.loss, fake, real, fake_logits, real_logits),
            )

    def regress(self, denoiser: nn.Module, mri: Tensor, tracer: Tensor) -> Tensor:
        """The output at the last timestep for the middle of all noise, zero; (B, 1, X, Y, Z)."""
        last = torch.full_like(tracer, self.config.diffusion.timesteps - 1)
        no_noise = torch.zeros_like(mri[:, :1])
        output: Tensor = denoiser(torch.cat((no_noise, mri), dim=1), last, tracer)
        return output

    def predict(
        self,
        denoiser: Denoiser,
        mri: Tensor,
        tracer: Tensor,
        noises: Sequence[Noise],
        steps: int,
    ) -> Tensor:
        """Synthetic PET in [-1, 1], (N, 1, X, Y, Z); see `sampling.sample`."""
        return sample(denoiser, mri, tracer, self.schedule, steps, noises)


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """`network` with weights that take no gradient; its inputs still do."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)
