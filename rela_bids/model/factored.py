"""The denoiser of `fast`: fine tissue from the MRI, coarse uptake from the noisy PET."""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUNetResnetBlock,
    get_timestep_embedding,
)
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from rela_bids.model.denoiser import Denoiser, Features
from rela_bids.model.presets import NetworkConfig


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
        residual: Tensor = self.conv2(F.silu(self.conv1(F.silu(h)) * (1.0 + scale) + shift))
        return h + residual


class Blocks(nn.ModuleList):
    """Blocks of one width, one after another."""

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """All blocks on h, (B, width, x, y, z), with an embedding (B, embedding)."""
        for block in self:
            h = block(h, embedding)
        return h


class FactoredDenoiser(Denoiser):
    """PET is tissue times uptake: the one is fine and seen in MRI, the other is coarse.

    A core, a U-Net with a stream for the MRI and one for the noisy PET, sees the volumes as they
    are, or where there is a refinement averaged over 2 x 2 x 2 voxels: then it can be trained on
    coarse volumes first. Outside the brain, where the MRI is zero, the PET is `OUTSIDE`, without
    any learning.
    """

    OUTSIDE = -1.0

    def __init__(
        self, config: NetworkConfig, n_classes: int, *, predicts_noise: bool = False
    ) -> None:
        """The core, and what refines it; noise is predicted outside the brain too."""
        super().__init__()
        self.predicts_noise = predicts_noise
        self.core = Core(config, n_classes)
        self.refinement = Refinement(config) if config.refined else None

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        """Predictions, (B, K, X, Y, Z), from x (B, K + 2, X, Y, Z): K noisy PET, T1w and FLAIR.

        The MRI is encoded once for all K.
        """
        noisy, mri = x[:, :-2], x[:, -2:]
        k = noisy.shape[1]
        features = tuple(f.repeat_interleave(k, dim=0) for f in self.encode(mri))
        timesteps, class_labels = (v.repeat_interleave(k) for v in (timesteps, class_labels))
        return self.denoise(
            noisy.flatten(0, 1).unsqueeze(1), features, timesteps, class_labels
        ).view(noisy.shape)

    def encode(self, mri: Tensor) -> Features:
        """What depends on the MRI, (B, 2, X, Y, Z), alone.

        Where the brain is, (B, 1, X, Y, Z); with a refinement, tissue, (B, width, X / 2, Y / 2,
        Z / 2); and what `Core.encode` gives.
        """
        # Closed, since a voxel of the brain may be zero by chance.
        brain = F.max_pool3d((mri != 0).any(1, keepdim=True).to(mri.dtype), 3, 1, 1)
        brain = -F.max_pool3d(-brain, 3, 1, 1)
        if self.refinement is None:
            return (brain, *self.core.encode(mri))
        tissue = self.refinement.encode(mri)
        coarse = F.avg_pool3d(mri, 2) * (F.avg_pool3d(brain, 2) > HALF)
        return (brain, tissue, *self.core.encode(coarse))

    def denoise(
        self, noisy: Tensor, features: Features, timesteps: Tensor, class_labels: Tensor
    ) -> Tensor:
        """The second part of `forward`, from the noisy PET, (B, 1, X, Y, Z)."""
        brain, *rest = features
        if self.refinement is None:
            _, pet = self.core.denoise(noisy, tuple(rest), timesteps, class_labels)
        else:
            tissue, *coarse = rest
            averaged = F.avg_pool3d(noisy, 2)
            hidden, pet = self.core.denoise(averaged, tuple(coarse), timesteps, class_labels)
            pet = self.refinement(noisy, tissue, hidden, pet)
        if self.predicts_noise:
            return pet
        return torch.lerp(torch.full_like(pet, self.OUTSIDE), pet, brain)


# Of a block's voxels, so many are brain in a block that is.
HALF = 0.5


class Core(nn.Module):
    """The U-Net, behind a space-to-depth front end.

    The MRI's stream begins at half the grid and does most of the work, once per session. The noisy
    PET's begins at a quarter; what comes out of it scales and shifts the finest features of the
    MRI. Both streams tell the rest of the network what they hold on average, since burden is a
    property of the whole brain, and convolutions would take long to carry it from one end to the
    other. Position in the template is an input, since all brains are aligned to it. An MRI channel
    that is zero everywhere is a missing one, and the stream is told.
    """

    def __init__(self, config: NetworkConfig, n_classes: int) -> None:
        """Both streams, and the way out."""
        super().__init__()
        widths, n = config.channels, config.res_blocks
        embedding = 4 * widths[0]
        self.timestep_width = widths[0]
        fine, *coarse = widths

        def mri_blocks(width: int) -> Blocks:
            # The MRI's intensities have no unit, so that a norm loses nothing.
            return Blocks(
                DiffusionUNetResnetBlock(
                    spatial_dims=3,
                    in_channels=width,
                    temb_channels=embedding,
                    out_channels=width,
                    norm_num_groups=config.norm_groups,
                )
                for _ in range(n)
            )

        def pet_blocks(width: int) -> Blocks:
            return Blocks(ResidualBlock(width, embedding) for _ in range(n))

        self.presence = nn.Embedding(4, embedding)
        self.mri_in = nn.Conv3d(2 * 8 + 3, fine, 3, padding=1)
        self.mri_down = _halvings(widths)
        self.mri_levels = nn.ModuleList(mri_blocks(width) for width in widths)
        self.summary = _perceptron(sum(widths), embedding)

        self.timestep = _perceptron(fine, embedding)
        self.tracer = nn.Embedding(n_classes, embedding)
        # Of unit variance, as the tracer's embedding is, which would else drown it: how far the
        # noisy PET is to be believed depends on the timestep above all.
        for layer in self.timestep:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        self.pet_in = nn.Conv3d(64, coarse[0], 1)
        self.pet_down = _halvings(tuple(coarse))
        self.pet_levels = nn.ModuleList(pet_blocks(width) for width in coarse)
        self.context = _perceptron(coarse[-1], embedding)
        self.narrow = nn.ModuleList(
            nn.Conv3d(below, above, 3, padding=1) for above, below in pairwise(coarse)
        )
        self.pet_up = nn.ModuleList(pet_blocks(width) for width in coarse[:-1])
        self.uptake = nn.Conv3d(coarse[0], 2 * fine, 3, padding=1)
        self.grain = nn.Conv3d(8, fine, 1)
        # All samples are the same to begin with: they spread as far as it makes them better.
        nn.init.zeros_(self.pet_in.weight)
        nn.init.zeros_(self.grain.weight)
        self.sharpen = ResidualBlock(fine, embedding)
        self.usual_uptake = UsualUptake(n_classes)
        self.smoothed = SmoothedSkip(len(widths) + 1, embedding)
        self.out = ToVoxels(fine)

    def encode(self, mri: Tensor) -> Features:
        """Features of the MRI.

        (B, width, X / 2, Y / 2, Z / 2) and coarser, one for each level; and last their summary,
        (B, embedding).
        """
        present = (mri != 0).flatten(2).any(2).long()
        embedding = self.presence(present[:, 0] + 2 * present[:, 1])
        h = self.mri_levels[0](self.mri_in(_blocks_with_position(mri)), embedding)
        features = [h]
        for down, blocks in zip(self.mri_down, self.mri_levels[1:], strict=True):
            features.append(blocks(down(features[-1]), embedding))
        averages = torch.cat([F.silu(f).mean((2, 3, 4)) for f in features], dim=1)
        return (*features, self.summary(averages) + embedding)

    def denoise(
        self, noisy: Tensor, features: Features, timesteps: Tensor, class_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The last features, (B, width, X / 2, Y / 2, Z / 2), and the PET, (B, 1, X, Y, Z)."""
        fine, *coarse, summary = features
        waves = get_timestep_embedding(timesteps, self.timestep_width).to(noisy.dtype)
        embedding = self.timestep(waves) + self.tracer(class_labels) + summary
        h = self.pet_in(pixelunshuffle(noisy, spatial_dims=3, scale_factor=4)) + coarse[0]
        h = self.pet_levels[0](h, embedding)
        skips = [h]
        for down, blocks, feature in zip(
            self.pet_down, self.pet_levels[1:], coarse[1:], strict=True
        ):
            h = blocks(down(h) + feature, embedding)
            skips.append(h)
        embedding = embedding + self.context(F.silu(h).mean((2, 3, 4)))
        for level in range(len(self.pet_up) - 1, -1, -1):
            size = skips[level].shape[2:]
            h = F.interpolate(self.narrow[level](h), size, mode="trilinear")
            h = self.pet_up[level](h + skips[level], embedding)
        uptake = F.interpolate(self.uptake(F.silu(h)), scale_factor=2, mode="trilinear")
        scale, shift = uptake.chunk(2, dim=1)
        h = fine * (1.0 + scale) + shift
        h = h + self.grain(pixelunshuffle(noisy, spatial_dims=3, scale_factor=2))
        h = F.silu(self.sharpen(h, embedding))
        usual = self.usual_uptake(class_labels, noisy.shape[2:])
        return h, self.out(h) + self.smoothed(noisy, embedding) + usual


class Refinement(nn.Module):
    """What volumes averaged over 2 x 2 x 2 voxels leave out, from the MRI at full resolution.

    It begins as no more than an interpolation of what the core has made.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Tissue from the MRI, scaled and shifted by the core's features."""
        super().__init__()
        width = config.channels[0]
        self.mri_in = nn.Conv3d(2 * 8 + 3, width, 3, padding=1)
        self.norm = nn.GroupNorm(config.norm_groups, width)
        self.mri_conv = nn.Conv3d(width, width, 3, padding=1)
        self.uptake = nn.Conv3d(width, 2 * width, 1)
        self.grain = nn.Conv3d(8, width, 1)
        nn.init.zeros_(self.grain.weight)
        self.mix = nn.Conv3d(width, width, 3, padding=1)
        self.out = ToVoxels(width)

    def encode(self, mri: Tensor) -> Tensor:
        """Tissue, (B, width, X / 2, Y / 2, Z / 2)."""
        h: Tensor = self.mri_in(_blocks_with_position(mri))
        return h + self.mri_conv(F.silu(self.norm(h)))

    def forward(self, noisy: Tensor, tissue: Tensor, hidden: Tensor, coarse: Tensor) -> Tensor:
        """The PET, (B, 1, X, Y, Z), from that of the core, half as fine, and its features."""
        uptake = F.interpolate(self.uptake(hidden), scale_factor=2, mode="trilinear")
        scale, shift = uptake.chunk(2, dim=1)
        h = tissue * (1.0 + scale) + shift
        h = h + self.grain(pixelunshuffle(noisy, spatial_dims=3, scale_factor=2))
        h = h + self.mix(F.silu(h))
        pet: Tensor = self.out(F.silu(h), coarse)
        return pet


class ToVoxels(nn.Module):
    """Each block's features to its 2 x 2 x 2 voxels.

    Depth-to-space alone leaves a checkerboard (Aitken et al. 2017, arXiv 1707.02937). Smoothing by
    (1, 2, 1) / 4 along each axis, which PET's own resolution hides, takes away just that; of one
    value for all voxels of a block, it makes trilinear interpolation.
    """

    def __init__(self, width: int) -> None:
        """Start from nothing."""
        super().__init__()
        self.conv = nn.Conv3d(width, 8, 3, padding=1)
        for weight in self.conv.parameters():
            nn.init.zeros_(weight)

    def forward(self, h: Tensor, blocks: Tensor | float = 0.0) -> Tensor:
        """h, (B, width, x, y, z), to (B, 1, 2 x, 2 y, 2 z), onto `blocks`, (B, 1, x, y, z)."""
        voxels = pixelshuffle(self.conv(h) + blocks, spatial_dims=3, scale_factor=2)
        padded = F.pad(voxels, (1,) * 6, mode="replicate")
        return F.avg_pool3d(F.avg_pool3d(padded, 2, 1), 2, 1)


class UsualUptake(nn.Module):
    """A coarse map of each tracer's uptake, which all brains share, being aligned to the template.

    Training begins from the mean PET, see `begin`, so that what is left to the rest of the network
    is how a person differs from it.
    """

    SHAPE = (20, 24, 20)

    def __init__(self, n_classes: int) -> None:
        """Start from no map at all."""
        super().__init__()
        self.maps = nn.Parameter(torch.zeros(n_classes, 1, *self.SHAPE))

    def begin(self, mean_pet: Tensor) -> None:
        """Start from maps on any grid, (classes, 1, X, Y, Z), in the network's range."""
        with torch.no_grad():
            coarse = F.interpolate(mean_pet, self.SHAPE, mode="trilinear", align_corners=True)
            self.maps[: len(coarse)] = coarse

    def forward(self, class_labels: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The maps of tracers, (B,), on a grid of `shape`, (B, 1, X, Y, Z)."""
        maps = self.maps[class_labels]
        return F.interpolate(maps, size=shape, mode="trilinear", align_corners=True)


def halved(volumes: Tensor) -> Tensor:
    """Means over 2 x 2 x 2 voxels, fewer at the far border; an axis of one voxel stays as it is."""
    block = tuple(min(2, n) for n in volumes.shape[2:])
    return F.avg_pool3d(volumes, block, ceil_mode=True)


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
            pyramid.append(halved(pyramid[-1]))
        total = torch.zeros_like(pyramid[-1])
        for weight, scale in zip(reversed(weights), reversed(pyramid), strict=True):
            if total.shape != scale.shape:
                total = F.interpolate(total, scale.shape[2:], mode="trilinear")
            total = total + weight[:, None, None, None, None] * scale
        return total


def _perceptron(width: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))


def _halvings(widths: tuple[int, ...]) -> nn.ModuleList:
    """Convolutions of stride 2, each from one level to the next."""
    return nn.ModuleList(
        nn.Conv3d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
    )


def _blocks_with_position(mri: Tensor) -> Tensor:
    """2 x 2 x 2 voxels as channels, and the place in the grid, (B, 2 * 8 + 3, x, y, z)."""
    blocks = pixelunshuffle(mri, spatial_dims=3, scale_factor=2)
    return torch.cat((blocks, _position(blocks)), dim=1)


def _position(like: Tensor) -> Tensor:
    """Coordinates from -1 to 1 along each axis of the grid, (B, 3, x, y, z)."""
    axes = [torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in like.shape[2:]]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return position.expand(like.shape[0], -1, -1, -1, -1)
