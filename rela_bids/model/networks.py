"""The denoisers and the discriminators, built from their configuration.

Every denoiser has ``forward(x, timesteps, class_labels)`` with x (B, 3, X, Y, Z): noisy PET, T1w,
FLAIR; and the same in two parts, so that what depends on the MRI alone is computed once:
``denoise(noisy, encode(mri), timesteps, class_labels)``. timesteps and class_labels are (B,) int64.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from monai.networks.blocks import SubpixelUpsample
from monai.networks.nets import DiffusionModelUNet, PatchDiscriminator
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUNetResnetBlock,
    get_timestep_embedding,
)
from monai.networks.utils import pixelunshuffle
from torch import Tensor, nn

from rela_bids.model.presets import DiscriminatorConfig, NetworkConfig

Features = tuple[Tensor, ...]


def build_denoiser(config: NetworkConfig, n_tracers: int) -> nn.Module:
    """An untrained denoiser.

    ``forward(x (B, 3, X, Y, Z), timesteps, class_labels)`` gives its prediction, (B, 1, X, Y, Z);
    ``encode(mri (B, 2, X, Y, Z))`` and ``denoise(noisy (B, 1, X, Y, Z), features, timesteps,
    class_labels)`` are its two parts. X, Y and Z are multiples of ``config.stride``.
    """
    classes = max(config.min_classes, n_tracers)
    if config.architecture == "published":
        return PublishedDenoiser(config, classes)
    return TwoStreamDenoiser(config, classes)


def build_discriminator(config: DiscriminatorConfig, n_tracers: int) -> nn.Module:
    """An untrained discriminator.

    ``forward(pet (B, 1, X, Y, Z), mri (B, 2, X, Y, Z), class_labels)`` gives logits by patch,
    (B, 1, x, y, z).
    """
    if config.architecture == "published":
        return PublishedDiscriminator(config)
    return ConditionalDiscriminator(config, n_tracers)


class PublishedDenoiser(DiffusionModelUNet):
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

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        """The predicted noise, (B, 1, X, Y, Z)."""
        return super().forward(x, timesteps, class_labels=class_labels)

    def encode(self, mri: Tensor) -> Features:
        """The MRI as it is: this network has no part that depends on the MRI alone."""
        return (mri,)

    def denoise(
        self, noisy: Tensor, features: Features, timesteps: Tensor, class_labels: Tensor
    ) -> Tensor:
        """The second part of `forward`."""
        return self(torch.cat((noisy, *features), dim=1), timesteps, class_labels)


class ResidualBlock(nn.Module):
    """Two convolutions, shifted and scaled by an embedding, without any normalisation.

    The level of uptake is what PET is about, and a group norm over the volume takes it out: with
    MONAI's blocks here, the network did not learn to read the level off the noisy PET even where
    there was little noise. The second convolution starts from zero, which keeps training stable.
    """

    def __init__(self, width: int, embedding: int) -> None:
        """A block that starts as the identity."""
        super().__init__()
        self.conv1 = nn.Conv3d(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """The block on h, (B, width, x, y, z), with an embedding (B, embedding)."""
        scale, shift = self.modulation(F.silu(embedding))[..., None, None, None].chunk(2, dim=1)
        residual = self.conv1(F.silu(h)) * (1.0 + scale) + shift
        return h + self.conv2(F.silu(residual))


class ResidualBlocks(nn.ModuleList):
    """Blocks of one width, one after another."""

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """All blocks, see `ResidualBlock`."""
        for block in self:
            h = block(h, embedding)
        return h


class TwoStreamDenoiser(nn.Module):
    """The `fast` preset's: MRI and noisy PET each have a stream, and all work is at half the grid.

    Space-to-depth turns 2 x 2 x 2 voxels into channels. The MRI's stream, computed once, does most
    of the work; its features are added to those of the PET at every level. Position in the template
    is an input, since all brains are aligned to it. An MRI channel that is zero everywhere is a
    missing one, and the stream is told.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        """Both streams, and the way out."""
        super().__init__()
        widths, n = config.channels, config.res_blocks
        self.timestep_width = widths[0]
        embedding = 4 * widths[0]

        def levels(widths: tuple[int, ...]) -> nn.ModuleList:
            return nn.ModuleList(
                ResidualBlocks(ResidualBlock(width, embedding) for _ in range(n))
                for width in widths
            )

        def normalised_levels(widths: tuple[int, ...]) -> nn.ModuleList:
            # The MRI's intensities have no unit, so that nothing is lost.
            return nn.ModuleList(
                ResidualBlocks(
                    DiffusionUNetResnetBlock(
                        spatial_dims=3,
                        in_channels=width,
                        temb_channels=embedding,
                        out_channels=width,
                        norm_num_groups=config.norm_groups,
                    )
                    for _ in range(n)
                )
                for width in widths
            )

        self.presence = nn.Embedding(4, embedding)
        self.mri_in = nn.Conv3d(2 * 8 + 3, widths[0], 3, padding=1)
        self.mri_down = _halvings(widths)
        self.mri_levels = normalised_levels(widths)

        self.timestep = nn.Sequential(
            nn.Linear(widths[0], embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.tracer = nn.Embedding(n_classes, embedding)
        # Of unit variance, as the tracer's embedding is, which would else drown it: how far the
        # noisy PET is to be believed depends on the timestep above all.
        for layer in (self.timestep[0], self.timestep[2]):
            nn.init.kaiming_normal_(layer.weight)
        self.pet_in = nn.Conv3d(8, widths[0], 1)
        self.usual_uptake = UsualUptake(n_classes)
        self.smoothed = SmoothedSkip(len(widths) + 1, embedding)
        self.pet_down = _halvings(widths)
        self.pet_levels = levels(widths[1:])
        self.narrow = nn.ModuleList(
            nn.Conv3d(coarse, fine, 3, padding=1) for fine, coarse in pairwise(widths)
        )
        self.pet_up = levels(widths[:-1])
        # Depth-to-space alone leaves a 2 x 2 x 2 checkerboard; the initialisation and the moving
        # average of Aitken et al. 2017 take it away, and the last convolution sharpens.
        self.out = nn.Sequential(
            SubpixelUpsample(spatial_dims=3, in_channels=widths[0], out_channels=4),
            nn.SiLU(),
            nn.Conv3d(4, 1, 3, padding=1),
        )

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        """The prediction, (B, 1, X, Y, Z)."""
        return self.denoise(x[:, :1], self.encode(x[:, 1:]), timesteps, class_labels)

    def encode(self, mri: Tensor) -> Features:
        """Features of the MRI, (B, width, X / 2, Y / 2, Z / 2) and coarser, one for each level."""
        present = (mri != 0).flatten(2).any(2).long()
        embedding = self.presence(present[:, 0] + 2 * present[:, 1])
        h = pixelunshuffle(mri, spatial_dims=3, scale_factor=2)
        h = self.mri_levels[0](self.mri_in(torch.cat((h, _position(h)), dim=1)), embedding)
        features = [h]
        for down, blocks in zip(self.mri_down, self.mri_levels[1:], strict=True):
            features.append(blocks(down(features[-1]), embedding))
        return tuple(features)

    def denoise(
        self, noisy: Tensor, features: Features, timesteps: Tensor, class_labels: Tensor
    ) -> Tensor:
        """The second part of `forward`, from the noisy PET, (B, 1, X, Y, Z)."""
        waves = get_timestep_embedding(timesteps, self.timestep_width).to(noisy.dtype)
        embedding = self.timestep(waves) + self.tracer(class_labels)
        h = self.pet_in(pixelunshuffle(noisy, spatial_dims=3, scale_factor=2)) + features[0]
        skips = [h]
        for down, blocks, feature in zip(self.pet_down, self.pet_levels, features[1:], strict=True):
            h = blocks(down(h) + feature, embedding)
            skips.append(h)
        for level in range(len(self.pet_up) - 1, -1, -1):
            h = F.interpolate(self.narrow[level](h), scale_factor=2, mode="trilinear")
            h = self.pet_up[level](h + skips[level], embedding)
        usual = self.usual_uptake(class_labels, noisy.shape[2:])
        return self.out(h) + self.smoothed(noisy, embedding) + usual


class UsualUptake(nn.Module):
    """A coarse map of each tracer's uptake, which all brains share, being aligned to the template.

    What is left to the rest of the network is how a person differs from it. Of equal training, it
    saves the time until the prediction is as near to the truth as the mean training PET is.
    """

    SHAPE = (10, 12, 10)
    # Adam moves every weight at the same pace; a map has further to go than a convolution.
    PACE = 8.0

    def __init__(self, n_classes: int) -> None:
        """Start from no map at all."""
        super().__init__()
        self.maps = nn.Parameter(torch.zeros(n_classes, 1, *self.SHAPE))

    def forward(self, class_labels: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The maps of tracers, (B,), on a grid of `shape`, (B, 1, X, Y, Z)."""
        maps = self.PACE * self.maps[class_labels]
        return F.interpolate(maps, size=shape, mode="trilinear", align_corners=True)


class SmoothedSkip(nn.Module):
    """What a linear filter makes of the noisy PET: a sum over scales, weighted by the timestep.

    The clean prediction leans on the noisy PET more the less noise there is, and more on what is
    smooth than on what is fine. Without this short way through, the network takes thousands of
    steps to look at the noisy PET at all, and until then all samples are the same.
    """

    def __init__(self, scales: int, embedding: int) -> None:
        """Start from no skip at all."""
        super().__init__()
        self.weights = nn.Linear(embedding, scales)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def forward(self, noisy: Tensor, embedding: Tensor) -> Tensor:
        """Filter `noisy`, (B, 1, X, Y, Z)."""
        weights = self.weights(F.silu(embedding)).unbind(1)
        pyramid = [noisy]
        for _ in weights[1:]:
            pyramid.append(F.avg_pool3d(pyramid[-1], 2))
        total = torch.zeros_like(pyramid[-1])
        for weight, scale in zip(reversed(weights), reversed(pyramid), strict=True):
            if total.shape != scale.shape:
                total = F.interpolate(total, scale_factor=2, mode="trilinear")
            total = total + weight[:, None, None, None, None] * scale
        return total


def _halvings(widths: tuple[int, ...]) -> nn.ModuleList:
    """Convolutions of stride 2, each from one level to the next."""
    return nn.ModuleList(
        nn.Conv3d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
    )


def _position(like: Tensor) -> Tensor:
    """Coordinates from -1 to 1 along each axis of the grid, (B, 3, x, y, z)."""
    axes = [torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in like.shape[2:]]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return position.expand(like.shape[0], -1, -1, -1, -1)


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

    def forward(self, pet: Tensor, mri: Tensor, class_labels: Tensor) -> Tensor:
        """Logits by patch; MRI and tracer are not looked at."""
        return super().forward(pet)[-1]


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
            norm=None,
            bias=True,
            last_conv_kernel_size=1,
        )
        self.tracer = nn.Embedding(n_tracers, config.channels * 2**config.layers)
        nn.init.normal_(self.tracer.weight, std=0.02)

    def forward(self, pet: Tensor, mri: Tensor, class_labels: Tensor) -> Tensor:
        """Logits by patch, (B, 1, x, y, z)."""
        images = torch.cat((pet, mri), dim=1)
        *_, features, logits = self.patches(pixelunshuffle(images, spatial_dims=3, scale_factor=2))
        tracer = self.tracer(class_labels)[..., None, None, None]
        return logits + (tracer * features).sum(1, keepdim=True)
