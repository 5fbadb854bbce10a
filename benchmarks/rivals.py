"""The systems that `fast` is compared with, each as an objective for the trainer.

Each follows its paper's description on the denoiser of `fast`: the same network, grid, width, data
and augmentation. What differs is what is trained, and how an image is drawn from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from rela_bids.model.losses import (
    clean_l1_loss,
    discriminator_adversarial_loss,
    generator_adversarial_loss,
    gradient_penalty,
    regression_loss,
)
from rela_bids.model.networks import build_denoiser, build_discriminator
from rela_bids.model.objective import Batch, RelaDiffusion, frozen
from rela_bids.model.presets import ModelConfig
from rela_bids.model.sampling import Noise

Losses = Iterator[tuple[str, dict[str, Tensor]]]
Networks = Mapping[str, nn.Module]


def _total(**terms: Tensor) -> dict[str, Tensor]:
    return {**terms, "total": sum(terms.values(), torch.zeros(()))}


class Regression(RelaDiffusion):
    """The denoiser as a plain U-Net: no noise, one pass, MSE and L1."""

    terms = ("denoiser_denoising", "denoiser_l1")

    def __init__(self, config: ModelConfig, n_tracers: int):
        super().__init__(_without_adversary(config), n_tracers)

    def draw(self, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Nothing is drawn."""
        return {}

    def losses(self, trained: Networks, batch: Batch, *, adversarial: bool) -> Losses:
        """MSE and L1."""
        output = self.regress(trained["denoiser"], batch["mri"], batch["tracer"])
        yield "denoiser", regression_loss(output, batch["pet"])

    def predict(
        self,
        denoiser: nn.Module,
        mri: Tensor,
        tracer: Tensor,
        noises: Sequence[Noise],
        steps: int,
    ) -> Tensor:
        """The same image for every noise."""
        with torch.inference_mode():
            one = self.regress(denoiser, mri, tracer[:1]).clamp(-1, 1)
        return one.expand(len(noises), -1, -1, -1, -1)


class CycleGAN(Regression):
    """Zhu et al. 2017 (arXiv 1703.10593): MRI to PET and back, learned as if they were not paired.

    Least-squares adversarial losses, and L1 of both cycles with a weight of 10. The way back makes
    T1w and FLAIR in two passes, told which by the class. Discriminators see no condition but the
    tracer.
    """

    terms = ("denoiser_adversarial", "denoiser_cycle", "back_adversarial", "back_cycle")
    CYCLE = 10.0

    def __init__(self, config: ModelConfig, n_tracers: int):
        super().__init__(config, n_tracers)
        self.networks |= {
            "back": build_denoiser(config.network, 2),
            "judge_pet": build_discriminator(config.discriminator, n_tracers),
            "judge_mri": build_discriminator(config.discriminator, 1),
        }
        optimiser = config.optimiser
        self.learning_rates |= {
            "back": optimiser.generator_lr,
            "judge_pet": optimiser.discriminator_lr,
            "judge_mri": optimiser.discriminator_lr,
        }

    def losses(self, trained: Networks, batch: Batch, *, adversarial: bool) -> Losses:
        """Both generators, each with its own adversary and both cycles; then both adversaries."""
        pet, mri, tracer = batch["pet"], batch["mri"], batch["tracer"]
        there, back = trained["denoiser"], trained["back"]

        def cycles(fake_pet: Tensor, fake_mri: Tensor) -> Tensor:
            again_mri, again_pet = (
                self._back(back, fake_pet),
                self.regress(there, fake_mri, tracer),
            )
            return self.CYCLE * (clean_l1_loss(again_mri, mri) + clean_l1_loss(again_pet, pet))

        fake_pet, fake_mri = self.regress(there, mri, tracer), self._back(back, pet)
        with frozen(self.networks["judge_pet"]) as judge:
            deceived = (self._pet_logits(judge, fake_pet, tracer) - 1).square().mean()
        with frozen(self.networks["back"]):
            yield (
                "denoiser",
                _total(adversarial=deceived, cycle=cycles(fake_pet, fake_mri.detach())),
            )
        fake_pet = self.regress(there, mri, tracer).detach()
        with frozen(self.networks["judge_mri"]) as judge:
            deceived = (self._mri_logits(judge, fake_mri) - 1).square().mean()
        with frozen(self.networks["denoiser"]):
            yield "back", _total(adversarial=deceived, cycle=cycles(fake_pet, fake_mri))
        real, fake = (
            self._pet_logits(trained["judge_pet"], image, tracer) for image in (pet, fake_pet)
        )
        yield "judge_pet", _total(squares=_least_squares(real, fake))
        real, fake = (
            self._mri_logits(trained["judge_mri"], image) for image in (mri, fake_mri.detach())
        )
        yield "judge_mri", _total(squares=_least_squares(real, fake))

    def _back(self, network: nn.Module, pet: Tensor) -> Tensor:
        zero, last = torch.zeros_like(pet), self.config.diffusion.timesteps - 1
        x = torch.cat((zero, pet, zero), dim=1)
        labels = torch.zeros(len(pet), dtype=torch.long, device=pet.device)
        return torch.cat([network(x, labels + last, labels + kind) for kind in (0, 1)], dim=1)

    def _pet_logits(self, judge: nn.Module, pet: Tensor, tracer: Tensor) -> Tensor:
        return judge(pet, torch.zeros_like(pet).expand(-1, 2, -1, -1, -1), tracer)

    def _mri_logits(self, judge: nn.Module, mri: Tensor) -> Tensor:
        labels = torch.zeros(len(mri), dtype=torch.long, device=mri.device)
        return judge(torch.zeros_like(mri[:, :1]), mri, labels)


def _least_squares(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


class DiffGAN(RelaDiffusion):
    """Denoising diffusion GAN, Xiao et al. 2022 (arXiv 2112.07804), four steps, conditioned on MRI.

    The generator predicts the clean PET from x_t; the discriminator tells x_s of the forward
    process from x_s of the posterior, given x_t, T1w, tracer and timestep; non-saturating loss and
    R1. The noise of x_t and of the posterior is all the chance there is. An L1 loss on the clean
    PET as in its paired successors (SynDiff, arXiv 2207.08208, weight 0.5) keeps it to this person.
    """

    terms = ("denoiser_adversarial", "denoiser_l1", "judge_adversarial", "judge_r1")
    STEPS = (999, 749, 499, 249)
    L1, R1 = 0.5, 0.05

    def __init__(self, config: ModelConfig, n_tracers: int):
        diffusion = replace(config.diffusion, trained_timesteps=self.STEPS)
        super().__init__(replace(_without_adversary(config), diffusion=diffusion), n_tracers)
        self.networks["judge"] = build_discriminator(
            config.discriminator, n_tracers * len(self.STEPS)
        )
        self.learning_rates["judge"] = config.optimiser.discriminator_lr

    def draw(self, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Three noises: of x_s, of the step from x_s to x_t, and of the posterior."""
        shape = (1, 3, *self.config.grid.shape)
        return {
            "timesteps": torch.cat([self.schedule.draw_timesteps(1, g) for g in generators]),
            "noise": torch.cat([self.schedule.draw_noise(shape, g) for g in generators]),
        }

    def losses(self, trained: Networks, batch: Batch, *, adversarial: bool) -> Losses:
        """Generator, then discriminator."""
        pet, mri, tracer, t = (batch[key] for key in ("pet", "mri", "tracer", "timesteps"))
        first, between, posterior = batch["noise"].split(1, dim=1)
        place = self.STEPS.index(int(t[0]))
        s = self.STEPS[place + 1] if place + 1 < len(self.STEPS) else None
        x_s = pet if s is None else self.schedule.add_noise(pet, first, s)
        a_t = self.schedule.alphas_cumprod[int(t[0])]
        alpha = a_t / (1.0 if s is None else self.schedule.alphas_cumprod[s])
        x_t = alpha.sqrt() * x_s + (1 - alpha).sqrt() * between
        clean = trained["denoiser"](torch.cat((x_t, mri), dim=1), t, tracer)
        fake = clean
        if s is not None:
            fake = self.schedule.ancestral_step(clean, x_t, int(t[0]), s, posterior)
        condition = torch.cat((x_t, mri[:, :1]), dim=1)
        classes = tracer * len(self.STEPS) + place
        with frozen(self.networks["judge"]) as judge:
            logits = judge(fake, condition, classes)
        deceived = generator_adversarial_loss(logits, logits, "standard")
        yield (
            "denoiser",
            _total(adversarial=deceived, l1=self.L1 * clean_l1_loss(clean, pet)),
        )
        real = x_s.detach().clone().requires_grad_()
        judge = trained["judge"]
        real_logits = judge(real, condition, classes)
        fake_logits = judge(fake.detach(), condition, classes)
        yield (
            "judge",
            _total(
                adversarial=discriminator_adversarial_loss(fake_logits, real_logits, "standard"),
                r1=self.R1 / 2 * gradient_penalty(real, real_logits, "corrected"),
            ),
        )


class FICD(RelaDiffusion):
    """Diffusion with an image-level constraint (arXiv 2405.02504): noise prediction, and L1 on x̂0.

    Its constraint holds the clean prediction of every timestep to the measured PET; no adversary.
    """

    def __init__(self, config: ModelConfig, n_tracers: int):
        super().__init__(_noise_prediction(config, l1_weight=1.0), n_tracers)


class MTGD(RelaDiffusion):
    """Multi-tracer guided diffusion on slabs of slices, with classifier-free guidance.

    Slabs of eight axial slices are denoised by themselves, MRI as condition; the tracer, and which
    slab it is, are the class, which is withheld in a tenth of the training. Sampling moves away
    from the prediction without class by `GUIDANCE`.
    """

    SLICES, WITHHELD, GUIDANCE = 8, 0.1, 1.0

    def __init__(self, config: ModelConfig, n_tracers: int):
        super().__init__(_noise_prediction(config, l1_weight=0.0), 1)
        self.slabs = config.grid.shape[2] // self.SLICES
        self.without_class = n_tracers * self.slabs
        self.networks["denoiser"] = build_denoiser(
            config.network, self.without_class + 1, predicts_noise=True
        )

    def draw(self, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """And whether the class is withheld, (B,)."""
        withheld = [torch.rand(1, generator=g) < self.WITHHELD for g in generators]
        return {**super().draw(generators), "withheld": torch.cat(withheld)}

    def losses(self, trained: Networks, batch: Batch, *, adversarial: bool) -> Losses:
        """All slabs of the volumes are one batch."""
        classes = self._classes(batch["tracer"])
        withheld = batch["withheld"].repeat_interleave(self.slabs)
        slabs = {key: self._to_slabs(batch[key]) for key in ("pet", "mri", "noise")}
        inner = {
            **slabs,
            "tracer": torch.where(withheld, self.without_class, classes),
            "timesteps": batch["timesteps"].repeat_interleave(self.slabs),
        }
        yield from super().losses(trained, inner, adversarial=False)

    def predict(
        self,
        denoiser: nn.Module,
        mri: Tensor,
        tracer: Tensor,
        noises: Sequence[Noise],
        steps: int,
    ) -> Tensor:
        """All slabs of one sample at a time."""
        return torch.cat([self._sample(denoiser, mri, tracer[:1], n, steps) for n in noises])

    @torch.inference_mode()
    def _sample(
        self, denoiser: nn.Module, mri: Tensor, tracer: Tensor, noise: Noise, steps: int
    ) -> Tensor:
        classes, slabs = self._classes(tracer), self._to_slabs(mri)
        features = denoiser.encode(slabs)
        timesteps = self.schedule.sampling_timesteps(steps)
        shape = (1, 1, *mri.shape[2:])

        def draw() -> Tensor:
            return self._to_slabs(noise.sign * self.schedule.draw_noise(shape, noise.generator))

        def predicted(x: Tensor, t: int, labels: Tensor) -> Tensor:
            return denoiser.denoise(x, features, torch.full_like(labels, t), labels)

        x = draw()
        for t, s in zip(timesteps, (*timesteps[1:], None), strict=True):
            with_class = predicted(x, t, classes)
            without = predicted(x, t, torch.full_like(classes, self.without_class))
            output = with_class + self.GUIDANCE * (with_class - without)
            clean = self.schedule.clean_prediction(output, x, t)
            if s is not None:
                x = self.schedule.ancestral_step(clean, x, t, s, draw())
        return self._from_slabs(clean)

    def _classes(self, tracer: Tensor) -> Tensor:
        places = torch.arange(self.slabs, device=tracer.device)
        return (tracer[:, None] * self.slabs + places).flatten()

    def _to_slabs(self, volumes: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to (B slabs, C, X, Y, SLICES)."""
        parts = volumes.unflatten(4, (self.slabs, self.SLICES))
        return parts.movedim(4, 1).flatten(0, 1)

    def _from_slabs(self, slabs: Tensor) -> Tensor:
        parts = slabs.unflatten(0, (-1, self.slabs))
        return parts.movedim(1, 4).flatten(4, 5)


def _without_adversary(config: ModelConfig) -> ModelConfig:
    return replace(config, loss=replace(config.loss, adversarial="none", energy_weight=0.0))


def _noise_prediction(config: ModelConfig, l1_weight: float) -> ModelConfig:
    """The forward process of `paper`: noise prediction over all of 1,000 timesteps."""
    diffusion = replace(
        config.diffusion,
        zero_terminal_snr=False,
        prediction="epsilon",
        trained_timesteps=(),
        noise_octaves=1,
        antithetic=False,
    )
    config = _without_adversary(config)
    loss = replace(config.loss, denoising_weight=1.0, l1_weight=l1_weight)
    return replace(config, diffusion=diffusion, loss=loss)
