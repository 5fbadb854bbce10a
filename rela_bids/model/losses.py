"""The loss, one term one function. Every term is a scalar tensor, a mean over the batch.

D(x) are logits by patch, (B, 1, x, y, z). Equations: RelA-Diffusion, arXiv 2602.21345, and R3GAN,
arXiv 2501.05441, which the relativistic loss and its penalties come from.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor

from rela_bids.model.factored import halved
from rela_bids.model.presets import LossConfig

Kind = Literal["relativistic", "standard"]


def denoising_loss(output: Tensor, target: Tensor) -> Tensor:
    """MSE between the network's output and its target, ‖ε - ε̂‖² where it predicts the noise."""
    return (output - target).square().mean()


def clean_l1_loss(clean: Tensor, pet: Tensor) -> Tensor:
    """‖x0 - x̂0‖₁, the clean prediction against the real PET."""
    return (clean - pet).abs().mean()


# Scales of the energy score: voxels, and blocks of 2, 4 and 8 of them along each axis.
ENERGY_SCALES = 4


def energy_score(clean: Tensor, pet: Tensor) -> Tensor:
    """½ (|x̂ - x0| + |x̂' - x0|) - ½ |x̂ - x̂'|, for two clean predictions from different noise.

    It is least in expectation where x̂ is distributed as x0 is, given what the network is shown, and
    so rewards samples that differ by as much as they are wrong (the energy score in one dimension,
    or CRPS: Gneiting and Raftery 2007, doi:10.1198/016214506000001437; for diffusion: De Bortoli et
    al. 2025, arXiv 2502.02483). It is taken by voxel and, so that lobes and the whole brain are
    spread as they should be too, of averages over blocks.

    `clean` is (B, 2, X, Y, Z), not clipped, since what is clipped away has no gradient; `pet` is
    (B, 1, X, Y, Z).
    """
    score = pet.new_zeros(())
    for scale in range(ENERGY_SCALES):
        if scale:
            clean, pet = halved(clean), halved(pet)
        distance = (clean - pet).abs().mean()
        spread = (clean[:, 0] - clean[:, 1]).abs().mean()
        score = score + distance - 0.5 * spread
    return score / ENERGY_SCALES


def generator_adversarial_loss(fake_logits: Tensor, real_logits: Tensor, kind: Kind) -> Tensor:
    """Relativistic: softplus(-(D(x̂0) - D(x0))); standard: softplus(-D(x̂0))."""
    lead = fake_logits - real_logits if kind == "relativistic" else fake_logits
    return F.softplus(-lead).mean()


def discriminator_adversarial_loss(fake_logits: Tensor, real_logits: Tensor, kind: Kind) -> Tensor:
    """Relativistic: softplus(-(D(x0) - D(x̂0))); standard: softplus(-D(x0)) + softplus(D(x̂0))."""
    if kind == "relativistic":
        return F.softplus(-(real_logits - fake_logits)).mean()
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def gradient_penalty(
    samples: Tensor, logits: Tensor, penalty_sum: Literal["published", "corrected"]
) -> Tensor:
    """‖∇D(x)‖², zero-centred: R1 on real and R2 on synthetic images.

    `samples`, (B, 1, X, Y, Z), require a gradient, and `logits` were made from them. ``corrected``
    sums over all non-batch axes; ``published`` sums over three of the four and averages over the
    last, as the authors' code does, and is therefore weaker by the length of that axis.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
    axes = (1, 2, 3) if penalty_sum == "published" else (1, 2, 3, 4)
    return gradient.square().sum(axes).mean()


def generator_loss(
    config: LossConfig,
    output: Tensor,
    target: Tensor,
    clean: Tensor,
    pet: Tensor,
    logits: tuple[Tensor, Tensor] | None = None,
    unclipped: Tensor | None = None,
) -> dict[str, Tensor]:
    """The denoiser's loss: its terms, already weighted, and their sum under ``total``.

    Keys: ``denoising``, ``l1``, ``energy``, ``adversarial``, those that are switched on. `output`
    and `clean` are (B, K, X, Y, Z), of K draws of the noise, two for the energy score, which takes
    `unclipped` if it is given. `logits` are D(x̂0) and D(x0), or None while the adversarial loss has
    not set in.
    """
    terms = {}
    if config.denoising_weight:
        terms["denoising"] = config.denoising_weight * denoising_loss(output, target)
    if config.l1_weight:
        terms["l1"] = config.l1_weight * clean_l1_loss(clean, pet)
    if config.energy_weight:
        free = clean if unclipped is None else unclipped
        terms["energy"] = config.energy_weight * energy_score(free, pet)
    if logits is not None and config.adversarial != "none":
        adversarial = generator_adversarial_loss(*logits, kind=config.adversarial)
        terms["adversarial"] = config.adversarial_weight * adversarial
    return {**terms, "total": sum(terms.values(), pet.new_zeros(()))}


def regression_loss(output: Tensor, pet: Tensor) -> dict[str, Tensor]:
    """MSE and L1 of one prediction, and their sum under ``total``."""
    denoising, l1 = denoising_loss(output, pet), clean_l1_loss(output, pet)
    return {"denoising": denoising, "l1": l1, "total": denoising + l1}


def discriminator_loss(
    config: LossConfig, fake: Tensor, real: Tensor, fake_logits: Tensor, real_logits: Tensor
) -> dict[str, Tensor]:
    """The discriminator's loss: its terms, already weighted, and their sum under ``total``.

    Keys: ``adversarial``, and ``r1`` and ``r2`` where the penalty is on. `fake` and `real`,
    (B, 1, X, Y, Z), are what the logits were computed from; the penalty needs them to require a
    gradient. Not for ``adversarial="none"``, which trains no discriminator.
    """
    if config.adversarial == "none":
        raise ValueError("there is no discriminator to train where adversarial is none")
    terms = {
        "adversarial": discriminator_adversarial_loss(fake_logits, real_logits, config.adversarial)
    }
    if config.gradient_penalty:
        weight = config.gamma / 2
        terms["r1"] = weight * gradient_penalty(real, real_logits, config.penalty_sum)
        terms["r2"] = weight * gradient_penalty(fake, fake_logits, config.penalty_sum)
    return {**terms, "total": sum(terms.values(), real.new_zeros(()))}
