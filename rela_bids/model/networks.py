"""The denoisers and the discriminators, built from their configuration.

Every denoiser has ``forward(x, timesteps, class_labels)`` with x (B, K + 2, X, Y, Z): K noisy
PET, mostly one, T1w and FLAIR; and the same in two parts, so that what depends on the MRI alone is
computed once:
``denoise(noisy, encode(mri), timesteps, class_labels)``. timesteps and class_labels are (B,) int64.
"""

import torch
from monai.networks.nets import DiffusionModelUNet, PatchDiscriminator
from monai.networks.utils import pixelunshuffle
from torch import Tensor, nn

from rela_bids.model.denoiser import Denoiser, Features
from rela_bids.model.factored import FactoredDenoiser
from rela_bids.model.presets import DiscriminatorConfig, NetworkConfig


def build_denoiser(
    config: NetworkConfig, n_tracers: int, *, predicts_noise: bool = False
) -> Denoiser:
    """An untrained denoiser; of the clean PET unless `predicts_noise`.

    ``forward(x (B, K + 2, X, Y, Z), timesteps, class_labels)`` gives predictions, (B, K, X, Y, Z);
    ``encode(mri (B, 2, X, Y, Z))`` and ``denoise(noisy (B, 1, X, Y, Z), features, timesteps,
    class_labels)`` are its two parts. X, Y and Z are multiples of ``config.stride``.
    """
    classes = max(config.min_classes, n_tracers)
    if config.architecture == "published":
        return PublishedDenoiser(config, classes)
    return FactoredDenoiser(config, classes, predicts_noise=predicts_noise)


def build_discriminator(config: DiscriminatorConfig, n_tracers: int) -> nn.Module:
    """An untrained discriminator.

    ``forward(pet (B, 1, X, Y, Z), mri (B, 2, X, Y, Z), class_labels)`` gives logits by patch,
    (B, 1, x, y, z).
    """
    if config.architecture == "published":
        return PublishedDiscriminator(config)
    return ConditionalDiscriminator(config, n_tracers)


class PublishedDenoiser(DiffusionModelUNet, Denoiser):
    """The paper's: MONAI's U-Net with attention at the last level, which sees MRI as channels."""

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        """Name each of MONAI's arguments that is not its default."""
        width = config.channels[-1]
        last = [False] * (len(config.channels) - 1) + [True]
        super().__init__(
            spatial_dims=3,
            in_channels=3,
            out_channels=1,
            num_res_blocks=config.res_blocks,
            channels=config.channels,
            attention_levels=last,
            norm_num_groups=config.norm_groups,
            num_head_channels=[width if attends else 0 for attends in last],
            # The published model is built for a context and never given one: its cross-attention
            # attends to the image itself.
            with_conditioning=True,
            cross_attention_dim=width,
            num_class_embeds=n_classes,
            # The same numbers without the (voxels x voxels) matrix: 21 GB at 160 x 180 x 160.
            use_flash_attention=True,
        )

    def forward(  # type: ignore[override]  # MONAI's has arguments that are not used
        self, x: Tensor, timesteps: Tensor, class_labels: Tensor
    ) -> Tensor:
        """The predicted noise, (B, K, X, Y, Z), of each of K noisy PET by itself."""
        mri = x[:, -2:]
        predictions = [
            super(PublishedDenoiser, self).forward(
                torch.cat((noisy, mri), dim=1), timesteps, class_labels=class_labels
            )
            for noisy in x[:, :-2].split(1, dim=1)
        ]
        return torch.cat(predictions, dim=1)

    def encode(self, mri: Tensor) -> Features:
        """The MRI as it is: this network has no part that depends on the MRI alone."""
        return (mri,)

    def denoise(
        self, noisy: Tensor, features: Features, timesteps: Tensor, class_labels: Tensor
    ) -> Tensor:
        """The second part of `forward`."""
        return self(torch.cat((noisy, *features), dim=1), timesteps, class_labels)


class PublishedDiscriminator(PatchDiscriminator):
    """The paper's: MONAI's patch discriminator with batch normalisation, on the PET alone."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        """Name each of MONAI's arguments that is not its default."""
        super().__init__(
            spatial_dims=3,
            channels=config.channels,
            in_channels=1,
            out_channels=1,
            num_layers_d=config.layers,
        )

    def forward(  # type: ignore[override]  # as all discriminators here
        self, pet: Tensor, mri: Tensor, class_labels: Tensor
    ) -> Tensor:
        """Logits by patch; MRI and tracer are not looked at."""
        return super().forward(pet)[-1]


# Of MONAI's patch discriminator.
LEAKY_SLOPE = 0.2


class ConditionalDiscriminator(nn.Module):
    """The `fast` preset's: MONAI's patch discriminator on PET and MRI after space-to-depth.

    The tracer comes in by projection (Miyato and Koyama 2018, arXiv 1802.05637). No normalisation:
    R1 and R2 penalise the gradient of one image, which batch statistics would mix with others'.
    """

    def __init__(self, config: DiscriminatorConfig, n_tracers: int) -> None:
        """Patches, and one embedding for each tracer."""
        super().__init__()
        self.patches = PatchDiscriminator(
            spatial_dims=3,
            channels=config.channels,
            in_channels=3 * 8,
            out_channels=1,
            num_layers_d=config.layers,
            norm=None,  # type: ignore[arg-type]  # MONAI takes it
            bias=True,
            last_conv_kernel_size=1,
        )
        # MONAI's weights, of standard deviation 0.02, are made for layers with a norm: without one
        # hardly anything comes through, and the discriminator stays at chance for long.
        for layer in self.patches.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, a=LEAKY_SLOPE)
        self.tracer = nn.Embedding(n_tracers, config.channels * 2**config.layers)
        nn.init.normal_(self.tracer.weight, std=0.02)

    def forward(self, pet: Tensor, mri: Tensor, class_labels: Tensor) -> Tensor:
        """Logits by patch, (B, 1, x, y, z)."""
        images = torch.cat((pet, mri), dim=1)
        *_, features, logits = self.patches(pixelunshuffle(images, spatial_dims=3, scale_factor=2))
        tracer = self.tracer(class_labels)[..., None, None, None]
        return logits + (tracer * features).sum(1, keepdim=True)
