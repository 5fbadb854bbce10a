"""What every denoiser is: a network in two parts, the first of which depends on the MRI alone."""

from torch import Tensor, nn

Features = tuple[Tensor, ...]


class Denoiser(nn.Module):
    """``forward(x, timesteps, class_labels)`` is `denoise` after `encode`; see `networks`."""

    def encode(self, mri: Tensor) -> Features:
        """What depends on the MRI, (B, 2, X, Y, Z), alone."""
        raise NotImplementedError

    def denoise(
        self, noisy: Tensor, features: Features, timesteps: Tensor, class_labels: Tensor
    ) -> Tensor:
        """The prediction, (B, 1, X, Y, Z), from the noisy PET, of the same shape."""
        raise NotImplementedError
